"""Makes hybrid/*: tiny random hybrids as timm and their authors save them.

    pip install timm && python tests/golden/make_hybrid.py timm
    pip install flax && PYTHONPATH=vision_transformer python tests/golden/make_hybrid.py authors

vision_transformer is a checkout of github.com/google-research/vision_transformer. Each folder holds
a checkpoint and `expected.npz`: `made_with`, `pixels` (B, H, W, C) of 0..255, which the model takes
as `pixels / 127.5 - 1`, and what came out: `stage0` ..., `block00` ... and `logits`. Of timm also
`other_logits` for `other_pixels`, of another image size; of the authors' file `timm_logits`, what
timm's own reader makes of it.
"""

import functools
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "hybrid"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]
GROUPS = 4  # 32 everywhere else, which would make the files large
SQUARE, WIDE = (48, 48), (32, 96)
VIT = dict(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=5)


def pixels(size, batch=2):
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3)).astype("uint8")


def inputs(pixels):
    return (pixels / 127.5 - 1).astype("float32")


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def save(case, versions, **arrays):
    np.savez_compressed(HERE / case / "expected.npz", made_with=versions, **arrays)


# timm


def timm_model(depths):
    """A hybrid of timm's own parts, narrower than those that it has names for."""
    from timm.layers import GroupNormAct, HybridEmbed, StdConv2dSame
    from timm.models import resnetv2, vision_transformer

    stem = resnetv2.ResNetV2(
        depths,
        channels=[32 * 2**s for s in range(len(depths))],
        stem_chs=8,
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        conv_layer=functools.partial(StdConv2dSame, eps=1e-8),
        norm_layer=functools.partial(GroupNormAct, num_groups=GROUPS),
    )
    embed = functools.partial(HybridEmbed, backbone=stem)
    return vision_transformer.VisionTransformer(
        img_size=SQUARE, patch_size=1, embed_layer=embed, **VIT
    )


def randomized(model):
    """Far from an initialisation: a bias or scale that is never used must show."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            scale = parameter.ndim == 1 and "bias" not in name
            parameter.copy_(noise + 1.0 if scale else noise)
    return model.eval()


def timm_outputs(model, images):
    import torch

    found, hooks = {}, []
    stages = getattr(model.patch_embed.backbone, "stages", ())
    modules = {f"stage{s}": stage for s, stage in enumerate(stages)}
    modules.update({f"block{i:02d}": block for i, block in enumerate(model.blocks)})
    for name, module in modules.items():

        def hook(module, inputs, output, name=name):
            maps = output.permute(0, 2, 3, 1) if output.ndim == 4 else output
            found[name] = maps.numpy()

        hooks.append(module.register_forward_hook(hook))
    with torch.no_grad():
        logits = model(torch.tensor(images.transpose(0, 3, 1, 2)))
    for hook in hooks:
        hook.remove()
    return {**found, "logits": logits.numpy()}


def make_timm():
    import timm
    import torch

    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    root = dict(img_size=SQUARE, patch_size=2, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)
    cases = {  # the name alone says what the second is not
        "timm_root": ("vit_tiny_r_s16_p8_224", root),
        "timm_resnet": ("vit_small_r26_s32_224", None),
    }
    for case, (architecture, arguments) in cases.items():
        if arguments is None:
            model = randomized(timm_model((2, 1)))
        else:
            model = randomized(timm.create_model(architecture, num_classes=5, **arguments))
        model.pretrained_cfg = timm.get_pretrained_cfg(architecture).to_dict()
        model.pretrained_cfg.update(input_size=(3, *SQUARE), architecture=architecture)
        timm.models.save_for_hf(
            model,
            folder(case),
            model_config={"label_names": NAMES},
            model_args=arguments,
            safe_serialization=True,
        )
        found = timm_outputs(model, inputs(pixels(SQUARE)))
        other = pixels(WIDE, 1)
        model.set_input_size(WIDE)
        logits = timm_outputs(model, inputs(other))["logits"]
        save(
            case, versions, pixels=pixels(SQUARE), **found, other_pixels=other, other_logits=logits
        )


# the authors


def make_authors():
    import flax
    import jax
    import timm
    import torch
    from flax import linen
    from vit_jax import models_resnet, models_vit

    narrow = functools.partial(linen.GroupNorm, num_groups=GROUPS)
    models_vit.nn = models_resnet.nn = type(
        "nn", (), {**{k: v for k, v in vars(linen).items() if k[0] != "_"}, "GroupNorm": narrow}
    )
    model = models_vit.VisionTransformer(
        num_classes=5,
        patches=type("Patches", (), {"size": (1, 1)}),
        transformer=dict(
            num_layers=2, mlp_dim=32, num_heads=2, dropout_rate=0, attention_dropout_rate=0
        ),
        hidden_size=16,
        resnet=type("ResNet", (), {"num_layers": (2, 1), "width_factor": 8 / 64}),
    )
    images, rng = inputs(pixels(SQUARE)), np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda x: np.asarray(x + rng.normal(0, 0.2, x.shape), "float32"),
        dict(model.init(jax.random.PRNGKey(0), images, train=False)["params"]),
    )
    with jax.default_matmul_precision("highest"):
        logits, state = model.apply(
            {"params": parameters}, images, train=False, capture_intermediates=True
        )
    inner = state["intermediates"]
    found = {f"stage{s}": inner[f"block{s + 1}"]["__call__"][0] for s in range(2)}
    for i in range(2):
        found[f"block{i:02d}"] = inner["Transformer"][f"encoderblock_{i}"]["__call__"][0]
    # The published files are older: their flax numbered all modules of a block together, and kept
    # the scales of group normalisations with the axes of what they scale.
    flat = {}
    for name, array in flatten(parameters):
        for new, old in (
            ("Attention_0", "Attention_1"),
            ("LayerNorm_1", "LayerNorm_2"),
            ("MlpBlock_0", "MlpBlock_3"),
        ):
            name = name.replace(new, old)
        flat[name] = array.reshape(1, 1, 1, -1) if "/gn" in f"/{name}" else array
    case = folder("authors")
    np.savez(case / "model.npz", **flat)

    theirs = timm_model((2, 1)).eval()
    theirs.load_pretrained(str(case / "model.npz"))
    versions = f"flax {flax.__version__}, timm {timm.__version__}, torch {torch.__version__}"
    save(
        "authors",
        versions,
        pixels=pixels(SQUARE),
        logits=logits,
        timm_logits=timm_outputs(theirs, images)["logits"],
        **found,
    )


def flatten(tree, prefix=""):
    for key, value in sorted(tree.items()):
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


if __name__ == "__main__":
    {"timm": make_timm, "authors": make_authors}[sys.argv[1]]()
