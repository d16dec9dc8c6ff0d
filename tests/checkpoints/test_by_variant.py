"""A variant's name as a source, and `weights=` of a variant."""

import shutil

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints import pretrained
from keras_vit.checkpoints.catalog import catalog
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.variants import best_checkpoint, find_variant
from keras_vit.models.registry import variants
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import images, once, run

pytestmark = once  # which checkpoint it is depends on no backend

TIMM = GOLDEN / "timm_vit"
BEST = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An offline cache of huggingface_hub, and a function that puts a folder into it."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(folder, name):
        cached, commit = tmp_path / "hub" / f"models--timm--{name}", "0" * 40
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text(commit)
        shutil.copytree(folder, cached / "snapshots" / commit)

    return put


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("ViTTiny", "ViTTiny"),
        ("vittiny", "ViTTiny"),
        ("vit_tiny", "ViTTiny"),
        ("VIT-TINY", "ViTTiny"),
        ("swin_v2_base", "SwinV2Base"),
        ("VisionTransformer", None),
        ("google/ViTTiny", None),
        ("", None),
    ],
)
def test_variants_are_found_as_people_write_them(name, variant):
    assert find_variant(name) == variant


@pytest.mark.parametrize(
    ("variant", "best"),
    [
        ("ViTTiny", BEST),  # at 384 pixels there is a better one
        ("ViTSmall", "vit_small_patch16_224.augreg_in21k_ft_in1k"),
        ("ViTSo400m", "vit_so400m_patch14_siglip_378.webli_ft_in1k"),  # none at 224 pixels
        ("SwinTiny", "swin_tiny_patch4_window7_224.ms_in1k"),  # other windows are more accurate
        ("DeiTBase", "deit_base_distilled_patch16_224.fb_in1k"),
        ("ViTGiant", None),
        ("PVTTiny", None),
    ],
)
def test_the_best_is_the_most_accurate_of_the_variant_s_own_size(variant, best):
    assert best_checkpoint(variant) == best


def test_the_best_of_every_variant_is_one_of_that_variant():
    """As `weights="imagenet"` would check it, and `list_models` names it."""
    named = {row[0]: row[-1] for row in keras_vit.list_models()}
    for variant in variants():
        best = best_checkpoint(variant)
        assert named[variant] == (best or "")
        if best is not None:
            model, config = pretrained._described(catalog()[best])
            pretrained._check_variant(variant, best, model, config, {})
            assert catalog()[best].num_classes == 1000


def test_a_variant_s_name_is_a_source(hub):
    hub(TIMM, BEST)
    expected = run(keras_vit.from_pretrained(TIMM), images())
    for source in ("ViTTiny", "vit_tiny"):
        model = keras_vit.from_pretrained(source)
        np.testing.assert_allclose(run(model, images()), expected, atol=1e-6)
    assert keras_vit.from_preset is keras_vit.from_pretrained
    (note,) = [x for x in model.load_report.notes if x.startswith("ViTTiny")]
    assert f"is {BEST} (75.5 % top-1 on ImageNet-1k at 224 pixels, licence apache-2.0)" in note
    assert "others: deit_tiny_patch16_224.fb_in1k" in note
    assert note in model.load_report.summary()
    assert note in keras_vit.load_weights(model, "ViTTiny").notes


def test_a_folder_of_that_name_comes_first(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TIMM, "ViTTiny")
    model = keras_vit.from_pretrained("ViTTiny")
    assert not any("best known" in x for x in model.load_report.notes)


def test_offline_the_error_names_what_to_download(hub):
    for load in (keras_vit.from_pretrained, lambda x: keras_vit.ViTTiny(weights="imagenet")):
        with pytest.raises(CheckpointError) as error:
            load("ViTTiny")
        for said in (
            f"'{BEST}' (about 23 MB) could not be",
            f"`hf download timm/{BEST}`",
            "others",
        ):
            assert said in str(error.value)


