"""What a task decides about a recipe: its models, and the keys that it alone uses."""

import dataclasses

from .model_schema import MODELS, require

KINDS = ("classification", "segmentation", "detection", "masked")
CLASSIFICATION, SEGMENTATION, DETECTION, MASKED = KINDS
OF_PICTURES = (CLASSIFICATION, MASKED)

# Keys that some tasks use, and which; all others are for every task.
ONLY = {
    "data.first_label": OF_PICTURES,
    "data.interpolation": OF_PICTURES,
    "data.crop_fraction": OF_PICTURES,
    "data.palette": (SEGMENTATION,),
    "data.reduce_zero_label": (SEGMENTATION,),
    "data.fit_into": (SEGMENTATION, DETECTION),
    "data.pad_to": (DETECTION,),
    "data.raw_ids": (DETECTION,),
    **{
        f"augment.{key}": OF_PICTURES
        for key in [
            "crop_scale",
            "crop_ratio",
            "pad_crop",
            "rotate",
            "translate",
            "zoom",
            "probability",
            "randaugment",
            "color_jitter",
        ]
    },
    **{f"augment.{key}": (CLASSIFICATION,) for key in ("erasing", "mixup", "cutmix")},
    "augment.scale": (SEGMENTATION,),
    "augment.cat_max_ratio": (SEGMENTATION,),
    "augment.photometric": (SEGMENTATION, DETECTION),
    "augment.short_sides": (DETECTION,),
    "augment.crop_sides": (DETECTION,),
    "augment.crop_short_sides": (DETECTION,),
    "optimizer.backbone_rate": (SEGMENTATION, DETECTION),
    "finetune.train": (CLASSIFICATION, SEGMENTATION, DETECTION),
    "finetune.head": (CLASSIFICATION, SEGMENTATION, DETECTION),
    "train.label_smoothing": (CLASSIFICATION,),
    "train.loss": (SEGMENTATION,),
    "train.class_weights": (SEGMENTATION,),
    "train.average": (SEGMENTATION,),
    "train.no_object_weight": (DETECTION,),
    **{f"distill.{key}": (CLASSIFICATION,) for key in ("teacher", "kind", "temperature", "alpha")},
}


def default_of(table, key):
    """The default of a key of a table, an instance of its dataclass."""
    (found,) = (f for f in dataclasses.fields(table) if f.name == key)
    return (
        found.default if found.default_factory is dataclasses.MISSING else found.default_factory()
    )


def check(recipe):
    """Raises for keys that the task of a recipe does not use.

    Args:
        recipe: `Recipe`.
    """
    kind = recipe.task.kind
    for name, kinds in ONLY.items():
        if kind in kinds:
            continue
        table, key = name.split(".")
        table = getattr(recipe, table)
        default = default_of(table, key)
        require(
            getattr(table, key) == default,
            name,
            f"left out: it is for task.kind={kinds[0]!r}, and this is {kind!r}",
            getattr(table, key),
        )
    require(
        recipe.model.task in MODELS.get(kind, (None,)),
        "model.variant",
        f"a model of task.kind={kind!r}",
        recipe.model.variant,
    )
    require(
        recipe.finetune.head == "new" or kind != DETECTION,
        "finetune.head",
        f"'new' for task.kind={kind!r}",
        recipe.finetune.head,
    )
    require(
        recipe.finetune.train != "lora" or kind == CLASSIFICATION,
        "finetune.train",
        f"'all' or 'head' for task.kind={kind!r}",
        recipe.finetune.train,
    )
