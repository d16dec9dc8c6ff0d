"""python -m tests.snapshots [NAME ...]: rewrites all files, or the named ones."""

import sys

from tests import snapshots

for name in sys.argv[1:] or snapshots.NAMES:
    snapshots.file(name).write_text(snapshots.text(name), encoding="utf-8")
    print(snapshots.file(name))
