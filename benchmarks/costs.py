"""Counts what every variant costs: `python -m benchmarks.costs` writes keras_vit/costs.csv."""

import csv

from benchmarks.common import ROOT

PATH = ROOT / "keras_vit" / "costs.csv"


def main():
    import keras

    from keras_vit.listing import count
    from keras_vit.models.registry import task_variants, variants

    with open(PATH, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("variant", "pixels", "parameters", "macs"))
        for name, family in (variants() | task_variants()).items():
            writer.writerow((name, *count(family.variants[name])))
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
