"""SimMIM is written by Keras alone; its encoder for every library that knows it."""

WRITERS = {}
