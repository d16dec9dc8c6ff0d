"""Writes a `Preprocessor` as timm's settings or a transformers image processor."""

import math

from keras_vit.callers import warn
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.pictures.read import RESAMPLING


def preprocessor_to_timm(preprocessor):
    """A `Preprocessor` as fields of timm's `pretrained_cfg`."""
    _check_resizes(preprocessor, "timm's transforms")
    crop, to = preprocessor.image_size, preprocessor.resized_size
    share = preprocessor.crop_fraction
    share = share if isinstance(share, tuple) else (share,)
    one = [x for x in share if [math.floor(side / x) for side in crop] == list(to)]
    if not one:
        raise CheckpointError(
            "timm's crop_pct is one number for both sides; format='keras' keeps all. "
            f"Received: crop_fraction={preprocessor.crop_fraction}"
        )
    return {
        "input_size": [len(preprocessor.mean), *crop],
        "mean": list(preprocessor.mean),
        "std": list(preprocessor.std),
        "interpolation": preprocessor.interpolation,
        "crop_pct": one[0],
        "crop_mode": {"short_side": "center", "squash": "squash"}[preprocessor.resize],
    }


def processor_for_transformers(preprocessor):
    """A `Preprocessor` as transformers' image processors read it."""
    _check_resizes(preprocessor, "transformers' image processors")
    (h, w), to = preprocessor.image_size, preprocessor.resized_size
    fields = {
        "do_resize": True,
        "resample": {name: number for number, name in RESAMPLING.items()}[
            preprocessor.interpolation
        ],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessor.mean),
        "image_std": list(preprocessor.std),
    }
    crop = {"do_center_crop": True, "crop_size": {"height": h, "width": w}}
    if preprocessor.resize == "short_side":
        if to[0] != to[1]:
            raise CheckpointError(
                "transformers' image processors crop squares of the shorter side. Received: "
                f"image_size={(h, w)}"
            )
        kind = {"image_processor_type": "CLIPImageProcessor"}
        return {**kind, **fields, **crop, "size": {"shortest_edge": to[0]}}
    size = {"size": {"height": to[0], "width": to[1]}}
    if to == (h, w):
        return {"image_processor_type": "ViTImageProcessor", **fields, **size}
    return {"image_processor_type": "DeiTImageProcessor", **fields, **crop, **size}


def warn_of_crops(preprocessor, convention):
    """Warns where the library of this convention crops some pictures one pixel off from ours."""
    if preprocessor is None or preprocessor.convention == convention:
        return
    if preprocessor.resize == "fit":
        return  # nothing is cropped
    pairs = zip(preprocessor.resized_size, preprocessor.image_size, strict=True)
    if preprocessor.resize == "squash" and all((to - part) % 4 != 3 for to, part in pairs):
        return  # what is left over is known, and both take the same half of it
    warn(
        f"{convention} crops one pixel off from this model where 3, 7, 11 ... pixels are left: "
        "half of them is rounded to the even neighbour by timm and down by transformers. Its "
        "predictions can differ on such pictures. To have them alike give the model "
        f"preprocessor=keras_vit.Preprocessor(..., convention={convention!r}). Received: "
        f"convention={preprocessor.convention!r}"
    )


def _check_resizes(preprocessor, library):
    if preprocessor.resize is None:
        raise CheckpointError(f"{library} resize. Received: resize=None")
    if preprocessor.convention == "keras":
        raise CheckpointError(
            f"{library} resize as PIL does: give the model a keras_vit.Preprocessor(...) of theirs "
            "(preprocessor= of from_pretrained). Received: convention='keras'"
        )
