"""The program around shared modules: what it makes of them when it is built, and what must outlive a switch."""
