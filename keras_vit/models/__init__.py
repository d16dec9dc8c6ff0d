"""The model families, one per file, each with its variants."""
