"""Makes cait/*: tiny random CaiTs as timm and their authors save them.

    pip install timm && python tests/golden/make_cait.py

Each folder holds a checkpoint and `expected.npz`: `made_with`, `pixels` (B, H, W, C) of 0..255,
which the model takes as `pixels / 127.5 - 1`, and what came out: `block00` ..., `class_block00` ...
(the class token alone), `norm` and `logits`; `other_logits` are those for `other_pixels`, of
another image size, with position embeddings that timm's own function resampled. The authors' file
has the same names within those of a distributed model, as their training script saves it.
"""

import shutil
from pathlib import Path

import numpy as np
import timm
import torch
from timm.layers import resample_abs_pos_embed

HERE = Path(__file__).parent / "cait"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]
ARCHITECTURE = "cait_s24_224"
TINY = dict(
    img_size=(24, 24), patch_size=8, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2,
    depth_token_only=2, mlp_ratio_token_only=2,
)  # fmt: skip
OTHER = (32, 56)


def randomized(model):
    """Far from an initialisation: a bias or scale that is never used must show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            scale = parameter.ndim == 1 and "bias" not in name
            parameter.copy_(noise + 1.0 if scale else noise)
    return model.eval()


def outputs(model, pixels):
    found, hooks = {}, []
    modules = {f"block{i:02d}": block for i, block in enumerate(model.blocks)}
    modules.update({f"class_block{i:02d}": x for i, x in enumerate(model.blocks_token_only)})
    for name, module in {**modules, "norm": model.norm}.items():

        def hook(module, inputs, output, name=name):
            found[name] = output.numpy()

        hooks.append(module.register_forward_hook(hook))
    images = (pixels / 127.5 - 1).astype("float32").transpose(0, 3, 1, 2)
    with torch.no_grad():
        logits = model(torch.tensor(images))
    for hook in hooks:
        hook.remove()
    return {**found, "logits": logits.numpy()}


def resized(model, size):
    """The same model for another image size."""
    other = timm.create_model(ARCHITECTURE, num_classes=5, **{**TINY, "img_size": size}).eval()
    state = model.state_dict()
    grids = {"new_size": [side // 8 for side in size], "old_size": [3, 3], "num_prefix_tokens": 0}
    other.load_state_dict(
        {**state, "pos_embed": resample_abs_pos_embed(state["pos_embed"], **grids)}
    )
    return other


def main():
    model = randomized(timm.create_model(ARCHITECTURE, num_classes=5, **TINY))
    model.pretrained_cfg.update({"input_size": (3, 24, 24)})
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 24, 24, 3)).astype("uint8")
    other = rng.integers(0, 256, (1, *OTHER, 3)).astype("uint8")
    shutil.rmtree(HERE, ignore_errors=True)
    for case in ("timm", "authors"):
        (HERE / case).mkdir(parents=True)
    timm.models.save_for_hf(
        model,
        HERE / "timm",
        model_config={"label_names": NAMES},
        model_args=TINY,
        safe_serialization=True,
    )
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": state}, HERE / "authors" / "cait.pth")
    np.savez_compressed(
        HERE / "timm" / "expected.npz",
        made_with=f"timm {timm.__version__}, torch {torch.__version__}",
        pixels=pixels,
        **outputs(model, pixels),
        other_pixels=other,
        other_logits=outputs(resized(model, OTHER), other)["logits"],
    )


if __name__ == "__main__":
    main()
