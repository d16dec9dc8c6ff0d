"""Atomic writes of files."""

import os
from pathlib import Path


def replace(scratch, path):
    """Moves a complete file into place; after a crash the old or the new one is there."""
    with open(scratch, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
