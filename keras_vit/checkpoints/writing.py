"""Writes models for other libraries: arrays under their names, configurations."""

import itertools
import json

import numpy as np
from keras import ops

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.pictures.write import preprocessor_to_timm, processor_for_transformers
from keras_vit.checkpoints.readers.safetensors import SAFETENSORS_DTYPES
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.models.adapted import has_lora
from keras_vit.models.frozen import named_layers


def values_of(model):
    """dict of path to float32 array: the model's weights, low-rank updates added to theirs.

    Raises:
        CheckpointError: for a quantised model.
    """
    weights = {w.path: w for w in model.weights if "seed_generator" not in w.path}
    for path, layer in named_layers(model).items():
        if layer.quantization_mode is not None:
            raise CheckpointError(
                "Other libraries' files hold floating-point weights; use format='keras' for a "
                f"quantised model. Received: {path} in {layer.quantization_mode}"
            )
        if has_lora(layer):
            weights[layer._kernel.path] = layer.kernel
            del weights[layer.lora_kernel_a.path], weights[layer.lora_kernel_b.path]
    return {path: ops.convert_to_numpy(ops.cast(x, "float32")) for path, x in weights.items()}


def arrays_of(values, table, facts):
    """Converts weights to the names and layouts of a table: {name: array}.

    Args:
        values: dict of path to array, all of which must find a name.
        table: `Names`.
        facts: `layouts.Facts` of the model, or `layouts.StageFacts`.

    Raises:
        CheckpointError: where the table has no name for a weight.
    """
    written, arrays = set(), {}
    for row in table.rows:
        sources, targets = as_tuple(row.sources), as_tuple(row.targets)
        for i in itertools.count() if "{i}" in targets[0] else (None,):
            paths = [t if i is None else t.replace("{i}", f"{i:02d}") for t in targets]
            paths = [path for path in paths if path in values]
            if not paths:
                break  # the blocks of a stage are all alike
            names = [s if i is None else s.replace("{i}", str(i)) for s in sources]
            found = [values[path] for path in paths]
            made = layouts.write(row.layout, found, len(names), facts.at(paths[0]))
            for name, array in zip(names, made, strict=True):
                if array is not None:
                    arrays[name] = array
            written.update(paths)
    left = sorted(set(values) - written)
    if left:
        raise CheckpointError(f"{table.name} has no names for these weights. Received: {left}")
    return arrays


def write_transformers(model, folder, fields, arrays):
    """Writes the folder of a model as transformers opens it.

    Args:
        model: the model.
        folder: `Path` of an empty folder.
        fields: dict of `config.json`, without the names of the classes.
        arrays: dict of name to array; within a classifier all but its heads get the prefix of the
            model inside.
    """
    config, prefix = model.get_config(), ""
    if config.get("num_classes") is not None:
        labels = config["class_names"] or [f"LABEL_{i}" for i in range(config["num_classes"])]
        fields = {
            **fields,
            "id2label": {str(i): name for i, name in enumerate(labels)},
            "label2id": {name: i for i, name in enumerate(labels)},
        }
        prefix = f"{fields['model_type']}."
    _write_json(folder / "config.json", {**fields, "dtype": "float32"})
    if model.preprocessor is not None:
        processor = processor_for_transformers(model.preprocessor)
        _write_json(folder / "preprocessor_config.json", processor)
    arrays = {x if "classifier" in x else prefix + x: array for x, array in arrays.items()}
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def write_timm(
    model,
    folder,
    arrays,
    *,
    architecture,
    arguments,
    pool,
    features,
    image_size,
    classifier="head",
    first_conv="patch_embed.proj",
):
    """Writes the folder of a model as timm opens it.

    Args:
        model: the model.
        folder: `Path` of an empty folder.
        arrays: dict of name to array.
        architecture, pool, classifier, first_conv: str, timm's names.
        arguments: dict, the model_args.
        features: int, what the head reads.
        image_size: (H, W) in pixels.
    """
    config = model.get_config()
    classes = config["num_classes"] or 0
    fields = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": features,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "num_classes": classes,
            "input_size": [config["num_channels"], *image_size],
            "first_conv": first_conv,
            "classifier": classifier,
        },
    }
    if config["class_names"]:
        fields["label_names"] = list(config["class_names"])
    if model.preprocessor is not None:
        fields["pretrained_cfg"].update(preprocessor_to_timm(model.preprocessor))
    _write_json(folder / "config.json", fields)
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def _write_json(path, fields):
    path.write_text(json.dumps(fields, indent=2) + "\n", "utf-8")


def write_safetensors(path, arrays, metadata):
    """Writes arrays as `.safetensors`: a JSON header, then the data in the order of the names."""
    codes = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
    header, offset = {"__metadata__": metadata}, 0
    for name in sorted(arrays):
        array = arrays[name]
        end = offset + array.nbytes
        header[name] = {
            "dtype": codes[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight bytes
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(arrays):
            file.write(np.ascontiguousarray(arrays[name]).tobytes())
