"""Makes pyramids/*: tiny random Pyramid Vision Transformers as their libraries save them.

    pip install timm transformers && PYTHONPATH=PVT/classification python tests/golden/make_pvt.py

PVT is a checkout of github.com/whai362/PVT. Each folder holds a checkpoint and `expected.npz`:
`made_with`, `pixels` (B, H, W, C) of 0..255, which the model takes as `pixels / 127.5 - 1`, and
what came out: `stage0` ... (B, h, w, D), and `logits`; `other_stage3` and `other_logits` are those
for `other_pixels`, of another image size.
transformers' first PVT reshapes its position embeddings by the new size and fails at any other, so
only the authors' own code is a reference for that.
"""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import timm
import torch
import transformers

HERE = Path(__file__).parent / "pyramids"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {x: i for i, x in enumerate(NAMES)}}
VERSIONS = (
    f"timm {timm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
)

DEPTHS, WIDTHS, HEADS = [1, 2, 1, 1], [8, 8, 12, 16], [1, 2, 2, 4]
RATIOS, REDUCTIONS = [3, 2, 2, 2], [4, 2, 2, 1]
TIMM = dict(
    depths=DEPTHS, embed_dims=WIDTHS, num_heads=HEADS, mlp_ratios=RATIOS, sr_ratios=REDUCTIONS
)
HF = dict(
    depths=DEPTHS, hidden_sizes=WIDTHS, num_attention_heads=HEADS, mlp_ratios=RATIOS, image_size=64
)
SQUARE, WIDE, UNEVEN = (64, 64), (32, 96), (45, 70)


def randomized(model):
    """Far from an initialisation: a bias or scale that is never used must show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            scale = parameter.ndim == 1 and "bias" not in name and parameter.mean() > 0.5
            parameter.copy_(noise + 1.0 if scale else noise)
    return model.eval()


def save(case, run, sizes):
    """Writes expected.npz; `run` gives the outputs for images (B, C, H, W)."""
    arrays = {"made_with": VERSIONS}
    for prefix, size in zip(("", "other_"), sizes, strict=False):
        shape = (1 if prefix else 2, *size, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
        images = torch.tensor((pixels / 127.5 - 1).astype("float32").transpose(0, 3, 1, 2))
        with torch.no_grad():
            found = run(images)
        arrays[f"{prefix}pixels"] = pixels
        kept = ("stage3", "logits") if prefix else found
        arrays.update({prefix + key: found[key].numpy() for key in kept if key in found})
    np.savez_compressed(HERE / case / "expected.npz", **arrays)


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def maps(stages):
    """dict of (B, D, h, w) as (B, h, w, D)."""
    return {f"stage{s}": x.permute(0, 2, 3, 1) for s, x in enumerate(stages)}


def make_timm():
    for case, architecture in (("timm_v2", "pvt_v2_b0"), ("timm_v2_linear", "pvt_v2_b2_li")):
        model = randomized(timm.create_model(architecture, num_classes=5, **TIMM))
        model.pretrained_cfg.update({"input_size": (3, 64, 64)})
        timm.models.save_for_hf(
            model,
            folder(case),
            model_config={"label_names": NAMES},
            model_args=TIMM,
            safe_serialization=True,
        )

        def run(images, model=model):
            _, stages = model.forward_intermediates(images)
            return {**maps(stages), "logits": model(images)}

        save(case, run, (SQUARE, UNEVEN) if case == "timm_v2_linear" else (SQUARE,))


def make_transformers():
    config = transformers.PvtConfig(
        **HF, num_labels=5, **LABELS, sequence_reduction_ratios=REDUCTIONS
    )
    model = randomized(transformers.PvtForImageClassification(config))
    model.save_pretrained(folder("hf_v1"))
    processor = transformers.PvtImageProcessor(size={"height": 64, "width": 64})
    written = HERE / "hf_v1" / "preprocessor_config.json"
    written.write_text(json.dumps(json.loads(processor.to_json_string()), indent=1))

    def run(images):
        output = model(images, output_hidden_states=True)
        last = np.cumsum(DEPTHS) - 1  # the last block of each stage
        stages = [output.hidden_states[i] for i in last]
        stages[-1] = stages[-1][:, 1:]  # without the class token
        grids = [images.shape[2] // 4 // 2**s for s in range(4)]
        tokens = zip(stages, grids, strict=True)
        found = {f"stage{s}": x.unflatten(1, (h, -1)) for s, (x, h) in enumerate(tokens)}
        return {**found, "logits": output.logits}

    save("hf_v1", run, (SQUARE,))

    for case, linear in (("hf_v2", False), ("hf_v2_linear", True)):
        config = transformers.PvtV2Config(
            **HF, **LABELS, sr_ratios=REDUCTIONS, linear_attention=linear
        )
        model = randomized(transformers.PvtV2ForImageClassification(config))
        model.save_pretrained(folder(case))

        def run(images, model=model):
            output = model(images, output_hidden_states=True)
            return {**maps(output.hidden_states), "logits": output.logits}

        save(case, run, (SQUARE,))
    names = [f"stage{s + 1}" for s in range(4)]
    config = transformers.PvtV2Config(**HF, sr_ratios=REDUCTIONS, out_features=names)
    backbone = randomized(transformers.PvtV2Backbone(config))
    backbone.save_pretrained(folder("hf_v2_backbone"))
    save("hf_v2_backbone", lambda images: maps(backbone(images).feature_maps), (SQUARE,))


def make_authors():
    import pvt
    import pvt_v2

    arguments = dict(
        **TIMM,
        img_size=64,
        num_classes=5,
        qkv_bias=True,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
    )
    model = randomized(pvt.PyramidVisionTransformer(patch_size=4, **arguments))
    torch.save(model.state_dict(), folder("authors_v1") / "pvt.pth")
    last = [getattr(model, f"block{s + 1}")[-1] for s in range(4)]
    save("authors_v1", functools.partial(watched, model, last), (SQUARE, WIDE))
    model = randomized(pvt_v2.PyramidVisionTransformerV2(**arguments))
    torch.save(model.state_dict(), folder("authors_v2") / "pvt_v2.pth")
    last = [getattr(model, f"norm{s + 1}") for s in range(4)]
    save("authors_v2", functools.partial(watched, model, last), (SQUARE, UNEVEN))


def watched(model, modules, images):
    """The model's logits, and what `modules` gave on the way, laid onto their grids."""
    found, hooks = {}, []
    for s, module in enumerate(modules):

        def hook(module, inputs, output, s=s):
            h, w = (-(-side // (4 * 2**s)) for side in images.shape[2:])
            found[f"stage{s}"] = output[:, -h * w :].unflatten(1, (h, w))  # no class token

        hooks.append(module.register_forward_hook(hook))
    logits = model(images)
    for hook in hooks:
        hook.remove()
    return {**found, "logits": logits}


if __name__ == "__main__":
    make_timm()
    make_transformers()
    make_authors()
