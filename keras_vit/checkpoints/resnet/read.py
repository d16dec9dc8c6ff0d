"""Infers a ResNet from tensors and configuration."""

import re

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.arguments import add_preprocessing
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.resnet.fields import describe as describe
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.untrusted import brief

# What tensors and another library's configuration both say; they must agree.
MUST_AGREE = ("depths", "widths", "stem_width", "block", "num_channels", "num_classes")

# What a `.keras` file's configuration and its weights both say; they must agree.
SAID_TWICE = ("depths", "widths", "stem_width", "block", "num_classes")
# Nothing else decides what the tensors compute but dilation, which a model may have or not.
ARITHMETIC, DESCRIBED = frozenset(), frozenset()
ASKED, GUESSED = ("image_size",), ("image_size",)
FIRST_CONVOLUTION = "stem/conv/kernel"  # which reads the pixels
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
# Which weights an argument that the caller changed may leave out or begin anew.
EFFECTS = {"num_classes": r"head/.*", "depths": r"stage\d_block\d+/.*"}
_STAGE = re.compile(r"stage(\d)_block\{i\}/(\w+/kernel)")


def infer(matched, tensors):
    """What the tensors say of the model: constructor arguments of `ResNet`.

    Args:
        matched: `Match`.
        tensors: dict of name to `Tensor`.

    Returns:
        dict. Dilation and the size of images are not in it, because no tensor shows them.

    Raises:
        CheckpointError: for shapes that are not those of a ResNet.
    """
    last = matched.table.name == "keras"  # where the outputs of a kernel are
    outputs, depths, found = {}, {}, {}
    for (row, number), sources in matched.found.items():
        target = as_tuple(row.targets)[0]
        shape = tensors[next(iter(sources.values()))].shape
        stage = _STAGE.match(target)
        if stage and len(shape) == 4:
            s = int(stage[1])
            depths[s] = max(depths.get(s, 0), int(number) + 1)
            outputs.setdefault((s, stage[2]), shape[-1 if last else 0])
        elif target == FIRST_CONVOLUTION and len(shape) == 4:
            found["stem_width"] = shape[-1 if last else 0]
            found["num_channels"] = shape[-2 if last else 1]
        elif target == "head/dense/kernel":
            found["num_classes"] = shape[-1 if last else 0]
    stages = range(len(depths))
    last_conv = "conv3/kernel" if (0, "conv3/kernel") in outputs else "conv2/kernel"
    if sorted(depths) != list(stages) or any((s, last_conv) not in outputs for s in stages):
        raise CheckpointError(
            f"The tensors are not those of a ResNet with names of {matched.table.name}. Received: "
            f"stages {sorted(depths)}, convolutions {sorted(outputs)[:9]}"
        )
    return {
        "num_classes": None,
        **found,
        "depths": tuple(depths[s] for s in stages),
        "widths": tuple(outputs[s, last_conv] for s in stages),
        "block": "bottleneck" if last_conv == "conv3/kernel" else "basic",
    }


def complete(inferred, description, overrides, name):
    """Constructor arguments from what tensors, configuration and caller say.

    Args:
        inferred: dict, what the tensors say (`infer`).
        description: `Description` of the source's configuration, or None.
        overrides: dict of the caller's arguments, read where the source is silent.
        name: str, the source, for errors.

    Returns:
        dict with every argument that concerns the architecture, as the source has it.

    Raises:
        CheckpointError: where tensors and configuration contradict each other.
    """
    said = {
        k: v for k, v in (description.arguments if description else {}).items() if v is not None
    }
    for key in MUST_AGREE:
        if said.get(key, inferred[key]) != inferred[key]:
            raise CheckpointError(
                f"The configuration and the tensors of {name} contradict each other. Expected: "
                f"{key}={inferred[key]!r}, as the tensors have it. "
                f"Received: {key}={brief(said[key])}"
            )
    found = {**said, **inferred}
    size = found.get("image_size") or overrides.get("image_size") or 224
    found["image_size"] = (size, size) if isinstance(size, int) else size
    if description is not None:
        add_preprocessing(found, description, (1, 1), overrides)
    return found


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    return layouts.Facts((1, 1), arguments["num_channels"])
