"""Writes a Vision Transformer for transformers or timm."""

import numpy as np
from keras import ops

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.vit import names as tables
from keras_vit.checkpoints.vit.fields import HF, TIMM
from keras_vit.checkpoints.writing import arrays_of, values_of, write_timm, write_transformers
from keras_vit.layers import sincos_grid

GRID = "position_embedding/grid"


def _write_transformers(model, folder):
    config = model.get_config()
    kind, table, names = _transformers_class(config)
    said = {**config, "image_size": _image_size(model), "patch_size": model.patch_size}
    fields = {"model_type": kind, "architectures": [names], **write_fields(HF, said, kind)}
    is_dinov2, is_swiglu = kind.startswith("dinov2"), config["mlp"] == "swiglu"
    if is_dinov2:
        fields.update(mlp_ratio=_dinov2_ratio(config), use_swiglu_ffn=is_swiglu)
    if config["representation_size"] is not None:
        fields.update(pooler_output_size=config["representation_size"], pooler_act="tanh")
    other = "mlp.fc" if is_dinov2 and is_swiglu else "mlp.weights"
    arrays = {x: array for x, array in _arrays(model, table).items() if other not in x}
    if is_dinov2:
        arrays["embeddings.mask_token"] = np.zeros((1, config["width"]), "float32")
    write_transformers(model, folder, fields, arrays)


def _transformers_class(config):
    """(model_type, table, class) of transformers that computes what the model does."""
    plain = {
        "qk_norm": False,
        "fc_norm": False,
        "include_preprocessing": False,
        "pre_norm": False,
        "patch_bias": True,
        "class_token": True,
        "num_registers": 0,
        "layer_scale": None,
        "representation_size": None,
        "position": "with prefix",
        "pooling": "token",
        "distillation_token": False,
        "distillation_head": False,
    }
    found = {key: config.get(key) for key in plain}
    found["distillation_head"] = _has_distillation_head(config)
    found["class_token"] = _has_class_token(config)
    kind = config["position_embedding"]
    bare = not found["class_token"] and not config["num_registers"]
    found["position"] = "with prefix" if kind == "learned" or (kind and bare) else kind
    if config["layer_scale"] is not None:
        found["layer_scale"] = "some"
        wanted = {**plain, "layer_scale": "some"}
        model_type, table, names = "dinov2", tables.HF_DINOV2, "Dinov2"
        if config["num_registers"]:
            wanted.update(num_registers=config["num_registers"], position="learned_patches")
            model_type, table = "dinov2_with_registers", tables.HF_DINOV2_REGISTERS
            names = "Dinov2WithRegisters"
        if config["num_classes"] is not None:
            wanted["pooling"] = "token_gap"
        names += "Model" if config["num_classes"] is None else "ForImageClassification"
    elif config["pooling"] == "map":
        wanted = {**plain, "class_token": False, "pooling": "map"}
        model_type, table, names = "siglip_vision_model", tables.HF_SIGLIP, "SiglipVisionModel"
        _refuse(config, "num_classes", (None,), names)
    elif config["pre_norm"]:
        wanted = {**plain, "pre_norm": True, "patch_bias": False}
        model_type, table, names = "clip_vision_model", tables.HF_CLIP, "CLIPVisionModel"
        _refuse(config, "num_classes", (None,), names)
    else:
        wanted = dict(plain)
        model_type, table, names = "vit", tables.HF_VIT, "ViT"
        if config["distillation_token"]:
            wanted["distillation_token"] = True
            model_type, table, names = "deit", tables.HF_DEIT, "DeiT"
        if config["num_classes"] is None:
            wanted["representation_size"] = config["representation_size"]
            names += "Model"
        elif found["distillation_head"]:
            wanted["distillation_head"] = True
            table, names = tables.HF_DEIT_DISTILLED, f"{names}ForImageClassificationWithTeacher"
        else:
            names += "ForImageClassification"
    for key, value in wanted.items():
        _refuse(found, key, (value,), names)
    if model_type != "dinov2" and model_type != "dinov2_with_registers":
        _refuse(config, "mlp", ("gelu", "gelu_tanh", "quick_gelu"), names)
    return model_type, table, names


def _refuse(found, key, accepted, names):
    if found[key] not in accepted:
        raise CheckpointError(
            f"transformers' {names} cannot be what this model is; try format='timm'. "
            f"Expected: {key}={accepted[0]!r}. Received: {key}={found[key]!r}"
        )


def _has_class_token(config):
    if config["class_token"] is None:
        return config["pooling"] in ("token", "token_gap")
    return config["class_token"]


def _has_distillation_head(config):
    if config["distillation_head"] is None:
        return config["distillation_token"]
    return config["distillation_head"]


