"""Makes checkpoints/*: tiny random models as timm, transformers and big_vision save them.

    pip install timm transformers flax && python tests/golden/make_checkpoints.py
    PYTHONPATH=big_vision:vision_transformer python tests/golden/make_checkpoints.py flax

The second needs checkouts of github.com/google-research/big_vision and vision_transformer. Each
folder holds a checkpoint and `expected.npz`: `made_with`, `images` (B, H, W, C) as the model takes
them, and what came out: `block00` ..., `norm`, `pre_logits` and, with a head, `logits`; with two
heads `class` and `distillation`, whose mean is `logits`. Of timm and transformers also
`other_images`, of another size, and the model's `other_output` for them.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "checkpoints"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]


def save(case, images, found, versions):
    arrays = {key: np.asarray(value, "float32") for key, value in found.items()}
    np.savez_compressed(
        HERE / case / "expected.npz", made_with=versions, images=images.astype("float32"), **arrays
    )


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def randomize(model):
    """Far from an initialisation: a bias or scale that is never used must show."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            scale = parameter.ndim == 1 and "bias" not in name and parameter.mean() > 0.5
            parameter.copy_(noise + 1.0 if scale else noise)
    return model.eval()


def watch(blocks, found):
    for i, block in enumerate(blocks):
        block.register_forward_hook(
            lambda module, inputs, output, i=i: found.update(
                {f"block{i:02d}": output[0] if isinstance(output, tuple) else output}
            )
        )


def pixels(height, width):
    return np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3)).astype("float32")


OTHER = (40, 48)  # a size to which positions are resampled, one side more than the other

# timm

SMALL = dict(img_size=(24, 16), patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2)
TIMM = {  # case: (architecture, further model_args, num_classes)
    "timm_vit": ("vit_tiny_patch16_224", {}, 5),
    "timm_deit3": ("deit3_small_patch16_224", {}, 5),
    "timm_deit": ("deit_tiny_distilled_patch16_224", {}, 5),
    "timm_deit_features": ("deit_tiny_distilled_patch16_224", {}, 0),
    "timm_dinov2": ("vit_small_patch14_dinov2", {}, 0),
    "timm_dinov2_reg": ("vit_small_patch14_reg4_dinov2", {}, 0),
    "timm_dinov2_swiglu": ("vit_giant_patch14_dinov2", {"mlp_ratio": 4}, 0),
    "timm_siglip": ("vit_base_patch16_siglip_224", {}, 0),
    "timm_siglip_gap": ("vit_base_patch16_siglip_gap_224", {}, 5),
    # as vit_so400m_patch14_siglip_384: pixels that fill no patch are left out
    "timm_siglip_remainder": ("vit_base_patch16_siglip_224", {"img_size": (29, 19)}, 0),
    "timm_clip": ("vit_base_patch16_clip_224", {}, 5),
    "timm_clip_quickgelu": ("vit_base_patch16_clip_quickgelu_224", {}, 5),
    "timm_gap": ("vit_base_patch16_224", {"global_pool": "avg"}, 5),
    "timm_qknorm": ("vit_little_patch16_reg4_gap_256", {"qk_norm": True}, 5),
    "timm_mae": ("vit_base_patch16_224", {}, 0),
}


def timm_model(architecture, arguments, num_classes):
    import timm

    model = timm.create_model(architecture, num_classes=num_classes, **{**SMALL, **arguments})
    return randomize(model)


def timm_outputs(model, images):
    import torch

    found = {}
    with torch.no_grad():
        watch(model.blocks, found)
        x = torch.tensor(images.transpose(0, 3, 1, 2))
        tokens = model.forward_features(x)
        if type(model.norm).__name__ != "Identity":
            found["norm"] = tokens
        distilled = hasattr(model, "dist_token") and model.num_classes > 0
        if distilled:
            found["class"] = model.head(tokens[:, 0])
            found["distillation"] = model.head_dist(tokens[:, 1])
        else:
            found["pre_logits"] = model.forward_head(tokens, pre_logits=True)
        if model.num_classes:
            found["logits"] = model.forward_head(tokens)
    return found


