"""Makes dinov2/*: tiny random DINOv2 models by their authors' own code, at several sizes.

    pip install torch && PYTHONPATH=dinov2 python tests/golden/make_dinov2.py

dinov2 is a checkout of github.com/facebookresearch/dinov2. Each folder holds `model.pth`, the
state dict, and `expected.npz`: `made_with`, and for each size HxW `HxW/pixels` (B, H, W, C) of
0..255, which the model takes as `pixels / 127.5 - 1`, and `HxW/output` (B, D), the class token.
The arguments are those that the authors' hub gives its models without and with registers
(`dinov2/hub/backbones.py`).
"""

import functools
import shutil
from pathlib import Path

import numpy as np
import torch
from dinov2.layers import MemEffAttention, NestedTensorBlock
from dinov2.models.vision_transformer import DinoVisionTransformer

HERE = Path(__file__).parent / "dinov2"
# Its own; one side as it was; larger, smaller; as many patches in another shape.
SIZES = [(32, 32), (32, 48), (56, 40), (24, 16), (16, 64)]
CASES = {
    "plain": dict(interpolate_antialias=False, interpolate_offset=0.1),
    "registers": dict(num_register_tokens=4, interpolate_antialias=True, interpolate_offset=0.0),
    "swiglu": dict(
        interpolate_antialias=False, interpolate_offset=0.1, ffn_layer="swiglufused", mlp_ratio=4
    ),
    "chunked": dict(interpolate_antialias=False, interpolate_offset=0.1, block_chunks=2),
}


def main():
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    for case, arguments in CASES.items():
        model = DinoVisionTransformer(
            img_size=32,
            patch_size=8,
            embed_dim=16,
            depth=2,
            num_heads=2,
            init_values=1.0,
            block_fn=functools.partial(NestedTensorBlock, attn_class=MemEffAttention),
            **{"mlp_ratio": 2, "block_chunks": 0, **arguments},
        ).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator) * 0.3
                scale = parameter.ndim == 1 and "bias" not in name
                parameter.copy_(noise + 1.0 if scale else noise)
            found = {"made_with": f"dinov2 of 2026-11, torch {torch.__version__}"}
            for height, width in SIZES if case in ("plain", "registers") else SIZES[:1]:
                pixels = rng.integers(0, 256, (1, height, width, 3)).astype("uint8")
                images = (pixels / 127.5 - 1).astype("float32").transpose(0, 3, 1, 2)
                output = model(torch.tensor(images))
                found[f"{height}x{width}/pixels"] = pixels
                found[f"{height}x{width}/output"] = output.numpy()
        shutil.rmtree(HERE / case, ignore_errors=True)
        (HERE / case).mkdir(parents=True)
        torch.save(model.state_dict(), HERE / case / "model.pth")
        np.savez_compressed(HERE / case / "expected.npz", **found)


if __name__ == "__main__":
    main()
