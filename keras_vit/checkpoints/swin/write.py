"""Writes a Swin Transformer for transformers or timm."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.swin import names as tables
from keras_vit.checkpoints.swin.fields import HF, TIMM
from keras_vit.checkpoints.swin.read import facts
from keras_vit.checkpoints.writing import arrays_of, values_of, write_timm, write_transformers
from keras_vit.layers.windows import shift_sizes
from keras_vit.models.swin import stage_windows


def _write_transformers(model, folder):
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
    said = {**_said(model), "window_size": window}
    fields = {
        "model_type": kind,
        "architectures": [_transformers_class(config)],
        **write_fields(HF, said, kind),
        "num_layers": stages,
        "hidden_size": config["width"] * 2 ** (stages - 1),
        "use_absolute_embeddings": False,
    }
    table = tables.HF_SWIN if version == 1 else tables.HF_SWINV2
    write_transformers(model, folder, fields, arrays_of(values_of(model), table, facts(said)))


def _write_timm(model, folder):
    """config.json and model.safetensors of timm's SwinTransformer and SwinTransformerV2."""
    config = model.get_config()
    version = config["version"]
    acts = ("gelu",) if version == 1 else ("gelu", "gelu_tanh", "quick_gelu")
    _check(config, "timm's SwinTransformer", "timm", acts)
    said = _said(model)
    arguments = {**write_fields(TIMM, said, version), "global_pool": "avg"}
    if version == 2:
        arguments["act_layer"] = config["mlp"]
    write_timm(
        model,
        folder,
        arrays_of(values_of(model), tables.TIMM, facts(said)),
        architecture="swin_tiny_patch4_window7_224" if version == 1 else "swinv2_tiny_window8_256",
        arguments=arguments,
        pool="avg",
        features=config["width"] * 2 ** (len(config["depths"]) - 1),
        image_size=said["image_size"],
        classifier="head.fc",
    )


def _transformers_class(config):
    name = "Swin" if config["version"] == 1 else "Swinv2"
    return name + ("Model" if config["num_classes"] is None else "ForImageClassification")


def _said(model):
    """The model's arguments, its sizes as pairs and its pre-training windows one a stage."""
    config = model.get_config()
    stages, old = len(config["depths"]), config["pretrained_window_size"] or 0
    return {
        **config,
        "pretrained_window_size": [old] * stages if isinstance(old, int) else old,
        "image_size": model.input.shape[1:3],
        "patch_size": model.patch_size,
    }


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
    if config["convention"] != convention and not _conventions_agree(config, convention):
        _refuse(library, "convention", convention, config["convention"])


def _conventions_agree(config, other):
    """Whether at the model's own size its convention and another one compute the same.

    Then nothing is padded.
    """
    conventions = (config["convention"], other)
    windows, others = (stage_windows({**config, "convention": x}) for x in conventions)
    size, patch = config["image_size"], config["patch_size"]
    h, w = (size, size) if isinstance(size, int) else size
    p, q = (patch, patch) if isinstance(patch, int) else patch
    h, w = h // p, w // q
    for (a, b), other in zip(windows, others, strict=True):
        shifts = (shift_sizes((h, w), (a, b), x) for x in conventions)
        if h % a or w % b or (a, b) != other or len(set(shifts)) > 1:
            return False
        h, w = (h + 1) // 2, (w + 1) // 2
    return True


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
