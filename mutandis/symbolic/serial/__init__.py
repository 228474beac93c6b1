"""Programs as JSON documents, and the registry of names that may be built from them."""
