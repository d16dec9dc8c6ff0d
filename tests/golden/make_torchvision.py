"""Makes checkpoints/tv_* and swin/tv_*: tiny random models as torchvision saves them.

    pip install torch && pip install --no-deps torchvision
    python tests/golden/make_torchvision.py

Each folder holds a state dict and `expected.npz`: of a Vision Transformer as make_checkpoints.py
describes it, `other_output` by torchvision's own `interpolate_embeddings`; of a Swin Transformer as
make_swin.py does. processors/torchvision.json says how pictures come to the published weights.
"""

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import torch

# The only part of the package that needs its compiled operators, which a CPU's torch cannot load.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("_meta_registrations")

import torchvision  # noqa: E402
from torchvision.models import resnet, swin_transformer, vision_transformer  # noqa: E402

HERE = Path(__file__).parent
VERSIONS = f"torchvision {torchvision.__version__}, torch {torch.__version__}"


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def randomize(model):
    """Far from an initialisation: a bias or scale that is never used must show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            norm = "norm" in name or ".ln" in name or ".0.2." in name
            keeps = norm and name.endswith("weight") or "logit_scale" in name
            parameter.copy_(noise + (1.0 if keeps else 0.0))
    return model.eval()


def pixels(size, batch=2):
    images = np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3))
    return images.astype("float16").astype("float32")  # exact in both


def run(model, images, watched):
    """Logits, and the outputs of the modules that are watched."""
    found, hooks = {}, []
    for name, module in watched.items():

        def hook(module, inputs, output, name=name):
            found[name] = output

        hooks.append(module.register_forward_hook(hook))
    with torch.no_grad():
        found["logits"] = model(torch.tensor(images.transpose(0, 3, 1, 2)))
    for hook in hooks:
        hook.remove()
    return {name: x.numpy() for name, x in found.items()}


def save(case, arrays):
    np.savez_compressed(HERE / case / "expected.npz", made_with=VERSIONS, **arrays)


SMALL = dict(patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5)


def make_vit():
    for case, more in {"tv_vit": {}, "tv_vit_published": {"representation_size": 16}}.items():
        model = randomize(vision_transformer.VisionTransformer(image_size=24, **SMALL, **more))
        watched = {f"block{i:02d}": x for i, x in enumerate(model.encoder.layers)}
        found = run(model, images := pixels((24, 24)), {**watched, "norm": model.encoder.ln})
        found["pre_logits"] = found["norm"][:, 0]
        if more:
            found["pre_logits"] = torch.tanh(
                model.heads.pre_logits(torch.tensor(found["pre_logits"]))
            ).detach()
        state = model.state_dict()
        other = vision_transformer.VisionTransformer(image_size=40, **SMALL, **more).eval()
        other.load_state_dict(vision_transformer.interpolate_embeddings(40, 8, dict(state)))
        found["other_images"] = pixels((40, 40))
        found["other_output"] = run(other, found["other_images"], {})["logits"]
        if more:  # the files that were published have the names of version 1 of the MLP
            state = {
                k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): x
                for k, x in state.items()
            }
            old = type(state)(state)
            model.load_state_dict(old)  # which torchvision still reads
        torch.save(state, folder(f"checkpoints/{case}") / "vit.pth")
        arrays = {k: np.asarray(x, "float32") for k, x in found.items()}
        save(f"checkpoints/{case}", {"images": images, **arrays})


# maps 8 x 8, then 4 x 4: the window of the second stage covers its map, and nothing shifts there
SWIN = dict(patch_size=[4, 4], embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4])
V2 = dict(
    block=swin_transformer.SwinTransformerBlockV2,
    downsample_layer=swin_transformer.PatchMergingV2,
)
SIZES = {
    "": (32, 32),
    "_other": (44, 60),  # maps 11 x 15, then 6 x 8
    "_small": (24, 40),  # maps 6 x 10, then 3 x 5: one side smaller than the window
}


def make_swin():
    for case, more in {"tv_swin": {}, "tv_swinv2": V2}.items():
        model = swin_transformer.SwinTransformer(**SWIN, mlp_ratio=2.0, num_classes=5, **more)
        randomize(model)
        if more:  # what no training leaves there, and no call reads
            for stage in (model.features[1], model.features[3]):
                for block in stage:
                    block.attn.qkv.bias.data.view(3, -1)[1] = 1.0
        watched = {f"stage{s}": model.features[2 * s + 1] for s in range(2)}
        arrays = {}
        for suffix, size in SIZES.items():
            images = pixels(size, batch=1 if suffix else 2)
            found = run(model, images, {**watched, "pre_logits": model.flatten})
            arrays |= {f"{name}{suffix}": x for name, x in found.items()}
            arrays[f"images{suffix}"] = images.astype("float16")
        torch.save(model.state_dict(), folder(f"swin/{case}") / "swin.pth")
        save(f"swin/{case}", arrays)


def make_transforms():
    """What each of the published files is meant to be read with."""
    found = {"made_with": VERSIONS}
    for module in (vision_transformer, swin_transformer, resnet):
        names = [x for x in module.__all__ if x.endswith("_Weights")]
        names = [x for x in names if not x.startswith(("ResNeXt", "Wide"))]
        kinds = [getattr(module, name) for name in names]
        for weights in (x for kind in kinds for x in kind):
            settings = weights.transforms()
            found[weights.url.rpartition("/")[2]] = {
                "crop": settings.crop_size[0],
                "resized": settings.resize_size[0],
                "interpolation": settings.interpolation.value,
                "mean": settings.mean,
                "std": settings.std,
            }
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(found[key])}" for key in found)
    (HERE / "processors" / "torchvision.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    make_transforms()
    make_vit()
    make_swin()
