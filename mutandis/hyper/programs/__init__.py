"""How a program becomes a space: its decisions found, compiled into a template, and read back from children."""