def make_timm():
    import timm
    import torch

    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    for case, (architecture, arguments, num_classes) in TIMM.items():
        model = timm_model(architecture, arguments, num_classes)
        size = {**SMALL, **arguments}["img_size"]
        images = pixels(*size)
        taken = {"input_size": (3, *size), "crop_pct": 0.9, "interpolation": "bicubic"}
        model.pretrained_cfg.update(taken)
        config = {"label_names": NAMES} if case == "timm_vit" else None
        target = folder(case)
        timm.models.save_for_hf(
            model,
            target,
            model_config=config,
            model_args={**SMALL, **arguments},
            safe_serialization=True,
        )
        again = timm.create_model(f"local-dir:{target}", pretrained=True).eval()
        x = torch.tensor(images.transpose(0, 3, 1, 2))
        assert torch.equal(again(x), model(x)), case
        found = timm_outputs(model, images)
        other = timm.create_model(f"local-dir:{target}", pretrained=True, img_size=OTHER).eval()
        found["other_images"] = pixels(*OTHER)
        with torch.no_grad():
            x = torch.tensor(found["other_images"].transpose(0, 3, 1, 2))
            found["other_output"] = other(x)
        save(case, images, found, versions)
    make_files(pixels(24, 16), versions)


def make_files(images, versions):
    """The same ViT in the files that PyTorch writes."""
    import safetensors.torch
    import torch

    class Evil:
        def __reduce__(self):
            return os.system, ("touch EVIL_RAN",)

    for case, architecture in {
        "torch_zip": "vit_tiny_patch16_224",
        "torch_legacy": "vit_tiny_patch16_224",
        "torch_deit": "vit_tiny_patch16_224",
        "torch_deit_distilled": "deit_tiny_distilled_patch16_224",
        "torch_deit3": "deit3_small_patch16_224",
        "torch_half": "vit_tiny_patch16_224",
        "safetensors_bf16": "vit_tiny_patch16_224",
    }.items():
        model, target = timm_model(architecture, {}, 5), folder(case)
        state = model.state_dict()
        if case == "torch_deit3":  # as its authors name LayerScale
            state = {re.sub(r"ls([12])\.gamma", r"gamma_\1", k): v for k, v in state.items()}
        if case == "torch_zip":
            torch.save(state, target / "model.pth")
        elif case == "torch_legacy":
            torch.save(state, target / "model.pth", _use_new_zipfile_serialization=False)
        elif case.startswith("torch_deit"):
            torch.save({"model": state, "epoch": 3}, target / "checkpoint.pth")
        else:
            dtype = torch.float16 if case == "torch_half" else torch.bfloat16
            state = {key: value.to(dtype) for key, value in state.items()}
            model.load_state_dict({key: value.float() for key, value in state.items()})
            if case == "torch_half":
                torch.save(state, target / "pytorch_model.bin")
            else:
                safetensors.torch.save_file(state, target / "model.safetensors")
        save(case, images, timm_outputs(model, images), versions)
    torch.save({**state, "evil": Evil()}, folder("torch_evil") / "model.pth")


# transformers

TINY = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=24,
    patch_size=8,
)
DINO = {k: v for k, v in TINY.items() if k != "intermediate_size"} | {"mlp_ratio": 2}
TEXT = dict(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=20,
    max_position_embeddings=8,
)
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {x: i for i, x in enumerate(NAMES)}}


