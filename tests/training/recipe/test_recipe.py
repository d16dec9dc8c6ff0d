from pathlib import Path

import pytest

from tests.helpers import once
from training import recipe

pytestmark = once  # text is read, and nothing computed


def read(small, *overrides):
    return recipe.read(Path(small), overrides)


def test_every_recipe_of_the_package_is_valid():
    names = [path.stem for path in recipe.RECIPES.glob("*.toml")]
    assert "digits" in names
    for name in names:
        epochs = recipe.read(recipe.find(name)).train.epochs
        assert epochs == "auto" or epochs > 0


def test_values_types_and_defaults(small):
    plan = read(small)
    assert plan.model.variant == "VisionTransformer"
    assert plan.model.arguments["drop_path_rate"] == 0.2
    assert plan.augment.rotate == 10.0 and isinstance(plan.augment.rotate, float)
    assert plan.augment.flip is False
    assert plan.data.validation == 0.1


@pytest.mark.parametrize(
    ("override", "table", "key", "value"),
    [
        ("train.epochs=3", "train", "epochs", 3),
        ("train.precision=mixed_bfloat16", "train", "precision", "mixed_bfloat16"),
        ('data.source="npz:a b.npz"', "data", "source", "npz:a b.npz"),
        ("augment.flip=true", "augment", "flip", True),
        ("augment.crop_scale=[0.08, 1]", "augment", "crop_scale", (0.08, 1.0)),
        ("augment.randaugment=[2, 9]", "augment", "randaugment", (2, 9)),
        ("augment.color_jitter=[]", "augment", "color_jitter", ()),
        ("data.source=folder:/x", "data", "source", "folder:/x"),
        ("optimizer.learning_rate=1e-5", "optimizer", "learning_rate", 1e-5),
    ],
)
def test_override(small, override, table, key, value):
    assert getattr(getattr(read(small, override), table), key) == value


def test_override_of_a_model_argument(small):
    assert read(small, "model.patch_size=[2, 4]").model.arguments["patch_size"] == [2, 4]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "did you mean 'train.epochs'"),
        ("trian.epochs=3", "did you mean 'train'"),
        ("model.dept=3", "did you mean 'model.depth'"),
        ("model.dtype=float32", "Unknown key 'model.dtype'"),
        ("model.variant=ViTBas", "did you mean 'ViTBase'"),
        ("train.epochs=3.0", "of type int. Received: train.epochs=3.0 of type float"),
        ("train.epochs=true", "of type int"),
        ("augment.flip=1", "of type bool"),
        ("augment.probability=2", r"in \[0, 1\]"),
        ("augment.mixup=-0.1", r"in \[0, 100\)"),
        ("augment.cutmix=100", r"in \[0, 100\)"),
        ("augment.repeats=0", "positive"),
        ("augment.erasing=1.1", r"in \[0, 1\]"),
        ("augment.crop_scale=[1.0, 0.5]", r"\[smallest, largest\].*crop_scale=\[1.0, 0.5\]"),
        ("augment.crop_scale=[0.0, 0.5]", r"in \(0, 1\]"),
        ("augment.crop_scale=[0.5, 1.1]", r"in \(0, 1\]"),
        ("augment.crop_scale=[0.5]", r"\[smallest, largest\]"),
        ("augment.crop_scale=0.5", "of type list"),
        ("augment.crop_scale=[0.5, true]", r"crop_scale\[1\] must be of type float"),
        ("augment.crop_ratio=[]", r"\[smallest, largest\] above 0"),
        ("augment.crop_ratio=[0.0, 1.0]", "above 0"),
        ("augment.pad_crop=-1", "0 or more"),
        ("augment.randaugment=[2, 31]", "magnitude 0 to 30"),
        ("augment.randaugment=[0, 9]", "number of operations"),
        ("augment.randaugment=[2, 9.5]", r"randaugment\[1\] must be of type int"),
        ("augment.color_jitter=[0.1, 0.1]", "three strengths"),
        ("augment.color_jitter=[0.1, 0.1, -0.1]", r"in \[0, 100\)"),
        ("data.interpolation=nearest", "one of bilinear, bicubic"),
        ("data.crop_fraction=0", r"in \(0, 1\]"),
        ("data.max_corrupt=-1", "0 or more"),
        ("data.test=1", r"in \(0, 1\)"),
        ("train.epochs=0", "train.epochs must be positive"),
        ("train.label_smoothing=1.0", r"in \[0, 1\)"),
        ("train.precision=float16", "one of float32, mixed_bfloat16, mixed_float16"),
        ("data.validation=0", r"in \(0, 1\)"),
        ("optimizer.learning_rate=nan", "above 0"),
        ("optimizer.weight_decay=-0.1", "0 or more"),
        ("epochs=3", "table.key=value"),
        ("train.epochs", "table.key=value"),
    ],
)
def test_mistakes_are_named(small, override, message):
    with pytest.raises(ValueError, match=message) as error:
        read(small, override)
    assert "Received: " in str(error.value)


def test_two_kinds_of_random_crop_are_one_too_many(small):
    with pytest.raises(ValueError, match="pad_crop must be 0 beside augment.crop_scale"):
        read(small, "augment.pad_crop=1", "augment.crop_scale=[0.5, 1.0]")


def test_mistakes_in_the_file_are_named(small):
    text = Path(small).read_text()
    for wrong, message in (
        (text + "[trian]\n", "did you mean 'train'"),
        ("epochs = 3\n" + text, "Unknown table 'epochs'"),
        (text.replace("epochs = 4", ""), "train.epochs is missing"),
        (text.replace("variant", "width2"), "model.variant is missing"),
        (text + "epochs = 5\n", "no valid TOML"),
    ):
        Path(small).write_text(wrong)
        with pytest.raises(ValueError, match=message):
            read(small)


def test_an_unknown_recipe_brings_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        recipe.find("digit")
    with pytest.raises(ValueError, match="does not exist"):
        recipe.find("nowhere.toml")


def test_what_is_written_says_everything_and_reads_back(small):
    plan = read(small, "model.image_size=[8, 16]", "train.seed=7", "augment.randaugment=[2, 9]")
    text = recipe.to_toml(plan, "a comment")
    assert text.startswith("# a comment\n")
    assert "qkv_bias = true" in text  # a default of the model
    Path("again.toml").write_text(text)
    assert recipe.to_toml(recipe.read(Path("again.toml")), "a comment") == text


def test_a_run_of_before_there_was_the_key_turns_no_picture(small):
    text = recipe.to_toml(read(small, "data.source=folder:x"), "a run")
    Path("run.toml").write_text(text)
    assert recipe.to_toml(recipe.read_of_run(Path("run.toml")), "a run") == text
    Path("run.toml").write_text(text.replace("upright = true\n", ""))
    assert recipe.read(Path("run.toml")).data.upright
    assert not recipe.read_of_run(Path("run.toml")).data.upright
    Path("run.toml").write_text(recipe.to_toml(read(small), "").replace("upright = true\n", ""))
    assert recipe.read_of_run(Path("run.toml")).data.upright  # arrays are not turned
