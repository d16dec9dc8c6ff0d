"""The command `keras-vit`, also as `python -m keras_vit`."""

import os
import sys

from keras_vit.waiting import QuietTensorFlow, wait


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, QuietTensorFlow())
    wait("keras")
    from keras_vit.cli import app

    app(prog_name="keras-vit")


if __name__ == "__main__":
    main()