def transformers_models():
    """case: (model, its blocks, the last normalisation, how to get features and logits)."""
    import transformers as t

    def pooled(output):
        return {"pre_logits": output.pooler_output}

    def first(output):
        return {"pre_logits": output.last_hidden_state[:, 0]}

    def logits(output):
        return {"logits": output.logits}

    def both_logits(output):
        heads = {"class": output.cls_logits, "distillation": output.distillation_logits}
        return {**heads, "logits": output.logits}

    vit = t.ViTForImageClassification(t.ViTConfig(**TINY, **LABELS))
    yield "hf_vit", vit, vit.vit, logits
    wide = t.ViTForImageClassification(t.ViTConfig(**{**TINY, "image_size": (24, 16)}, **LABELS))
    yield "hf_vit_wide", wide, wide.vit, logits
    vit = t.ViTModel(t.ViTConfig(**TINY))
    yield "hf_vit_model", vit, vit, pooled
    deit = t.DeiTForImageClassification(t.DeiTConfig(**TINY, **LABELS))
    yield "hf_deit", deit, deit.deit, logits
    deit = t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**TINY, **LABELS))
    yield "hf_deit_teacher", deit, deit.deit, both_logits
    deit = t.DeiTModel(t.DeiTConfig(**TINY))
    yield "hf_deit_model", deit, deit, pooled
    dino = t.Dinov2Model(t.Dinov2Config(**DINO))
    yield "hf_dinov2", dino, dino, pooled
    dino = t.Dinov2Model(t.Dinov2Config(**DINO, use_swiglu_ffn=True))
    yield "hf_dinov2_swiglu", dino, dino, pooled
    dino = t.Dinov2ForImageClassification(t.Dinov2Config(**DINO, **LABELS))
    yield "hf_dinov2_classifier", dino, dino.dinov2, logits
    dino = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**DINO))
    yield "hf_dinov2_registers", dino, dino, pooled
    siglip = t.SiglipVisionModel(t.SiglipVisionConfig(**TINY))
    yield "hf_siglip", siglip, siglip, pooled
    siglip = t.SiglipVisionModel(t.SiglipVisionConfig(**{**TINY, "image_size": 29}))
    yield "hf_siglip_remainder", siglip, siglip, pooled
    config = t.SiglipConfig(text_config=TEXT, vision_config=TINY)
    siglip = t.SiglipModel(config)
    yield "hf_siglip_both", siglip, siglip.vision_model, pooled
    config = t.SiglipConfig(text_config=TEXT, vision_config=TINY, **LABELS)
    siglip = t.SiglipForImageClassification(config)
    yield "hf_siglip_classifier", siglip, siglip.vision_model, logits
    clip = t.CLIPVisionModel(t.CLIPVisionConfig(**TINY))
    yield "hf_clip", clip, clip, pooled
    clip = t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=TINY, projection_dim=8))
    yield "hf_clip_both", clip, clip.vision_model, pooled
    decoder = dict(
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    mae = t.ViTMAEForPreTraining(t.ViTMAEConfig(**TINY, **decoder, mask_ratio=0.0))
    yield "hf_mae", mae, mae.vit, first


def make_transformers():
    import safetensors.torch
    import torch
    import transformers

    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    for case, model, tower, read in transformers_models():
        randomize(model)
        images = pixels(*image_size(case))
        x, found = torch.tensor(images.transpose(0, 3, 1, 2)), {}
        lists = [x for x in tower.modules() if isinstance(x, torch.nn.ModuleList) and len(x) == 2]
        watch(lists[0], found)  # the blocks
        norm = getattr(tower, "post_layernorm", None) or tower.layernorm
        norm.register_forward_hook(lambda m, i, output, found=found: found.update(norm=output))
        runner = model if "logits" in read.__name__ else tower
        # noise that ascends leaves the patches in their order
        noise = {"noise": torch.arange(9.0)[None].repeat(2, 1)}
        arguments = noise if case == "hf_mae" else {}
        with torch.no_grad():
            output = runner(x, **arguments)
        found.update(read(output))
        if case not in ("hf_mae", "hf_vit_wide"):  # whose own code resamples squares alone
            found["other_images"] = pixels(*OTHER)
            x = torch.tensor(found["other_images"].transpose(0, 3, 1, 2))
            arguments = {} if "dinov2" in case else {"interpolate_pos_encoding": True}
            kept = dict(found)
            with torch.no_grad():
                kept["other_output"] = list(read(runner(x, **arguments)).values())[-1]
            found = kept  # without what the hooks saw this time
        if case.startswith("hf_clip") or found["norm"].ndim == 2:
            del found["norm"]  # CLIP normalises the class token alone
        target = folder(case)
        model.save_pretrained(target)
        (target / "preprocessor_config.json").write_text(json.dumps(processor(case), indent=1))
        save(case, images, found, versions)
        if case == "hf_vit":
            model.save_pretrained(folder("hf_sharded"), max_shard_size="20KB")
            save("hf_sharded", images, found, versions)
            # transformers 4 wrote these names to such files; 5 has others in memory
            state = safetensors.torch.load_file(target / "model.safetensors")
            torch.save(state, folder("hf_bin") / "pytorch_model.bin")
            shutil.copy(target / "config.json", HERE / "hf_bin")
            save("hf_bin", images, found, versions)
    config = transformers.TimmWrapperConfig(
        architecture="vit_tiny_patch16_224", model_args=SMALL, **LABELS
    )
    wrapped = randomize(transformers.TimmWrapperForImageClassification(config))
    wrapped.save_pretrained(folder("hf_timm_wrapper"))
    images = pixels(24, 16)
    save("hf_timm_wrapper", images, timm_outputs(wrapped.timm_model.eval(), images), versions)


def image_size(case):
    return {"hf_vit_wide": (24, 16), "hf_siglip_remainder": (29, 29)}.get(case, (24, 24))


def processor(case):
    """What the library's own image processor of this class writes, at 24 pixels."""
    import transformers as t

    side = dict(zip(("height", "width"), image_size(case), strict=True))
    if "clip" in case and "siglip" not in case:
        found = t.CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=24)
    elif "dinov2" in case:
        found = t.BitImageProcessor(size={"shortest_edge": 28}, crop_size=24)
    elif "deit" in case:
        found = t.DeiTImageProcessor(size={"height": 28, "width": 28}, crop_size=side)
    elif "siglip" in case:
        found = t.SiglipImageProcessor(size=side)
    else:
        found = t.ViTImageProcessor(size=side)
    return json.loads(found.to_json_string())


