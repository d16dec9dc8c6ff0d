"""How other libraries prepare pictures, read from their files and written for them."""
