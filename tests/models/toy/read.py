"""What tensors and configurations say of a toy."""

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.configs import Description
from keras_vit.checkpoints.tables import as_tuple

SAID_TWICE = ("width", "depth", "num_classes")
ARITHMETIC = frozenset({"num_heads"})
DESCRIBED = frozenset()
ASKED = ("num_heads", "image_size")
GUESSED = ()
FIRST_CONVOLUTION = "patch_embedding/projection/kernel"
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
EFFECTS = {"num_classes": r"head/.*", "depth": r"block\d+/.*"}


def infer(matched, tensors):
    """The arguments that the tensors' shapes say."""
    found = {"depth": 0, "num_classes": None}
    for (row, number), sources in matched.found.items():
        target, shape = as_tuple(row.targets)[0], tensors[next(iter(sources.values()))].shape
        if number is not None:
            found["depth"] = max(found["depth"], int(number) + 1)
        if target == "head/dense/bias":
            (found["num_classes"],) = shape
        if target == FIRST_CONVOLUTION and row.layout == "convolution":
            found["width"], found["num_channels"], *patch_size = shape
            found["patch_size"] = tuple(patch_size)
        if target == FIRST_CONVOLUTION and row.layout == "plain":
            *patch_size, found["num_channels"], found["width"] = shape
            found["patch_size"] = tuple(patch_size)
    return found


def describe(config, processor=None, name=""):
    """What the other library's config.json says."""
    arguments = {"num_heads": config["heads"], "image_size": tuple(config["size"])}
    return Description(arguments, None, None)


def complete(inferred, description, overrides, name):
    """Arguments of `ToyTransformer`."""
    return {**inferred, **(description.arguments if description else {})}


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    return layouts.Facts(
        arguments["patch_size"], arguments["num_channels"], arguments["num_heads"], 0, None
    )