# big_vision and vision_transformer

NOT_ZERO = 0.2


def flax_parameters(model, images):
    import jax

    variables = model.init(jax.random.PRNGKey(0), images)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: np.asarray(x + rng.normal(0, NOT_ZERO, x.shape), "float32"),
        dict(variables["params"]),
    )


def flatten(tree, prefix=""):
    for key, value in sorted(tree.items()):
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def make_flax():
    import flax
    import jax
    from big_vision.models import vit as bv
    from vit_jax import models_vit as vt

    versions = f"flax {flax.__version__}, jax {jax.__version__}"
    images = pixels(24, 24)
    small = dict(patch_size=(8, 8), width=32, depth=2, mlp_dim=64, num_heads=4)
    cases = {  # case: (arguments, prefix of the names, what is done to the parameters)
        "bv_gap": (dict(pool_type="gap", num_classes=5), "params/", None),
        "bv_tok": (dict(pool_type="tok", num_classes=5, rep_size=16), "params/", None),
        "bv_map": (dict(pool_type="map", num_classes=5), "params/", None),
        "bv_sincos": (dict(pool_type="gap", num_classes=5, posemb="sincos2d"), "params/", None),
        "bv_scan": (dict(pool_type="map", scan=True), "params/img/", None),
        "bv_bf16": (dict(pool_type="gap", num_classes=5), "params/", "bfloat16"),
    }
    for case, (arguments, prefix, dtype) in cases.items():
        num_classes = arguments.pop("num_classes", None)
        model = bv.Model(num_classes, **small, **arguments)
        parameters = flax_parameters(model, images)
        flat = dict(flatten(parameters, prefix))
        if dtype:
            flat = {key: jax.numpy.asarray(value, dtype) for key, value in flat.items()}
            parameters = jax.tree.map(
                lambda x: np.asarray(jax.numpy.asarray(x, "bfloat16"), "float32"), parameters
            )
        with jax.default_matmul_precision("highest"):
            _, out = model.apply({"params": parameters}, images)
        encoder = out["encoder"]
        found = {f"block{i:02d}": encoder[f"block{i:02d}"]["+mlp"] for i in range(2)}
        found.update(norm=out["encoded"], pre_logits=out["pre_logits"])
        if num_classes:
            found["logits"] = out["logits"]
        if case == "bv_scan":
            rest = {"params/t": np.ones(1), "params/b": np.ones(1)}
            flat.update(rest, **{"params/txt/head/kernel": np.ones((3, 2), "float32")})
        np.savez(folder(case) / "model.npz", **{key: np.asarray(x) for key, x in flat.items()})
        save(case, images, found, versions)

    for case, size in (("vt_token", None), ("vt_pre_logits", 16)):
        model = vt.VisionTransformer(
            num_classes=5,
            patches=type("Patches", (), {"size": (8, 8)}),
            transformer=dict(
                num_layers=2, mlp_dim=64, num_heads=4, dropout_rate=0, attention_dropout_rate=0
            ),
            hidden_size=32,
            representation_size=size,
            classifier="token",
        )
        variables = model.init(jax.random.PRNGKey(0), images, train=False)
        rng = np.random.default_rng(0)
        parameters = jax.tree.map(
            lambda x, rng=rng: np.asarray(x + rng.normal(0, NOT_ZERO, x.shape), "float32"),
            dict(variables["params"]),
        )
        logits, state = model.apply(
            {"params": parameters}, images, train=False, capture_intermediates=True
        )
        inner = state["intermediates"]["Transformer"]
        found = {f"block{i:02d}": inner[f"encoderblock_{i}"]["__call__"][0] for i in range(2)}
        found.update(norm=inner["encoder_norm"]["__call__"][0], logits=logits)
        flat = dict(flatten(parameters))
        np.savez(folder(case) / "model.npz", **flat)
        save(case, images, found, versions)
        # The published files are older: their flax numbered all modules of a block together.
        published = {"Attention_0": "Attention_1", "LayerNorm_1": "LayerNorm_2"}
        published["MlpBlock_0"] = "MlpBlock_3"
        for new, old in published.items():
            flat = {key.replace(new, old): value for key, value in flat.items()}
        np.savez(folder(f"{case}_published") / "model.npz", **flat)
        save(f"{case}_published", images, found, versions)


if __name__ == "__main__":
    makers = {"timm": make_timm, "transformers": make_transformers, "flax": make_flax}
    for which in sys.argv[1:] or ("timm", "transformers"):
        makers[which]()
