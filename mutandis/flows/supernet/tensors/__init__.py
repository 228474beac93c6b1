"""What the shared tensors are held in, and what kernels of several sizes are made of."""
