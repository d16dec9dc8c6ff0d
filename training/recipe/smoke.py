"""The smoke form of a recipe: all of its features at a size that runs in seconds."""

import keras

import keras_vit
from keras_vit.models import registry
from keras_vit.models.vit import VisionTransformer

from .. import recipe
from ..cnn import SmallCNN
from .kinds import CLASSIFICATION, DETECTION, MASKED, SEGMENTATION
from .model_schema import AUTO

IMAGE_SIZE, NUM_CLASSES, NUM_CHANNELS = 8, 10, 1  # of scikit-learn's digits
CNN = dict(widths=[8, 16])


def overrides(path, folder):
    """The overrides for the smoke form of a recipe: ten steps of a small model on digits.

    Crops, augmentation, optimizer, schedule, EMA and the trained layers stay as in the recipe. If
    it starts from published weights, random ones of the small shape are written first; if it has a
    teacher, a random one.

    Args:
        path: `Path` of the recipe.
        folder: `Path` of a folder for these weights.

    Returns:
        list of overrides for `training.recipe.read`.
    """
    plan = recipe.read(path)
    family, shape, model, more = MODELS[plan.task.kind](plan)
    if plan.model.all_arguments().get("num_classes", AUTO) != AUTO:
        model["num_classes"] = NUM_CLASSES
    found = [f"model.{key}={value}" for key, value in model.items()]
    found.append("data.source=digits")
    if plan.data.validation != AUTO:
        found.append("data.validation=0.1")
    found += ["train.epochs=2", "train.batch_size=256", "train.precision=float32"]
    found += ["distribute.strategy=none", *more]
    for key, most in (("warmup_steps", 3), ("cooldown_steps", 3), ("accumulate", 2)):
        value = getattr(plan.optimizer, key)
        found.append(f"optimizer.{key}={most if value == AUTO else min(value, most)}")
    if plan.finetune.source:
        source = folder / "source.keras"
        folder.mkdir(parents=True, exist_ok=True)
        keras.utils.set_random_seed(0)
        family(**shape, image_size=2 * IMAGE_SIZE, num_classes=3).save(source)
        found.append(f"finetune.source={source}")
    if plan.distill.teacher:
        teacher = folder / "teacher.keras"
        folder.mkdir(parents=True, exist_ok=True)
        keras.utils.set_random_seed(0)
        SmallCNN(
            **CNN,
            image_size=IMAGE_SIZE,
            num_channels=NUM_CHANNELS,
            include_preprocessing=True,
        ).save(teacher)
        found.append(f"distill.teacher={teacher}")
    return found


def _classifier(plan):
    """(class of the published model, its shape, arguments of [model], more overrides)."""
    shape = {**shape_of(plan.model.family), "num_channels": NUM_CHANNELS}
    return plan.model.family, shape, {**shape, "image_size": IMAGE_SIZE}, []


def _segmenter(plan):
    """The same of a segmentation, whose published model is an encoder; of digits in RGB."""
    encoder = shape_of(VisionTransformer)
    model = {"image_size": IMAGE_SIZE, "decoder_width": 8, "layers": [0, 1]}
    if not plan.finetune.source:
        pairs = ", ".join(f"{key} = {value}" for key, value in encoder.items())
        model["encoder"] = f'{{ variant = "VisionTransformer", {pairs} }}'
    data = ["data.validation_split=", "data.reduce_zero_label=false", "data.fit_into=[]"]
    return VisionTransformer, encoder, model, data


def _masked(plan):
    """The same of masked pre-training, on patches of 2 x 2 of the digits' 8 x 8 pixels."""
    encoder = {**shape_of(VisionTransformer), "num_channels": NUM_CHANNELS}
    pairs = ", ".join(f"{key} = {value}" for key, value in encoder.items())
    model = {"image_size": IMAGE_SIZE}
    if not plan.finetune.source:
        model["encoder"] = f'{{ variant = "VisionTransformer", {pairs} }}'
    if plan.model.family is keras_vit.MAE:
        model |= {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    else:
        model["mask_unit"] = 2
    return VisionTransformer, encoder, model, []


def _detector(plan):
    """The same of a detector, whose published model is a detector or a backbone; of scenes."""
    family = registry.FAMILIES["resnet"].model
    shape = backbone = {**shape_of(family), "num_channels": 3}
    model = dict(DETECTOR)
    if not plan.finetune.source:
        pairs = ", ".join(f"{key} = {_toml(value)}" for key, value in backbone.items())
        model["backbone"] = f'{{ variant = "ResNet", {pairs} }}'
    elif plan.model.variant == "DETR":  # others name their backbone
        family, shape = _small_detector, {"backbone": backbone}
    # Few scenes, since they have more pixels; five steps an epoch.
    data = ["data.source=digits:90", "train.batch_size=16", "data.raw_ids=false", "data.pad_to=[]"]
    data += ["data.train_split=train", "data.validation_split=", "data.test_split="]
    if plan.data.fit_into:
        data.append("data.fit_into=[72, 48]")
    for key, sides in SIDES.items():
        if getattr(plan.augment, key):
            data.append(f"augment.{key}={sides}")
    return family, shape, model, data


def _small_detector(backbone, num_classes, image_size):
    """A detector as it is published, of any size."""
    backbone = keras_vit.ResNet(**backbone, num_classes=None, image_size=None)
    return keras_vit.DETR(backbone, num_classes, **DETECTOR)


def _toml(value):
    return f'"{value}"' if isinstance(value, str) else value


# Of scenes of 48 x 48 pixels.
DETECTOR = dict(num_queries=6, width=8, encoder_depth=1, decoder_depth=2, num_heads=2, mlp_dim=8)
SIDES = {"short_sides": [32, 48], "crop_sides": [24, 40], "crop_short_sides": [32, 40]}
MODELS = {
    CLASSIFICATION: _classifier,
    SEGMENTATION: _segmenter,
    DETECTION: _detector,
    MASKED: _masked,
}


def shape_of(family):
    """Arguments of the smoke form of a class of models, with lists for tuples, as TOML has them."""
    arguments = CNN if family is SmallCNN else registry.family_of(family).smoke
    return {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
