"""Makes swin/*: tiny random Swin Transformers as timm, transformers and their authors save them.

    pip install timm transformers && python tests/golden/make_swin.py

Each folder holds a checkpoint and `expected.npz`: `made_with`; `images`, `stage0` ... (the map
after a stage's last block), `pre_logits` and, with a head, `logits` at the model's own size; and
the same with `_other` behind the name for a size that windows do not divide, `_small` for maps
smaller than the window, `_window` for windows of 6 instead of 4 (whose bias tables timm resamples).
"""

import json
import shutil
from pathlib import Path

import numpy as np
import timm
import torch
import transformers

HERE = Path(__file__).parent / "swin"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]
VERSIONS = (
    f"timm {timm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
)
# maps 8 x 8, then 4 x 4: the window of the second stage covers its map, and nothing shifts there
SMALL = dict(img_size=(32, 32), embed_dim=8, depths=(2, 2), num_heads=(2, 4), window_size=4)
SMALL["mlp_ratio"] = 2.0
SIZES = {
    "": (32, 32),
    "_other": (44, 60),  # maps 11 x 15, then 6 x 8
    "_small": (24, 40),  # maps 6 x 10, then 3 x 5: one side smaller than the window
}


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
            keeps = "norm" in name and name.endswith("weight") or "logit_scale" in name
            parameter.copy_(noise + (1.0 if keeps else 0.0))
    return model.eval()


def pixels(size):
    batch = 2 if size == (32, 32) else 1
    images = np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3))
    return images.astype("float16")  # exact in float32 too, and half as large a file


def watch(blocks, found):
    """Notes the output of the last block of each stage."""
    for s, block in enumerate(blocks):
        block.register_forward_hook(
            lambda module, inputs, output, s=s: found.update(
                {f"stage{s}": output[0] if isinstance(output, tuple) else output}
            )
        )


def save(case, runs):
    """`runs`: suffix -> (images, what came out)."""
    arrays = {"made_with": VERSIONS}
    for suffix, (images, found) in runs.items():
        arrays[f"images{suffix}"] = images
        for name, value in found.items():
            value = np.asarray(value, "float32")
            if name.startswith("stage") and value.ndim == 3:  # transformers keeps rows of places
                s = int(name[-1])
                h, w = (-(-side // (4 * 2**s)) for side in images.shape[1:3])
                value = value.reshape(len(images), h, w, -1)
            arrays[f"{name}{suffix}"] = value
    np.savez_compressed(HERE / case / "expected.npz", **arrays)


def channels_first(images):
    return torch.tensor(images.astype("float32").transpose(0, 3, 1, 2))


# timm

TIMM = {  # case: (architecture, further model_args, num_classes)
    "timm_swin": ("swin_tiny_patch4_window7_224", {}, 5),
    "timm_swin_features": ("swin_tiny_patch4_window7_224", {"qkv_bias": False}, 0),
    "timm_swinv2": ("swinv2_tiny_window8_256", {}, 5),
    "timm_swinv2_pretrained": (
        "swinv2_base_window12to16_192to256",
        {"pretrained_window_sizes": (3, 2)},
        5,
    ),
}


def timm_outputs(model, images):
    found = {}
    watch([stage.blocks[-1] for stage in model.layers], found)
    with torch.no_grad():
        x = model.forward_features(channels_first(images))
        found["pre_logits"] = model.forward_head(x, pre_logits=True)
        if model.num_classes:
            found["logits"] = model.forward_head(x)
    return found


def make_timm():
    for case, (architecture, arguments, num_classes) in TIMM.items():
        arguments = {**SMALL, **arguments}
        model = randomize(timm.create_model(architecture, num_classes=num_classes, **arguments))
        model.pretrained_cfg.update(input_size=(3, 32, 32), crop_pct=0.9, interpolation="bicubic")
        target = folder(case)
        config = {"label_names": NAMES} if case == "timm_swin" else None
        timm.models.save_for_hf(
            model, target, model_config=config, model_args=arguments, safe_serialization=True
        )
        runs = {}
        for suffix, size in [*SIZES.items(), ("_window", SIZES["_other"])]:
            if suffix in ("_small", "_window") and case != "timm_swin":
                continue
            more = {"window_size": 6} if suffix == "_window" else {}
            again = timm.create_model(
                f"local-dir:{target}", pretrained=True, img_size=size, **more
            ).eval()
            images = pixels(size)
            runs[suffix] = images, timm_outputs(again, images)
        save(case, runs)
        if case in ("timm_swin", "timm_swinv2"):
            make_original(case.replace("timm", "ms"), model, runs[""])


def make_original(case, model, run):
    """The names of github.com/microsoft/Swin-Transformer, with the buffers that it saves."""
    state = {}
    for name, value in model.state_dict().items():
        for s in (1, 2, 3):  # there the merging belongs to the stage before
            name = name.replace(f"layers.{s}.downsample", f"layers.{s - 1}.downsample#")
        state[name.replace("#", "").replace("head.fc", "head")] = value
    for name, buffer in model.named_buffers():
        if not name.endswith("k_bias"):
            state[name] = buffer
    path = folder(case) / "swin.pth"
    torch.save({"model": state, "epoch": 3}, path, _use_new_zipfile_serialization=False)
    save(case, {"": run})


# transformers


def make_transformers():
    t = transformers
    arguments = {k: v for k, v in SMALL.items() if k != "img_size"}
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {x: i for i, x in enumerate(NAMES)}}
    cases = {
        "hf_swin": (t.SwinForImageClassification, t.SwinConfig, labels),
        "hf_swin_model": (t.SwinModel, t.SwinConfig, {"hidden_act": "gelu_new"}),
        "hf_swinv2": (t.Swinv2ForImageClassification, t.Swinv2Config, labels),
        "hf_swinv2_model": (t.Swinv2Model, t.Swinv2Config, {"pretrained_window_sizes": (3, 2)}),
    }
    for case, (model_class, config_class, more) in cases.items():
        target = folder(case)
        more = {"image_size": 32, **arguments, **more}
        model = randomize(model_class(config_class(**more)))
        model.save_pretrained(target)
        processor = t.ViTImageProcessor(size={"height": 32, "width": 32})
        (target / "preprocessor_config.json").write_text(
            json.dumps(json.loads(processor.to_json_string()), indent=1)
        )
        runs = {}
        for suffix in ("", "_other"):
            size = SIZES[suffix]
            built = model_class(config_class(**{**more, "image_size": size})).eval()
            built.load_state_dict(model.state_dict())
            tower = getattr(built, "swin", None) or getattr(built, "swinv2", None) or built
            found, images = {}, pixels(size)
            watch([stage.blocks[-1] for stage in tower.encoder.layers], found)
            with torch.no_grad():
                output = built(channels_first(images))
            if "logits" in output:
                found["logits"] = output.logits
            else:
                found["pre_logits"] = output.pooler_output
            runs[suffix] = images, found
        save(case, runs)


if __name__ == "__main__":
    make_timm()
    make_transformers()
