"""Makes vit_*.npz: what timm's vision_transformer computes at small width, with random weights.

    pip install timm scipy && python tests/golden/make_vit.py

Each file holds `config` (the keras_vit arguments, JSON), `made_with` (versions), `images`
(B, H, W, C), timm's parameters under `weights/<timm name>`, and what came out: `block00` ...,
`norm`, `pre_logits`, `logits`. resample.npz holds grids that PyTorch and SciPy resampled.
"""

import json
from pathlib import Path

import numpy as np
import scipy
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer

HERE = Path(__file__).parent
VERSIONS = f"timm {timm.__version__}, torch {torch.__version__}, scipy {scipy.__version__}"

# One small shape for all: 24 x 16 pixels, so that a mix-up of height and width shows.
TIMM = dict(img_size=(24, 16), patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=5)
OURS = dict(image_size=(24, 16), patch_size=8, width=32, depth=3, num_heads=4, num_classes=5)

# name: (timm's arguments, ours for the same network)
CASES = {
    "token": (dict(mlp_ratio=4), dict(mlp_dim=128)),
    "gap": (
        dict(mlp_ratio=2, global_pool="avg", fc_norm=False, qkv_bias=False),
        dict(mlp_dim=64, pooling="gap", class_token=True, qkv_bias=False),
    ),
    "registers": (
        dict(mlp_ratio=2, reg_tokens=3, no_embed_class=True, init_values=0.1, qk_norm=True),
        dict(
            mlp_dim=64,
            num_registers=3,
            position_embedding="learned_patches",
            layer_scale=0.1,
            qk_norm=True,
        ),
    ),
    "registers_positions": (
        dict(mlp_ratio=2, reg_tokens=2, act_layer="gelu_tanh"),
        dict(mlp_dim=64, num_registers=2, mlp="gelu_tanh"),
    ),
    "map": (
        dict(mlp_ratio=2, class_token=False, global_pool="map"),
        dict(mlp_dim=64, pooling="map"),
    ),
    "swiglu": (
        # timm counts the packed width, gate and value together
        dict(mlp_ratio=4, mlp_layer=SwiGLUPacked, act_layer="silu", init_values=1e-5),
        dict(mlp_dim=64, mlp="swiglu", layer_scale=1e-5),
    ),
}


def make_vit(name, timm_arguments, our_arguments):
    generator = torch.Generator().manual_seed(0)
    model = VisionTransformer(**TIMM, **timm_arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from an initialisation: a bias or scale that is never used must show.
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(noise + (1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0))
        images = torch.rand((2, 3, 24, 16), generator=generator) * 2 - 1
        found = {}
        for i, block in enumerate(model.blocks):
            block.register_forward_hook(lambda m, x, y, i=i: found.update({f"block{i:02d}": y}))
        found["norm"] = model.forward_features(images)
        found["pre_logits"] = model.forward_head(found["norm"], pre_logits=True)
        found["logits"] = model(images)
    np.savez_compressed(
        HERE / f"vit_{name}.npz",
        config=json.dumps({**OURS, **our_arguments}),
        made_with=VERSIONS,
        images=images.permute(0, 2, 3, 1).numpy(),
        **{f"weights/{key}": value.numpy() for key, value in model.state_dict().items()},
        **{key: value.detach().numpy() for key, value in found.items()},
    )


def make_resample():
    generator = np.random.default_rng(0)
    arrays = {"made_with": VERSIONS}
    for old, new in [
        ((14, 14), (24, 24)),
        ((24, 24), (14, 14)),
        ((7, 5), (16, 3)),
        ((9, 4), (1, 4)),
    ]:
        grid = generator.standard_normal((*old, 4)).astype("float32")
        channels_first = torch.from_numpy(grid).permute(2, 0, 1)[None]
        key = f"{old[0]}x{old[1]}_{new[0]}x{new[1]}"
        arrays[f"grid/{key}"] = grid
        for mode, antialias in (("timm", True), ("hf", False)):
            resampled = torch.nn.functional.interpolate(
                channels_first, size=new, mode="bicubic", align_corners=False, antialias=antialias
            )
            arrays[f"{mode}/{key}"] = resampled[0].permute(1, 2, 0).numpy()
        resampled = torch.nn.functional.interpolate(channels_first, size=new, mode="bilinear")
        arrays[f"bilinear/{key}"] = resampled[0].permute(1, 2, 0).numpy()
        zoom = (new[0] / old[0], new[1] / old[1], 1)
        arrays[f"flax/{key}"] = scipy.ndimage.zoom(grid, zoom, order=1)
    np.savez_compressed(HERE / "resample.npz", **arrays)


if __name__ == "__main__":
    for name, (timm_arguments, our_arguments) in CASES.items():
        make_vit(name, timm_arguments, our_arguments)
    make_resample()
