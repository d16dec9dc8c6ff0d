"""Makes keras_vit/checkpoints/catalog.toml and imagenet1k.txt from what timm registers.

    pip install timm && python tests/golden/make_catalog.py results-imagenet.csv

The argument is the file of that name in `results/` of github.com/huggingface/pytorch-image-models:
accuracies as timm measured them. A checkpoint whose architecture is none of those here (plain
Vision Transformers, hybrids, CaiT, Swin, PVTv2, ResNet), or that states no licence, is left out.
"""

import csv
import inspect
import json
import re
import sys
from pathlib import Path

import timm
import torch
from timm.data import ImageNetInfo
from timm.models import get_pretrained_cfg

import keras_vit
from keras_vit.checkpoints.cait import read as cait_checkpoints
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import family as family_named
from keras_vit.checkpoints.hybrid import read as hybrid_checkpoints
from keras_vit.checkpoints.matching import match
from keras_vit.checkpoints.pvt_v2 import read as pyramids
from keras_vit.checkpoints.readers.base import Tensor
from keras_vit.checkpoints.resnet import read as resnet_checkpoints
from keras_vit.checkpoints.swin import read as swin_checkpoints
from keras_vit.checkpoints.vit.fields import TIMM_KINDS
from keras_vit.models.cait import CAIT
from keras_vit.models.deit import DEIT
from keras_vit.models.hybrid import HYBRID
from keras_vit.models.resnet import RESNET
from keras_vit.models.swin import SWIN as SWIN_FAMILY
from keras_vit.models.vit import VIT

HERE = Path(keras_vit.__file__).parent / "checkpoints"
HEADER = f"""\
# Known checkpoints, by timm's names. Made by tests/golden/make_catalog.py from the registry of
# timm {timm.__version__}; accuracies (top-1, %, ImageNet-1k) are those of its results-imagenet.csv.
# sha256_start is given where the authors put it into their file's name; it is that of `original`.
"""


SWIN = {"SwinTransformer": 1, "SwinTransformerV2": 2}  # timm's class: version
PVT = "PyramidVisionTransformerV2"


def kind(architecture):
    families = {
        "swin": swin_checkpoints.describe,
        "cait": cait_checkpoints.describe,
        "pvt_v2": pyramids.describe,
        r"vit_\w+_r\d*_": hybrid_checkpoints.describe,
        r"resnet\d+": resnet_checkpoints.describe,
    }
    for pattern, describe in families.items():
        if re.match(pattern, architecture):
            try:
                return describe({"architecture": architecture}).arguments
            except CheckpointError:
                return None
    for pattern, found in TIMM_KINDS:
        if re.fullmatch(pattern, architecture):
            return found
    return None


def variant(model, architecture):
    if type(model).__name__ == "ResNet":
        depths = tuple(len(getattr(model, f"layer{s + 1}")) for s in range(4))
        basic = type(model.layer1[0]).__name__ == "BasicBlock"
        sizes = (depths, "basic" if basic else "bottleneck")
        rows = RESNET.rows.items()
        return next((k for k, row in rows if (row["depths"], row["block"]) == sizes), "ResNet")
    if type(model).__name__ == PVT:
        return f"PVTv2{architecture.removeprefix('pvt_v2_').upper()}".replace("_LI", "Linear")
    if type(model).__name__ in SWIN:
        depths = tuple(len(stage.blocks) for stage in model.layers)
        sizes = (SWIN[type(model).__name__], model.embed_dim, depths)
        for name, row in SWIN_FAMILY.rows.items():
            if (row.get("version", 1), row["width"], row["depths"]) == sizes:
                return name
        return "SwinTransformer"
    if type(model).__name__ == "Cait":
        sizes = (model.embed_dim, len(model.blocks))
        return next(k for k, row in CAIT.rows.items() if (row["width"], row["depth"]) == sizes)
    if is_hybrid(model):
        stages = getattr(model.patch_embed.backbone, "stages", ())
        sizes = (tuple(len(stage.blocks) for stage in stages), model.embed_dim)
        for name, row in HYBRID.rows.items():
            if (row["stem_depths"], row["width"]) == sizes:
                return name
        return "HybridVisionTransformer"
    mlp = model.blocks[0].mlp.fc2.in_features
    sizes = (model.embed_dim, len(model.blocks), mlp)
    third, distilled = architecture.startswith("deit3_"), "distilled" in architecture
    rows = DEIT.rows if third or distilled else VIT.rows
    for name, row in rows.items():
        if name.startswith("DeiT") and ("distillation_token" in row) != distilled:
            continue
        if (row["width"], row["depth"], row["mlp_dim"]) == sizes:
            return name
    return "VisionTransformer"


