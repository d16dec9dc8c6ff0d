"""Writes a SETR with the names of its authors."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.setr import names
from keras_vit.checkpoints.setr.read import arguments_of, facts
from keras_vit.checkpoints.writing import arrays_of, values_of, write_safetensors
from keras_vit.layers.validation import as_pair


def _write_authors(model, folder):
    arguments = arguments_of(model)
    wanted = {
        "convention": "authors",
        "include_preprocessing": False,
        "mlp": "gelu",
        "norm_epsilon": 1e-6,
        "position_embedding": "learned",
    }
    for key, value in wanted.items():
        if arguments[key] != value:
            raise CheckpointError(
                "The authors' code cannot compute what this model does; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={arguments[key]!r}"
            )
    grid = model.get_layer("position_embedding").grid_size
    known = {**arguments, "patch_size": as_pair(arguments["patch_size"], "patch_size")}
    known |= {"position_grid": grid, "class_token": True, "distillation_token": False}
    table = names.AUTHORS[arguments["decoder"]]
    arrays = arrays_of(values_of(model), table, facts(known))
    outside = ("decode_head.", "auxiliary_head.")
    arrays = {
        name if name.startswith(outside) else f"backbone.{name}": x for name, x in arrays.items()
    }
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


WRITERS = {"authors": _write_authors}
