"""The tiny models that `make_saved_0_1` writes: every class and most arguments between them."""

import keras
import numpy as np

import keras_vit
from keras_vit import layers
from keras_vit.layers.initializers import Initial
from keras_vit.optimizers import LayerwiseAdamW, WarmupSchedule, decays, layer_shares
from tests.helpers import tiny_cait, tiny_hybrid, tiny_swin, tiny_vit, to_numpy
from training.cnn import SmallCNN
from training.lora import enable_lora

NAMES = ["cat", "dog", "horse", "bird"]


def fill(model, seed=1):
    """Weights of few digits, which a small archive holds, far from any initialisation."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" not in weight.path:
            noise = rng.integers(-24, 25, weight.shape) / 128
            weight.assign(np.round(to_numpy(weight) * 128) / 128 + noise)


def preprocessor(size=(24, 16), **arguments):
    return keras_vit.Preprocessor(size, "short_side", 0.9, interpolation="bilinear", **arguments)


def pyramid(version, **arguments):
    small = dict(
        image_size=(24, 16),
        depths=(1, 1),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
        num_classes=4,
    )
    if version == 1:
        small["patch_sizes"] = (4, 2)
        return keras_vit.PyramidVisionTransformer(**{**small, **arguments})
    small.update(patch_sizes=(7, 3), strides=(4, 2))
    return keras_vit.PyramidVisionTransformerV2(**{**small, **arguments})


def hybrid_of_a_cnn():
    x = keras.Input((24, 16, 3))
    y = keras.layers.Conv2D(4, 3, 4, padding="same", name="convolution")(x)
    y = keras.layers.BatchNormalization(name="cnn_norm")(y)
    stem = keras.Model(x, y, name="cnn")
    return tiny_hybrid(stem=stem, stem_depths=(), frozen_layers=["cnn/cnn_norm"], class_names=NAMES)


# Name: function that makes a model of a family.
FAMILIES = {
    "vit": lambda: tiny_vit(
        image_size=None,
        position_grid=(3, 2),
        num_registers=2,
        layer_scale=0.1,
        mlp="swiglu",
        qk_norm=True,
        drop_path_rate=0.1,
        include_preprocessing=True,
        preprocessor=preprocessor(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
        class_names=NAMES,
        frozen_layers=["patch_embedding", "block00/attention", "block01/mlp/fc1/bias"],
    ),
    "vit_gap": lambda: tiny_vit(
        pooling="gap",
        depth=1,
        fc_norm=True,
        position_embedding="sincos",
        remat=True,
        dropout_rate=0.1,
        dtype="mixed_bfloat16",
        preprocessor=preprocessor(convention="transformers"),
    ),
    "vit_map": lambda: tiny_vit(pooling="map", depth=1, mlp="gelu_tanh", num_classes=None),
    "vit_token_gap": lambda: tiny_vit(
        pooling="token_gap", depth=1, position_embedding="learned_patches", pre_norm=True
    ),
    "deit": lambda: tiny_vit(
        distillation_token=True, class_names=NAMES, frozen_layers=["block00"], depth=2
    ),
    "cait": lambda: tiny_cait(
        layer_scale=0.1,
        remat=True,
        frozen_layers=["class_block00/attention/query"],
        preprocessor=preprocessor(),
    ),
    "hybrid": lambda: tiny_hybrid(
        image_size=None, position_grid=(3, 2), representation_size=8, convention="timm"
    ),
    "hybrid_of_a_cnn": hybrid_of_a_cnn,
    "swin": lambda: tiny_swin(
        depths=(2, 1), frozen_layers=["stage0_block01/attention/qkv"], dtype="mixed_float16"
    ),
    "swin_v2": lambda: tiny_swin(
        depths=(2, 1),
        version=2,
        pretrained_window_size=(2, 2),
        include_preprocessing=True,
        convention="timm",
        remat=True,
        class_names=NAMES,
        preprocessor=preprocessor(32),
    ),
    "pvt": lambda: pyramid(1, drop_path_rate=0.1, class_names=NAMES),
    "pvt_v2": lambda: pyramid(2, remat=True, frozen_layers=["stage1_block00/mlp"]),
    "pvt_v2_linear": lambda: pyramid(2, pool_size=2, reductions=(1, 1), include_preprocessing=True),
    "small_cnn": lambda: SmallCNN(
        num_classes=4, image_size=16, widths=(4, 8), class_names=NAMES, include_preprocessing=True
    ),
}
IN_PIXELS = ["vit", "swin_v2", "pvt_v2_linear", "small_cnn", "every_layer"]


def every_layer():
    """A functional model around every layer that the library registers with Keras."""
    images = keras.Input((16, 16, 3), name="images")  # pixels
    x = layers_in = keras_vit.Preprocessor(16, "squash", 1.0)(images)
    x = layers.PatchEmbedding(16, 4)(x)
    x = layers.ClassToken(1)(x)  # 1 + 4 x 4 tokens
    x = layers.AddPositionEmbedding((2, 2), 4, num_prefix_tokens=1)(x, layers_in)
    x = layers.Attention(2, qk_norm=True)(x)
    x = layers.TalkingHeadsAttention(2)(x)
    x = layers.DropPath(0.1)(layers.LayerScale(0.5)(layers.MLP(8)(x)))
    x = layers.TransformerBlock(2, 8, layer_scale=0.1)(x)
    y = layers.TokensToGrid(patch_size=4, num_prefix_tokens=1)(x, layers_in)  # 4 x 4 x 16
    y = layers.SpatialReductionAttention(2, reduction=2)(y)
    y = layers.PyramidBlock(2, 8, reduction=2)(layers.ConvolutionalMLP(8)(y))
    y = layers.SwinBlock(2, 8, window_size=2, shifted=True)(y)
    y = layers.BottleneckBlock(16, groups=2)(layers.StandardizedConv2D(16, 3)(y))
    y = layers.PatchMerging()(y)  # of a map 2 x 2
    z = layers.WindowAttention(2, window_size=2, version=2)(layers.PatchEmbedding(16, 8)(layers_in))
    of_maps = [
        keras.layers.GlobalAveragePooling2D()(keras.layers.Dense(16, name="merged")(y)),
        keras.layers.GlobalAveragePooling2D()(layers.OverlappingPatchEmbedding(16)(layers_in)),
    ]
    of_tokens = [
        layers.TokenPooling()(layers.ClassAttention(2)(x)),
        layers.TokenPooling()(layers.ClassAttentionBlock(2, 8)(x)),
        layers.TokenPooling("gap")(z),
        layers.AttentionPooling(2, 8)(x),
    ]
    x = keras.layers.Concatenate()(of_maps + of_tokens)
    x = keras.layers.Dense(8, kernel_initializer=Initial("he_normal"), name="initial")(x)
    model = keras.Model(images, layers.ClassificationHead(4)(x), name="every_layer")
    missing = registered(keras.layers.Layer) - {type(layer).__name__ for layer in model.layers}
    missing -= registered(keras.Model)
    assert not missing, f"a layer of every kind must be in it; missing: {sorted(missing)}"
    return model


def registered(kind=object):
    """Names of the classes of a kind that `keras_vit` registers with Keras."""
    found = keras.saving.get_custom_objects()
    return {
        name.removeprefix("keras_vit>")
        for name, value in found.items()
        if name.startswith("keras_vit>") and issubclass(value, kind)
    }


def small(**arguments):
    """What the compiled models are, without anything random."""
    size = dict(image_size=16, width=8, mlp_dim=16, num_classes=3)
    model = tiny_vit(**{**size, **arguments})
    fill(model)
    return model


def layerwise(model):
    return LayerwiseAdamW(
        WarmupSchedule(3e-2, total_steps=12, warmup_steps=5),
        weight_decay=0.1,
        shares=layer_shares(model, 0.7),
        decays=[decays(v.path) for v in model.trainable_variables],
        clipnorm=1.0,
    )


def adapted():
    model = small(depth=1, class_names=NAMES[:3])
    enable_lora(model, 2)
    fill(model, 2)
    return model


CROSSENTROPY = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
optimizers = keras.optimizers

# Name: function that makes a model, one from it to its optimizer, and the loss.
COMPILED = {
    "adamw": (
        lambda: small(depth=1),
        lambda model: optimizers.AdamW(2e-2, weight_decay=0.1, global_clipnorm=1.0),
        CROSSENTROPY,
    ),
    "layerwise": (lambda: small(depth=2), layerwise, CROSSENTROPY),
    "muon": (
        lambda: small(depth=1),
        lambda model: optimizers.Muon(2e-2, weight_decay=0.1),
        keras_vit.DistillationLoss("soft", temperature=2.0),
    ),
    # The scale grows after every second step.
    "loss_scale": (
        lambda: small(depth=1, dtype="mixed_float16"),
        lambda model: optimizers.LossScaleOptimizer(
            optimizers.Adam(2e-2), initial_scale=8.0, dynamic_growth_steps=2
        ),
        CROSSENTROPY,
    ),
    # After the first step that follows the saving the model has the average.
    "ema": (
        lambda: small(depth=1),
        lambda model: optimizers.AdamW(
            2e-2, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=4
        ),
        CROSSENTROPY,
    ),
    # The first step after the saving completes the second update.
    "accumulation": (
        lambda: small(depth=1),
        lambda model: optimizers.Adam(2e-2, gradient_accumulation_steps=2),
        CROSSENTROPY,
    ),
    "lora": (adapted, lambda model: optimizers.Adam(2e-2), CROSSENTROPY),
}
