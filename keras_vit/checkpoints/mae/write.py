"""Writes an MAE for transformers, or with the names of its authors."""

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.mae import names
from keras_vit.checkpoints.mae.read import FIELDS, arguments_of
from keras_vit.checkpoints.vit.fields import HF
from keras_vit.checkpoints.writing import (
    arrays_of,
    values_of,
    write_safetensors,
    write_transformers,
)

# What neither the authors' nor transformers' code has otherwise.
_PLAIN = {
    "include_preprocessing": False,
    "position_embedding": "learned",
    "class_token": True,
    "patch_bias": True,
    "distillation_token": False,
    "num_registers": 0,
    "layer_scale": None,
    "pre_norm": False,
    "qk_norm": False,
}


def _arrays(model, table, wanted):
    """({name: array} under the names of a table, the arguments of the model)."""
    arguments = arguments_of(model)
    arguments["class_token"] = model.encoder.num_prefix_tokens > 0
    for key, value in {**_PLAIN, **wanted}.items():
        if arguments[key] != value:
            raise CheckpointError(
                "Their code cannot compute what this model does; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={arguments[key]!r}"
            )
    grid = model.get_layer("position_embedding").grid_size
    facts = layouts.Facts(
        model.encoder.patch_size,
        arguments["num_channels"],
        arguments["num_heads"],
        num_prefix_tokens=model.encoder.num_prefix_tokens,
        grid=grid,
    )
    p, q = model.encoder.patch_size
    arguments |= {
        "image_size": (grid[0] * p, grid[1] * q),
        "patch_size": (p, q),
        "decoder_mlp_dim": arguments["decoder_mlp_dim"] or 4 * arguments["decoder_width"],
    }
    return arrays_of(values_of(model), table, facts), arguments


def _write_transformers(model, folder):
    arrays, arguments = _arrays(model, names.HF_WRITTEN, {})
    if arguments["mlp"] == "swiglu":
        raise CheckpointError(
            "transformers' ViTMAEForPreTraining has no SwiGLU; format='keras' keeps all. "
            "Received: mlp='swiglu'"
        )
    fields = {
        "model_type": "vit_mae",
        "architectures": ["ViTMAEForPreTraining"],
        **write_fields(HF, arguments, "vit_mae"),
        **write_fields(FIELDS, arguments),
    }
    arrays = {x if x.startswith("decoder.") else f"vit.{x}": array for x, array in arrays.items()}
    write_transformers(model, folder, fields, arrays)


def _write_authors(model, folder):
    arrays, _ = _arrays(model, names.AUTHORS, {"mlp": "gelu", "norm_epsilon": 1e-6})
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


WRITERS = {"hf": _write_transformers, "authors": _write_authors}
