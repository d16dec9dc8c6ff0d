"""Files that are there whole or not at all."""

import os
from pathlib import Path


def replace(scratch, path):
    """Moves a complete file into place so that a crash leaves the old or the new one."""
    with open(scratch, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
