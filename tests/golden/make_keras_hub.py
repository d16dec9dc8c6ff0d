"""Makes checkpoints/kh_* and swin/kh_*: tiny random models as keras-hub saves them to presets.

    pip install keras==3.15.1 keras-hub==0.32.0 torch  # beside tensorflow-text, or with --no-deps
    KERAS_BACKEND=torch python tests/golden/make_keras_hub.py

Each folder is what `save_to_preset` wrote, without what only says when and by whom, and
`expected.npz` as make_checkpoints.py and make_swin.py describe it; keras-hub's models take one
size. processors/keras_hub.npz holds what its image converters make of pictures of floats.
"""

import json
import shutil
from pathlib import Path

import keras
import keras_hub
import numpy as np
import torch
from keras import ops
from keras_hub import models

HERE = Path(__file__).parent
VERSIONS = (
    f"keras-hub {keras_hub.__version__}, keras {keras.__version__}, torch {torch.__version__}"
)
KEPT = ("config.json", "task.json", "image_converter.json", "model.weights.h5", "task.weights.h5")


def randomize(model):
    """Far from an initialisation: a bias or scale that is never used must show."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            noise = rng.normal(0, 0.3, weight.shape)
            weight.assign(noise + 1.0 if weight.path.endswith("gamma") else noise)


def pixels(size):
    images = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3))
    return images.astype("float16").astype("float32")  # exact in both


def save(case, model, images, found):
    target = HERE / case
    shutil.rmtree(target, ignore_errors=True)
    model.save_to_preset(target)
    for file in target.iterdir():
        if file.name not in KEPT:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    arrays = {name: ops.convert_to_numpy(x) for name, x in found.items()}
    np.savez_compressed(target / "expected.npz", made_with=VERSIONS, images=images, **arrays)


def outputs(classifier, images):
    """What comes out of every block, and behind."""
    found = {"logits": classifier(images)}
    embed, encoder = classifier.backbone.layers[1:]
    x = encoder.dropout(embed(images)) if hasattr(encoder, "dropout") else embed(images)
    for i, block in enumerate(encoder.encoder_layers):
        x = block(x)
        x = x[0] if isinstance(x, tuple) else x  # with the scores
        found[f"block{i:02d}"] = x
    x = found["norm"] = encoder.layer_norm(x)
    x = x[:, 0] if classifier.pooling == "token" else ops.mean(x, axis=1)
    if getattr(classifier, "intermediate_dim", None):
        x = classifier.intermediate_layer(x)
    found["pre_logits"] = x
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(y) for y in (classifier.output_dense(x), found["logits"])), atol=1e-5
    )
    return found


SMALL = dict(image_shape=(24, 16, 3), patch_size=(8, 8), num_layers=2, num_heads=4, hidden_dim=16)


def make_vit():
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(24, 16),
        scale=[1 / 255 / x for x in (0.2, 0.3, 0.4)],
        offset=[-0.5 / 0.2, -0.4 / 0.3, -0.3 / 0.4],
    )
    backbone = models.ViTBackbone(**SMALL, mlp_dim=32, dropout_rate=0.1, layer_norm_epsilon=1e-3)
    classifier = models.ViTImageClassifier(
        backbone,
        num_classes=5,
        intermediate_dim=12,
        dropout=0.2,
        preprocessor=models.ViTImageClassifierPreprocessor(image_converter=converter),
    )
    yield "kh_vit", classifier
    backbone = models.ViTBackbone(
        **{**SMALL, "num_layers": 1}, mlp_dim=32, use_class_token=False, use_patch_bias=False
    )
    yield "kh_vit_gap", models.ViTImageClassifier(backbone, num_classes=5, pooling="gap")
    converter = keras_hub.layers.DeiTImageConverter(
        image_size=(24, 16),
        scale=1 / 127.5,
        offset=-1,
        antialias=True,
        interpolation="bicubic",
        crop_to_aspect_ratio=False,
    )
    yield (
        "kh_deit",
        models.DeiTImageClassifier(
            models.DeiTBackbone(**SMALL, intermediate_dim=32),
            num_classes=5,
            preprocessor=models.DeiTImageClassifierPreprocessor(image_converter=converter),
        ),
    )


def swin_outputs(classifier, images):
    found = {"logits": classifier(images)}
    backbone = classifier.backbone
    x = backbone.patch_embedding(images)
    for s, stage in enumerate(backbone.stages):
        h, w = stage.input_resolution
        for block in stage.blocks:
            x = block(x)
        found[f"stage{s}"] = ops.reshape(x, (len(images), h, w, -1))
        x = stage.downsample(x, H=h, W=w) if stage.downsample else x
    found["pre_logits"] = ops.mean(backbone.norm(x), axis=1)
    return found


def make_swin():
    # maps 8 x 16, then 4 x 8: in the second stage a window covers one side, and nothing shifts
    backbone = models.SwinTransformerBackbone(
        image_shape=(32, 64, 3),
        embed_dim=8,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        mlp_ratio=2.0,
        drop_path=0.2,
    )
    return models.SwinTransformerImageClassifier(backbone, num_classes=5)


CONVERTERS = {  # pictures are resized as each of them says
    "defaults": {"image_size": (24, 16)},
    "antialiased": {"image_size": (24, 16), "antialias": True},
    "squashed": {"image_size": (24, 24), "crop_to_aspect_ratio": False},
    "deit": {
        "image_size": (24, 24),
        "antialias": True,
        "interpolation": "bicubic",
        "crop_to_aspect_ratio": False,
        "scale": [1 / 255 / 0.229, 1 / 255 / 0.224, 1 / 255 / 0.225],
        "offset": [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
    },
}
PICTURES = ((24, 16), (61, 47), (30, 75), (11, 90), (9, 13))


def make_converters():
    rng = np.random.default_rng(0)
    arrays = {f"picture{i}": rng.uniform(0, 255, (*s, 3)) for i, s in enumerate(PICTURES)}
    arrays = {name: x.astype("uint8") for name, x in arrays.items()}
    for name, arguments in CONVERTERS.items():
        converter = keras_hub.layers.ViTImageConverter(**arguments)
        config = keras.saving.serialize_keras_object(converter)
        config.pop("build_config", None)
        arrays[f"{name}/config"] = json.dumps(config)
        for i in range(len(PICTURES)):
            picture = arrays[f"picture{i}"].astype("float32")
            arrays[f"{name}/{i}"] = ops.convert_to_numpy(converter(picture))
    np.savez_compressed(HERE / "processors" / "keras_hub.npz", made_with=VERSIONS, **arrays)


if __name__ == "__main__":
    make_converters()
    for case, model in make_vit():
        randomize(model)
        images = pixels((24, 16))
        save(f"checkpoints/{case}", model, images, outputs(model, images))
    model, images = make_swin(), pixels((32, 64))
    randomize(model)
    save("swin/kh_swin", model, images.astype("float16"), swin_outputs(model, images))
