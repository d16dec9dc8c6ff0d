"""A Swin Transformer as a folder that transformers or timm opens."""

import numpy as np
from keras import ops

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.swin import names as tables
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.writing import (
    one_or_two,
    preprocessor_to_timm,
    processor_for_transformers,
    write_json,
    write_safetensors,
)
from keras_vit.layers.windows import shift_sizes
from keras_vit.models.swin import stage_windows


def write_transformers(model, folder):
    """config.json, preprocessor_config.json and model.safetensors of transformers' Swin, Swinv2."""
    config = model.get_config()
    version, asked = config["version"], config["window_size"]
    kind = "swin" if version == 1 else "swinv2"
    _check(config, f"transformers' {kind}", "authors", ("gelu", "gelu_tanh", "quick_gelu"))
    if not isinstance(asked, int) and len(set(asked)) > 1:
        _refuse(f"transformers' {kind}", "window_size", "one for all stages", asked)
    window = asked if isinstance(asked, int) else asked[0]
    if version == 1 and set(stage_windows(config)) != {(window, window)}:
        _refuse("transformers' swin", "maps as large as a window", window, stage_windows(config))
    stages = len(config["depths"])
    fields = {
        "model_type": kind,
        "architectures": [_transformers_class(config)],
        "embed_dim": config["width"],
        "depths": list(config["depths"]),
        "num_heads": list(config["num_heads"]),
        "num_layers": stages,
        "hidden_size": config["width"] * 2 ** (stages - 1),
        "window_size": window,
        "mlp_ratio": config["mlp_ratio"],
        "image_size": one_or_two(model.input.shape[1:3]),
        "patch_size": one_or_two(model.patch_size),
        "num_channels": config["num_channels"],
        "qkv_bias": config["qkv_bias"],
        "layer_norm_eps": config["norm_epsilon"],
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(config["mlp"], config["mlp"]),
        "hidden_dropout_prob": config["dropout_rate"],
        "attention_probs_dropout_prob": config["attention_dropout_rate"],
        "drop_path_rate": config["drop_path_rate"],
        "use_absolute_embeddings": False,
        "dtype": "float32",
    }
    if version == 2:
        fields["pretrained_window_sizes"] = _pretrained(config)
    prefix = ""
    if config["num_classes"] is not None:
        prefix = f"{kind}."
        labels = config["class_names"] or [f"LABEL_{i}" for i in range(config["num_classes"])]
        fields["id2label"] = {str(i): name for i, name in enumerate(labels)}
        fields["label2id"] = {name: i for i, name in enumerate(labels)}
    arrays = {
        (name if name.startswith("classifier") else prefix + name): value
        for name, value in _arrays(
            model, tables.HF_SWIN if version == 1 else tables.HF_SWINV2
        ).items()
    }
    write_json(folder / "config.json", fields)
    if model.preprocessor is not None:
        write_json(
            folder / "preprocessor_config.json", processor_for_transformers(model.preprocessor)
        )
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def write_timm(model, folder):
    """config.json and model.safetensors of timm's SwinTransformer and SwinTransformerV2."""
    config = model.get_config()
    version, asked = config["version"], config["window_size"]
    acts = ("gelu",) if version == 1 else ("gelu", "gelu_tanh", "quick_gelu")
    _check(config, "timm's SwinTransformer", "timm", acts)
    size = list(model.input.shape[1:3])
    arguments = {
        "img_size": size,
        "patch_size": one_or_two(model.patch_size),
        "in_chans": config["num_channels"],
        "embed_dim": config["width"],
        "depths": list(config["depths"]),
        "num_heads": list(config["num_heads"]),
        # pairs, for timm takes two numbers as height and width
        "window_size": asked if isinstance(asked, int) else [[side, side] for side in asked],
        "mlp_ratio": config["mlp_ratio"],
        "qkv_bias": config["qkv_bias"],
        "global_pool": "avg",
    }
    if version == 2:
        arguments["pretrained_window_sizes"] = _pretrained(config)
        arguments["act_layer"] = config["mlp"]
    fields = {
        "architecture": "swin_tiny_patch4_window7_224"
        if version == 1
        else "swinv2_tiny_window8_256",
        "num_classes": config["num_classes"] or 0,
        "num_features": config["width"] * 2 ** (len(config["depths"]) - 1),
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": {
            "num_classes": config["num_classes"] or 0,
            "input_size": [config["num_channels"], *size],
            "first_conv": "patch_embed.proj",
            "classifier": "head.fc",
        },
    }
    if config["class_names"]:
        fields["label_names"] = list(config["class_names"])
    if model.preprocessor is not None:
        fields["pretrained_cfg"].update(preprocessor_to_timm(model.preprocessor))
    write_json(folder / "config.json", fields)
    write_safetensors(folder / "model.safetensors", _arrays(model, tables.TIMM), {"format": "pt"})


