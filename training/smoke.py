"""A recipe's smoke form: everything that it uses, at a size that runs in seconds."""

import keras

import keras_vit
from training import recipe
from training.cnn import SmallCNN

IMAGE_SIZE, NUM_CLASSES, NUM_CHANNELS = 8, 10, 1  # of scikit-learn's digits
STAGES = dict(depths=[1, 1], num_heads=[1, 2])
PYRAMID = dict(**STAGES, widths=[16, 32], mlp_ratios=[2, 2], reductions=[2, 1])
BLOCKS = dict(width=32, depth=2, num_heads=2, mlp_dim=64)
SHAPES = {
    keras_vit.VisionTransformer: dict(**BLOCKS, patch_size=2),
    keras_vit.CaiT: dict(**BLOCKS, patch_size=2),
    keras_vit.HybridVisionTransformer: dict(
        **BLOCKS, stem_depths=[1], stem_width=8, stem_groups=4, patch_size=1
    ),
    keras_vit.SwinTransformer: dict(**STAGES, width=16, patch_size=2, window_size=2),
    keras_vit.PyramidVisionTransformer: dict(**PYRAMID, patch_sizes=[2, 2]),
    keras_vit.PyramidVisionTransformerV2: dict(**PYRAMID, patch_sizes=[3, 3], strides=[2, 2]),
    SmallCNN: dict(widths=[8, 16]),
}


def overrides(path, folder):
    """What makes the smoke form of a recipe: ten steps of a small model on embedded images.

    Crops, augmentation, rule, schedule, averaging and what is trained stay as the recipe has them.
    Where it starts from published weights, random ones of the small shape are written first, and
    where it has a teacher, a random one.

    Args:
        path: `Path` of the recipe.
        folder: `Path` of a folder for these weights.

    Returns:
        list of overrides for `training.recipe.read`.
    """
    plan = recipe.read(path)
    family = plan.model.family
    if family not in SHAPES:
        known = ", ".join(x.__name__ for x in SHAPES)
        raise ValueError(f"A smoke run is of one of {known}. Received: {family.__name__}")
    shape = {**SHAPES[family], "num_channels": NUM_CHANNELS}
    model = {**shape, "image_size": IMAGE_SIZE, "num_classes": NUM_CLASSES}
    found = [f"model.{key}={value}" for key, value in model.items()]
    found += ["data.source=digits", "data.validation=0.1"]
    found += ["train.epochs=2", "train.batch_size=256", "train.precision=float32"]
    found.append("distribute.strategy=none")
    found.append(f"optimizer.warmup_steps={min(plan.optimizer.warmup_steps, 3)}")
    found.append(f"optimizer.cooldown_steps={min(plan.optimizer.cooldown_steps, 3)}")
    found.append(f"optimizer.accumulate={min(plan.optimizer.accumulate, 2)}")
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
            **SHAPES[SmallCNN],
            image_size=IMAGE_SIZE,
            num_channels=NUM_CHANNELS,
            include_preprocessing=True,
        ).save(teacher)
        found.append(f"distill.teacher={teacher}")
    return found
