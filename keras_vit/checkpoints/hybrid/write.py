"""Writes a hybrid of CNN and Vision Transformer for timm."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.hybrid import names as tables
from keras_vit.checkpoints.hybrid.fields import TIMM
from keras_vit.checkpoints.hybrid.read import BIT_GROUPS, facts
from keras_vit.checkpoints.writing import arrays_of, values_of, write_timm

# timm's name for each ResNet, whose arguments make the transformer behind it
ARCHITECTURES = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}


def _write_timm(model, folder):
    config = model.get_config()
    depths = tuple(config["stem_depths"])
    wanted = {
        "stem": (None,),
        "stem_depths": tuple(ARCHITECTURES),
        "stem_width": (64,),
        "stem_groups": (BIT_GROUPS,),
        "convention": ("timm",),
        "mlp": ("gelu", "gelu_tanh", "quick_gelu"),
        "norm_epsilon": (1e-6,),
        "representation_size": (None,),
        "include_preprocessing": (False,),
    }
    for key, accepted in wanted.items():
        value = depths if key == "stem_depths" else config[key]
        if value not in accepted:
            raise CheckpointError(
                "timm's hybrids cannot be what this model is; format='keras' keeps all. "
                f"Expected: {key} of {accepted}. Received: {key}={value!r}"
            )
    grid = model.get_layer("position_embedding").grid_size
    size = [side * patch for side, patch in zip(grid, model.patch_size, strict=True)]
    patch_size = model.get_layer("patch_embedding").patch_size
    known = {**config, "patch_size": patch_size, "position_grid": grid}
    ratio = config["mlp_dim"] / config["width"]
    arguments = write_fields(TIMM, {**known, "image_size": size, "mlp_ratio": ratio})
    arguments["dynamic_img_size"] = config["image_size"] is None
    if config["mlp"] != "gelu":
        arguments["act_layer"] = config["mlp"]
    table = tables.TIMM_HYBRID if depths else tables.TIMM_ROOT
    write_timm(
        model,
        folder,
        arrays_of(values_of(model), table, facts(known)),
        architecture=ARCHITECTURES[depths],
        arguments=arguments,
        pool="token",
        features=config["width"],
        image_size=size,
        first_conv="patch_embed.backbone." + ("stem.conv" if depths else "conv"),
    )


def _write_transformers(model, folder):
    raise CheckpointError(
        "transformers has no hybrid any more; use format='timm'. Received: HybridVisionTransformer"
    )


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