def _transformers_class(config):
    name = "Swin" if config["version"] == 1 else "Swinv2"
    return name + ("Model" if config["num_classes"] is None else "ForImageClassification")


def _pretrained(config):
    stages, old = len(config["depths"]), config["pretrained_window_size"] or 0
    return [old] * stages if isinstance(old, int) else list(old)


def _refuse(library, key, expected, received):
    raise CheckpointError(
        f"{library} cannot be what this model is. Expected: {key}={expected!r}. "
        f"Received: {key}={received!r}"
    )


def _check(config, library, convention, activations):
    """Raises for what the library's class has not."""
    for key, accepted in (
        ("include_preprocessing", (False,)),
        ("norm_epsilon", (1e-5,)),
        ("mlp", activations),
    ):
        if config[key] not in accepted:
            _refuse(library, key, accepted[0], config[key])
    if config["image_size"] is None:
        _refuse(library, "image_size", "a size: keras_vit.resize the model first", None)
    if config["convention"] != convention and not _conventions_agree(config):
        _refuse(library, "convention", convention, config["convention"])


def _conventions_agree(config):
    """Whether at the model's own size both conventions compute the same: nothing is padded."""
    windows, others = (
        stage_windows({**config, "convention": convention}) for convention in ("authors", "timm")
    )
    size, patch = config["image_size"], config["patch_size"]
    h, w = (size, size) if isinstance(size, int) else size
    p, q = (patch, patch) if isinstance(patch, int) else patch
    h, w = h // p, w // q
    for (a, b), other in zip(windows, others, strict=True):
        shifts = (shift_sizes((h, w), (a, b), convention) for convention in ("authors", "timm"))
        if h % a or w % b or (a, b) != other or len(set(shifts)) > 1:
            return False
        h, w = (h + 1) // 2, (w + 1) // 2
    return True


def _arrays(model, table):
    """The model's weights under the names and in the layouts of a table: {name: array}."""
    config = model.get_config()
    values = {
        weight.path: ops.convert_to_numpy(ops.cast(weight, "float32"))
        for weight in model.weights
        if "seed_generator" not in weight.path
    }
    facts = layouts.Facts(model.patch_size, config["num_channels"], 0, 0, ())
    written, arrays = set(), {}
    for row in table.rows:
        sources, targets = as_tuple(row.sources), as_tuple(row.targets)
        for i in range(max(config["depths"])) if "{i}" in targets[0] else (0,):
            paths = [target.replace("{i}", f"{i:02d}") for target in targets]
            found = [values[path] for path in paths if path in values]
            if not found:
                continue
            made = layouts.write(row.layout, found, len(sources), facts)
            names = [source.replace("{i}", str(i)) for source in sources]
            arrays.update(zip(names, map(np.ascontiguousarray, made), strict=True))
            written.update(paths)
    left = sorted(set(values) - written)
    if left:
        raise CheckpointError(f"{table.name} has no names for these weights. Received: {left}")
    return arrays


WRITERS = {"hf": write_transformers, "timm": write_timm}
