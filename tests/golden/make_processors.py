"""What transformers' image processors make of small pictures: processors/*, for the tests.

Run it where transformers and Pillow are installed: `python tests/golden/make_processors.py`. The
PIL-backed classes are the reference; those that torchvision backs give other pixels.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import PIL
import transformers
from PIL import Image

HERE = Path(__file__).parent / "processors"
SIZES = [(23, 37), (41, 26), (61, 29), (9, 14)]  # odd numbers of pixels are left over
SMALL = {"size": {"shortest_edge": 19}, "crop_size": {"height": 16, "width": 16}}
SQUASHED = {"size": {"height": 19, "width": 23}, "crop_size": {"height": 16, "width": 12}}
UNIT = {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}
# name: (model_type, the content of preprocessor_config.json)
CASES = {
    "vit": ("vit", {"image_processor_type": "ViTImageProcessor", "size": 17}),
    "vit_old": ("swin", {"feature_extractor_type": "ViTFeatureExtractor", "size": 17}),
    "vit_fast": ("vit", {"image_processor_type": "ViTImageProcessorFast", "size": [17, 13]}),
    "vit_short_side": (
        "vit",
        {"image_processor_type": "ViTImageProcessor", "do_center_crop": True, **SMALL},
    ),
    "vit_unit": ("vit", {"image_processor_type": "ViTImageProcessor", "size": 17, **UNIT}),
    "vit_raw": (
        "vit",
        {"size": 17, "do_rescale": False, "do_normalize": False, "resample": 1},
    ),
    "vit_scale": (
        "vit",
        {"size": 17, "rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": 1},
    ),
    "vit_unnormalised": ("vit_mae", {"size": 17, "do_normalize": False}),
    "vit_null": ("vit", {"size": 17, "crop_size": None, "do_normalize": None, "do_pad": None}),
    "clip_null": ("clip", {"do_center_crop": None, "size": [17, 13], "do_convert_rgb": None}),
    "deit": ("deit", {"image_processor_type": "DeiTImageProcessor", "size": 19, "crop_size": 16}),
    "deit_old": ("deit", {"feature_extractor_type": "DeiTFeatureExtractor", **SQUASHED}),
    "deit_whole": ("deit", {"size": 17, "do_center_crop": False}),
    "beit": ("vit", {"image_processor_type": "BeitImageProcessor", "size": 17}),
    "beit_crop": (
        "vit",
        {"image_processor_type": "BeitImageProcessor", "do_center_crop": True, **SQUASHED},
    ),
    "siglip": ("siglip", {"size": {"height": 17, "width": 17}}),
    "siglip_crop": ("siglip", {"size": 19, "do_center_crop": True, "crop_size": 16}),
    "siglip_square": ("siglip", {"size": 17, "default_to_square": True}),
    "pvt": ("pvt_v2", {"image_processor_type": "PvtImageProcessor", "size": 17}),
    "clip": ("clip", {"image_processor_type": "CLIPImageProcessor", "size": 19, "crop_size": 16}),
    "clip_old": ("clip", {"feature_extractor_type": "CLIPFeatureExtractor", **SMALL}),
    "clip_wide": ("clip", {"size": 19, "crop_size": {"height": 12, "width": 16}}),
    "clip_squashed": ("clip", SQUASHED),
    "bit": ("dinov2", {"image_processor_type": "BitImageProcessor", "size": 19, "crop_size": 16}),
    "bit_fast": ("dinov2", {"image_processor_type": "BitImageProcessorFast", **SMALL}),
    "convnext": ("vit", {"image_processor_type": "ConvNextImageProcessor", "size": 17}),
    "convnext_share": (
        "vit",
        {"image_processor_type": "ConvNextImageProcessor", "size": 17, "crop_pct": 0.7},
    ),
}
# Nothing but the class: all of its own defaults; every 27th pixel of what comes
for kind in ("ViT", "DeiT", "Beit", "Siglip", "Pvt", "CLIP", "Bit", "ConvNext"):
    CASES[f"default_{kind}"] = ("vit", {"image_processor_type": f"{kind}ImageProcessor"})
STEP = 27


def picture(height, width):
    """Smooth structure and some noise."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3)).astype("uint8"))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), "float32")
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype("uint8")


def processor(model_type, config):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"model_type": model_type}))
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(config))
        return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")


def main():
    pictures = [picture(*size) for size in SIZES]
    arrays = {f"picture{i}": pixels for i, pixels in enumerate(pictures)}
    cases = {}
    for name, (model_type, config) in CASES.items():
        found = processor(model_type, config)
        assert found.backend == "pil"
        kind = type(found).__name__
        cases[name] = {"model_type": model_type, "config": config, "class": kind}
        for i, pixels in enumerate(pictures[-2:] if name.startswith("default") else pictures):
            output = found(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
            output = output.transpose(1, 2, 0).astype("float32")
            output = output[::STEP, ::STEP] if name.startswith("default") else output
            arrays[f"{name}/{i}"] = output.astype("float16")
    versions = f"transformers {transformers.__version__} (PIL), Pillow {PIL.__version__}"
    HERE.mkdir(exist_ok=True)
    text = json.dumps({"versions": versions, "step": STEP, "cases": cases}, indent=1)
    (HERE / "cases.json").write_text(text + "\n")
    np.savez_compressed(HERE / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
