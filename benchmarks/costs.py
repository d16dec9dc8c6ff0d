"""Counts what every variant costs: `python -m benchmarks.costs` writes keras_vit/costs.csv."""

import csv

from benchmarks.common import ROOT

PATH = ROOT / "keras_vit" / "costs.csv"


def main():
    from keras_vit import listing

    with open(PATH, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("variant", "pixels", "parameters", "macs"))
        writer.writerows((name, *cost(name)) for name in listing.variants())


def cost(name):
    """(pixels, parameters, MACs) of a variant at the size of its defaults."""
    import keras

    import keras_vit
    from keras_vit.layers.initializers import no_initialization

    with no_initialization():
        model = getattr(keras_vit, name)(dtype="bfloat16")
    found = keras_vit.complexity(model)
    keras.backend.clear_session()
    return found.image_size[0], found.parameters, found.macs


if __name__ == "__main__":
    main()
