"""Processes that train one set of shared weights together."""