def is_hybrid(model):
    return type(getattr(model, "patch_embed", None)).__name__ == "HybridEmbed"


def patch_size(model):
    """In pixels; of a ResNet the stride before its first stage."""
    if type(model).__name__ == "ResNet":
        return 4
    if type(model).__name__ == PVT:
        return model.patch_embed.proj.stride[0]
    if is_hybrid(model):
        return model.patch_embed.feat_ratio()
    return model.patch_embed.patch_size[0]


def arguments(model, config, name, known):
    """What `from_pretrained` builds of these tensors and this configuration, where it is another
    than the defaults of the entry's variant and the rest of the entry, `known`, does not say it."""
    tensors = {k: Tensor(tuple(x.shape), None, None) for k, x in model.state_dict().items()}
    matched = match(tensors, name)
    family = family_named(matched.table.family).read
    said = {"architecture": config.architecture, "pretrained_cfg": config.to_dict()}
    if isinstance(getattr(model, "global_pool", None), str):  # of a ResNet it is a layer
        said["global_pool"] = model.global_pool
    found = family.complete(
        family.infer(matched, tensors), family.describe(said, None, name), {}, name
    )
    factory = inspect.signature(getattr(keras_vit, known["variant"]))
    usual = {key: parameter.default for key, parameter in factory.parameters.items()}
    usual["class_token"] = found.get("pooling") in ("token", "token_gap")
    usual["position_grid"] = known["image_size"] // known["patch_size"]
    for key in ("patch_size", "position_grid"):  # pairs of one number
        if isinstance(found.get(key), tuple) and len(set(found[key])) == 1:
            found[key] = found[key][0]
    said_already = ("num_classes", "image_size", "preprocessor", "class_names")
    return {k: v for k, v in found.items() if k not in said_already and v != usual[k]}


def entry(name, accuracies):
    config = get_pretrained_cfg(name)
    if kind(config.architecture) is None or not (config.hf_hub_id or "").startswith("timm/"):
        return None
    if not config.license:
        return None
    with torch.device("meta"):
        model = timm.create_model(config.architecture, num_classes=config.num_classes)
    kinds = ("VisionTransformer", "VisionTransformerDistilled", "Cait", "ResNet", PVT, *SWIN)
    if type(model).__name__ not in kinds:
        return None
    embedding = type(getattr(model, "patch_embed", None)).__name__
    if (
        type(model).__name__ != "ResNet"
        and not is_hybrid(model)
        and embedding not in ("PatchEmbed", "OverlapPatchEmbed")
    ):
        return None
    if type(model).__name__ == "VisionTransformer" and (
        type(model.norm).__name__ == type(model.fc_norm).__name__ == "Identity"
    ):
        return None
    found = {
        "variant": variant(model, config.architecture),
        "source": config.hf_hub_id,
        "image_size": config.input_size[1],
        "patch_size": patch_size(model),
        "num_classes": config.num_classes,
        "mean": list(config.mean),
        "std": list(config.std),
        "crop_fraction": config.crop_pct,
        "interpolation": config.interpolation,
        "resize": {"center": "short_side", "squash": "squash"}[config.crop_mode],
        "licence": config.license,
        "original": config.url or config.origin_url,
        "accuracy": accuracies.get((name, config.input_size[1])),
    }
    start = re.search(r"-([0-9a-f]{8})\.pth$", found["original"] or "")
    found["sha256_start"] = start and start[1]
    found["arguments"] = arguments(model, config, name, found) or None
    return {key: value for key, value in found.items() if value is not None and value != ""}


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(x)}" for key, x in value.items()) + " }"
    return json.dumps(value)


def main(results):
    with open(results, newline="") as file:
        rows = list(csv.DictReader(file))  # a model may have been measured at several sizes
    accuracies = {(row["model"], int(row["img_size"])): float(row["top1"]) for row in rows}
    lines = [HEADER]
    for name in timm.list_pretrained():
        if not re.match(r"(vit|deit|deit3|flexivit|cait|pvt|swin|swinv2)_|resnet\d+\.", name):
            continue
        found = entry(name, accuracies)
        if found is None:
            continue
        lines.append(f'["{name}"]')
        lines += [f"{key} = {toml(value)}" for key, value in found.items()]
        lines.append("")
    (HERE / "catalog.toml").write_text("\n".join(lines))
    info = ImageNetInfo()
    names = [info.index_to_description(i) for i in range(info.num_classes())]
    (HERE / "imagenet1k.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