def _write_timm(model, folder):
    config = model.get_config()
    epsilon, mlp = config["norm_epsilon"], config["mlp"]
    if config["pooling"] == "token_gap" or config["representation_size"] is not None:
        raise CheckpointError(
            "timm's VisionTransformer has neither 'token_gap' pooling nor pre-logits. Received: "
            f"pooling={config['pooling']!r}, representation_size={config['representation_size']}"
        )
    if config["include_preprocessing"] or config["position_embedding"] is None:
        raise CheckpointError(
            "timm's VisionTransformer normalises outside and has positions. Received: "
            f"include_preprocessing={config['include_preprocessing']}, "
            f"position_embedding={config['position_embedding']!r}"
        )
    if config["patch_bias"] == config["pre_norm"]:
        raise CheckpointError(
            "timm's VisionTransformer has a bias of the patches exactly where it has no pre_norm. "
            f"Received: patch_bias={config['patch_bias']}, pre_norm={config['pre_norm']}"
        )
    if epsilon not in (1e-6, 1e-5) or (epsilon == 1e-5 and mlp == "swiglu"):
        raise CheckpointError(
            "timm's configurations know norm_epsilon=1e-6, and 1e-5 without SwiGLU; use "
            f"format='hf'. Received: norm_epsilon={epsilon}, mlp={mlp!r}"
        )
    architecture = "vit_base_patch16_224" if epsilon == 1e-6 else "vit_base_patch16_clip_224"
    architecture = "vit_giant_patch14_dinov2" if mlp == "swiglu" else architecture
    if config["distillation_token"]:
        architecture = "deit_base_distilled_patch16_224"
        _check_timm_distilled(config)
    pool = {"token": "token", "gap": "avg", "map": "map"}[config["pooling"]]
    size = _image_size(model)
    said = {
        **config,
        "image_size": size,
        "patch_size": model.patch_size,
        "mlp_ratio": _ratio(config) * (2 if mlp == "swiglu" else 1),
        "class_token": _has_class_token(config),
    }
    arguments = {
        **write_fields(TIMM, said),
        "no_embed_class": config["position_embedding"] != "learned",
        "global_pool": pool,
        "dynamic_img_size": config["image_size"] is None,
    }
    if mlp in ("gelu_tanh", "quick_gelu"):
        arguments["act_layer"] = mlp
    write_timm(
        model,
        folder,
        _arrays(model, tables.TIMM),
        architecture=architecture,
        arguments=arguments,
        pool=pool,
        features=config["width"],
        image_size=size,
    )


def _check_timm_distilled(config):
    found = {**config, "distillation_head": _has_distillation_head(config)}
    wanted = {"distillation_head": True, "position_embedding": "learned", "num_registers": 0}
    for key, value in {**wanted, "norm_epsilon": 1e-6}.items():
        if found[key] != value:
            raise CheckpointError(
                "timm's VisionTransformerDistilled cannot be what this model is. "
                f"Expected: {key}={value!r}. Received: {key}={found[key]!r}"
            )


def _arrays(model, table):
    """The model's weights under the names and in the layouts of a table: {name: array}."""
    config = model.get_config()
    h, w = (side // patch for side, patch in zip(_image_size(model), model.patch_size, strict=True))
    values = values_of(model)
    if config["position_embedding"] == "sincos":
        values[GRID] = ops.convert_to_numpy(sincos_grid((h, w), config["width"]))
    facts = layouts.Facts(
        model.patch_size, config["num_channels"], config["num_heads"], grid=(h, w)
    )
    return arrays_of(values, table, facts)


def _image_size(model):
    """(H, W) in pixels: of the model, or of its position embeddings where it takes any size."""
    height, width = model.input.shape[1:3]
    if height is not None:
        return height, width
    grid = next(
        (x.grid_size for x in model.layers if getattr(x, "grid_size", None) is not None),
        (14, 14),
    )
    return tuple(side * patch for side, patch in zip(grid, model.patch_size, strict=True))


def _ratio(config):
    ratio = config["mlp_dim"] / config["width"]
    return int(ratio) if ratio == int(ratio) else ratio


def _dinov2_ratio(config):
    """The ratio from which transformers' Dinov2 makes the MLP's width."""
    if config["mlp"] != "swiglu":
        return _ratio(config)
    width, mlp_dim = config["width"], config["mlp_dim"]
    for ratio in (4, 2, 3, 1, 6, 8, 1.5 * mlp_dim / width):
        if (int(int(width * ratio) * 2 / 3) + 7) // 8 * 8 == mlp_dim:
            return ratio
    raise CheckpointError(
        "transformers' Dinov2 has SwiGLU widths that are multiples of 8. "
        f"Received: mlp_dim={mlp_dim}"
    )


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
