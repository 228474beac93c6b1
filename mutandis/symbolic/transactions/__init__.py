"""Changes of a tree: planned first, then carried out as one transaction."""
