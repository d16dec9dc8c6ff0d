"""A recipe's smoke form: everything that it uses, at a size that runs in seconds."""

import keras

import keras_vit
from training import recipe

SHAPE = dict(width=32, depth=2, num_heads=2, mlp_dim=64, patch_size=2, num_channels=1)
IMAGE_SIZE, NUM_CLASSES = 8, 10  # of scikit-learn's digits


def overrides(path, folder):
    """What makes the smoke form of a recipe: ten steps of a small model on embedded images.

    Crops, augmentation, rule, schedule, averaging and what is trained stay as the recipe has them.
    Where it starts from published weights, random ones of the small shape are written first.

    Args:
        path: `Path` of the recipe.
        folder: `Path` of a folder for these weights.

    Returns:
        list of overrides for `training.recipe.read`.
    """
    plan = recipe.read(path)
    model = {**SHAPE, "image_size": IMAGE_SIZE, "num_classes": NUM_CLASSES}
    found = ["model.variant=VisionTransformer"]
    found += [f"model.{key}={value}" for key, value in model.items()]
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
        keras_vit.VisionTransformer(**SHAPE, image_size=2 * IMAGE_SIZE, num_classes=3).save(source)
        found.append(f"finetune.source={source}")
    return found
