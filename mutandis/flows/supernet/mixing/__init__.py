"""Several sizes of one decision at once: masks, interpolated channels, kernels, and depths."""
