"""Live PyTorch objects: what survives a rebuild, layers built inside, optimizers, inheritance of weights."""
