"""Model families: a family a file, its variants as literal rows."""