def test_a_variant_without_a_classifier_names_what_there_is(hub):
    with pytest.raises(CheckpointError, match="such as vit_giant_patch14_clip_224.laion2b. Rec"):
        keras_vit.from_pretrained("ViTGiant")
    with pytest.raises(CheckpointError, match="no PVTTiny that .* Expected: another source. Rec"):
        keras_vit.PVTTiny(weights="imagenet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of ViTTiny's width, of one block, on 32 pixels, with three classes."""
    preprocessor = keras_vit.Preprocessor(32)
    model = keras_vit.ViTTiny(depth=1, image_size=32, num_classes=3, preprocessor=preprocessor)
    path = tmp_path_factory.mktemp("variant") / "folder"
    return keras_vit.save_pretrained(model, path, "timm")


def test_weights_of_a_variant(folder):
    """What is left out is the source's; what is given holds, as for `from_pretrained`."""
    pixels = images((32, 32))
    expected = keras_vit.from_pretrained(folder)
    model = keras_vit.ViTTiny(weights=folder, depth=1)
    np.testing.assert_allclose(run(model, pixels), run(expected, pixels), atol=1e-6)
    assert model.name == "vit_tiny" and model.input.shape[1:3] == (32, 32)
    assert model.preprocessor is not None and "weights" not in model.get_config()
    model = keras_vit.ViTTiny(weights=str(folder), depth=1, num_classes=7, name="mine")
    assert model.num_classes == 7 and model.name == "mine"
    assert list(model.load_report.fresh) == ["head/dense/bias", "head/dense/kernel"]


def test_imagenet_stands_for_the_best(hub, folder):
    hub(folder, BEST)
    model = keras_vit.ViTTiny(weights="imagenet", depth=1)
    expected = run(keras_vit.from_pretrained(folder), images((32, 32)))
    np.testing.assert_allclose(run(model, images((32, 32))), expected, atol=1e-6)


def test_weights_that_are_not_the_variant_s_are_refused(folder, monkeypatch):
    with pytest.raises(CheckpointError, match="depth=12, unless .* which has depth=1$"):
        keras_vit.ViTTiny(weights=folder)
    with pytest.raises(CheckpointError, match="of a SwinTransformer. .* is a VisionTransformer"):
        keras_vit.SwinTiny(weights=folder)
    for weights in (True, 3, ["a"], {}):
        with pytest.raises(ValueError, match='None, "imagenet", or a source as'):
            keras_vit.ViTTiny(weights=weights)
    with pytest.raises(ValueError, match="width. Received: widht"):
        keras_vit.ViTTiny(weights=folder, widht=3)

    def downloads(*_, **__):
        raise AssertionError("nothing is downloaded")

    monkeypatch.setattr(pretrained, "from_pretrained", downloads)
    for variant, weights, message in [
        ("ViTBase", "deit_tiny_patch16_224.fb_in1k", "width=768, num_heads=12.* width=192"),
        ("ViTBase", "timm/vit_base_patch32_224.augreg_in21k_ft_in1k", "which has patch_size=32"),
        ("SwinTiny", "hf://timm/deit_tiny_patch16_224.fb_in1k", "is a VisionTransformer"),
        ("SwinTiny", "swinv2_tiny_window8_256.ms_in1k", "version=1, .* which has version=2"),
        ("DeiTTiny", "deit_tiny_patch16_224.fb_in1k", "must have distillation_token=True"),
        ("ViTSo400m", "vit_so400m_patch14_siglip_gap_378.webli_ft_in1k", "pooling='gap'"),
        ("ViTBase", "vit_wee_patch16_reg1_gap_256.sbb_in1k", "width=768"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            getattr(keras_vit, variant)(weights=weights)
    with pytest.raises(AssertionError, match="nothing is downloaded"):  # what is given may differ
        weights = "vit_base_patch32_224.augreg_in21k_ft_in1k"
        keras_vit.ViTBase(weights=weights, patch_size=32)
