"""How classes become symbolic, and stay copyable and picklable."""
