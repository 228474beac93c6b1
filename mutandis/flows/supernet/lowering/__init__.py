"""What a program's children have in common: built, compared, and cut into parts."""
