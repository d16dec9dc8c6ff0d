"""DETRs of their authors and of transformers: their numbers at every stage, both ways."""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.checkpoints.detr import names
from keras_vit.checkpoints.detr.coco import COCO
from keras_vit.checkpoints.readers.open import open_file
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import once, once_but, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "detr"
CASES = sorted(path.name for path in GOLDEN.iterdir())
FOLDERS = [case for case in CASES if case != "authors"]
TOLERANCE = 2e-5


def source(case):
    return GOLDEN / case / ("detr.pth" if case == "authors" else "")


def loaded(case, **arguments):
    heads = {"num_heads": 4} if case == "authors" else {}  # which no tensor tells
    return keras_vit.from_pretrained(source(case), **{**heads, **arguments})


def inputs(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    images = (expected["pixels"] / 127.5 - 1) * expected["valid"][..., None]
    return images.astype("float32"), expected["valid"]


def stages(model, images, valid, positions=None):
    """The outputs of all stages as the golden files name them.

    `positions` changes those of the cells, (B, N, D) and the shape (h, w).
    """

    def compute(images, valid):
        grid, mask = model.embed(images, valid, training=False)
        memory, where, cells = model.encode(grid, mask, training=False)
        if positions is not None:
            where = positions(where, grid.shape[1:3])
        states = model.decode(memory, where, cells, training=False)
        found = {"map": grid, "encoder": memory}
        found |= {f"decoder{i}": x for i, x in enumerate(states)}
        return found | model.read_out(states[-1]), [model.read_out(x) for x in states[:-1]]

    return keras.tree.map_structure(to_numpy, compute(images, valid))


def worst(found, expected):
    """dict of stage to the largest difference."""
    return {name: np.abs(value - expected[name]).max() for name, value in found.items()}


@pytest.mark.parametrize("case", once_but(CASES, *everywhere.DETR))
def test_equals_the_library_that_wrote_it_at_every_stage(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    model = loaded(case)
    assert not model.load_report.fresh and not model.load_report.dropped
    images, valid = inputs(case)
    found, auxiliary = stages(model, images, valid)
    stage_names = {"map", "encoder", "decoder0", "decoder1", "decoder2", "logits", "boxes"}
    assert set(found) == stage_names
    assert max(worst(found, expected).values()) < TOLERANCE, worst(found, expected)
    if "auxiliary_logits" in expected:
        for name in ("logits", "boxes"):
            earlier = np.stack([x[name] for x in auxiliary])
            np.testing.assert_allclose(earlier, expected[f"auxiliary_{name}"], atol=TOLERANCE)

    # as a call, padded and not
    outputs = model({"images": images, "valid": valid}, training=False)
    h, w = valid[0].any(axis=1).sum(), valid[0].any(axis=0).sum()
    alone = model(images[:1, :h, :w], training=False)
    for name in ("logits", "boxes"):
        np.testing.assert_allclose(to_numpy(outputs[name]), expected[name], atol=TOLERANCE)
        np.testing.assert_allclose(to_numpy(alone[name]), expected[f"alone_{name}"], atol=TOLERANCE)


def swapped(positions, size):
    """x where y is, and y where x is."""
    half = positions.shape[-1] // 2
    return keras.ops.concatenate([positions[..., half:], positions[..., :half]], axis=-1)


def flipped(positions, size):
    """Those of the first column in the last."""
    h, w = size
    grid = keras.ops.reshape(positions, (-1, h, w, positions.shape[-1]))
    return keras.ops.reshape(keras.ops.flip(grid, axis=2), positions.shape)


@once
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stage", ["logits", "boxes"])
@pytest.mark.parametrize(
    "mutant", ["no positions", "x and y swapped", "columns flipped", "queries reversed", "no mask"]
)
def test_what_a_wrong_model_gives_is_far_off(case, stage, mutant):
    expected, model = np.load(GOLDEN / case / "expected.npz"), loaded(case)
    images, valid = inputs(case)
    positions = None
    if mutant == "no positions":
        positions = lambda x, size: x * 0  # noqa: E731
    elif mutant in ("x and y swapped", "columns flipped"):
        positions = swapped if mutant == "x and y swapped" else flipped
    elif mutant == "queries reversed":
        queries = model.get_layer("queries").embeddings
        queries.assign(to_numpy(queries)[::-1])
    else:
        valid = np.ones_like(valid)
    found, _ = stages(model, images, valid, positions)
    assert worst(found, expected)[stage] > 50 * TOLERANCE


@once
def test_the_encoder_reads_the_positions_too():
    """The mutants change those that the decoder reads."""
    case = "authors"
    expected, model = np.load(GOLDEN / case / "expected.npz"), loaded(case)
    layer = model.get_layer("positions")
    layer.call = lambda grid, valid=None: type(layer).call(layer, grid, valid) * 0
    found, _ = stages(model, *inputs(case))
    assert worst(found, expected)["encoder"] > 50 * TOLERANCE


@once
@pytest.mark.parametrize("case", FOLDERS)
def test_gives_back_the_file_of_the_library_itself(case, tmp_path):
    model = loaded(case)
    if case == "hf_timm":  # which transformers makes of timm's names alone, of full size
        with pytest.raises(
            ValueError, match="timm has a name for.*resnet50, resnet101. Received: .*bottleneck"
        ):
            keras_vit.save_pretrained(model, tmp_path / "out", "hf")
        return
    with warnings.catch_warnings():
        # nothing is cropped, so no crop is a pixel off
        warnings.simplefilter("error", UserWarning)
        folder = keras_vit.save_pretrained(model, tmp_path / "out", "hf")
    ours, theirs = tensors(folder), tensors(GOLDEN / case)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    config, original = (
        json.loads((x / "config.json").read_text()) for x in (folder, GOLDEN / case)
    )
    for key in set(config) - {"backbone_config"}:
        assert config[key] == original[key], key
    for key, value in config["backbone_config"].items():
        assert original["backbone_config"][key] == value, key
    again = keras_vit.from_pretrained(folder)
    assert_same_configuration(model, again)


def assert_same_configuration(model, other):
    configs = []
    for x in (model, other):
        config = x.get_config()
        config["backbone"]["config"]["name"] = config["name"] = ""
        config["preprocessor"] = {**config["preprocessor"]["config"], "name": ""}
        configs.append(json.dumps(config, default=str))
    assert configs[0] == configs[1]


@pytest.mark.parametrize("case", once_but(CASES, "authors"))
def test_goes_to_the_authors_and_to_a_keras_file_and_back(case, tmp_path):
    model = loaded(case, mlp="relu")
    images, valid = inputs(case)
    expected = model({"images": images, "valid": valid}, training=False)
    folder = keras_vit.save_pretrained(model, tmp_path / "authors", "authors")
    if case == "authors":
        theirs = open_file(source(case))
        theirs.select("model")
        assert set(theirs.tensors) == set(tensors(folder))
        theirs.close()
    dilation, heads = model.get_config()["dilation"], model.get_config()["num_heads"]
    again = keras_vit.from_pretrained(folder, num_heads=heads, dilation=dilation)
    model.save(tmp_path / "model.keras")
    kept = keras_vit.from_pretrained(tmp_path / "model.keras")
    assert_same_configuration(model, kept)
    for other in (again, kept):
        found = other({"images": images, "valid": valid}, training=False)
        for name, value in expected.items():
            np.testing.assert_allclose(to_numpy(found[name]), to_numpy(value), atol=1e-6)
    assert [w.path for w in kept.trainable_weights] == [w.path for w in model.trainable_weights]


@once
def test_what_the_files_are():
    model = loaded("hf_timm")
    config = model.get_config()
    assert config["dilation"] and model.num_classes == 5 and model.class_ids is None
    assert config["num_heads"] == (4, 2) and config["mlp_dim"] == (24, 32)
    assert model.class_names == ["N/A", "person", "bicycle", "car", "motorcycle"]
    assert model.preprocessor.image_size == (800, 1333) and model.preprocessor.resize == "fit"
    assert config["backbone"]["config"]["batch_norm"] == "frozen"
    assert config["image_size"] is None

    # the stem, the first stage and all batch normalisations are frozen, and nothing else
    frozen = {w.path for w in model.weights if not w.trainable}
    first = {w.path for w in model.weights if w.path.startswith(("stem/", "stage0_"))}
    norms = {w.path for w in model.weights if w.path.startswith("stage") and "/norm" in w.path}
    assert frozen == first | norms
    tuned = loaded("hf_timm", batch_norm="learning", frozen_layers=())
    assert {w.path for w in tuned.weights if not w.trainable} == {
        w.path for w in tuned.weights if "/moving_" in w.path
    }

    native = loaded("hf_native").get_config()
    assert native["position_embedding"] == "learned" and native["mlp"] == "gelu"
    assert native["backbone"]["config"]["block"] == "basic" and not native["dilation"]


@once
def test_what_the_authors_files_say_in_their_names(tmp_path):
    path = tmp_path / "detr-r50-dc5-f0fb7ef5.pth"
    path.write_bytes(source("authors").read_bytes())
    model = keras_vit.from_pretrained(path, num_heads=4)
    assert model.get_config()["dilation"]
    assert any("guessed" in x and "dilation=True" in x for x in model.load_report.notes)
    assert not loaded("authors", dilation=False).get_config()["dilation"]


def panoptic(case, prefix, tmp_path):
    """The tensors of a file as a model that segments has them, and some of its own."""
    reader = open_file(source(case) if case == "authors" else GOLDEN / case / "model.safetensors")
    if case == "authors":
        reader.select("model")
    arrays = {prefix + name: reader.read(name).copy() for name in reader.tensors}
    reader.close()
    for name in ("mask_head.lay1.weight", "mask_head.gn1.bias", "bbox_attention.q_linear.weight"):
        arrays[name] = np.ones((3, 3), "float32")
    save_file(arrays, tmp_path / "model.safetensors")
    if case != "authors":
        config = json.loads((GOLDEN / case / "config.json").read_text())
        config["architectures"] = ["DetrForSegmentation"]
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path
    return tmp_path / "model.safetensors"


@once
@pytest.mark.parametrize("case", CASES)
def test_of_a_panoptic_model_the_part_that_detects(case, tmp_path):
    expected = np.load(GOLDEN / case / "expected.npz")
    heads = {"num_heads": 4} if case == "authors" else {}
    model = keras_vit.from_pretrained(panoptic(case, "detr.", tmp_path), **heads)
    dropped = model.load_report.dropped
    assert set(dropped) == {
        "mask_head.lay1.weight",
        "mask_head.gn1.bias",
        "bbox_attention.q_linear.weight",
    }
    assert all("panoptic" in reason for reason in dropped.values())
    images, valid = inputs(case)
    found = model({"images": images, "valid": valid}, training=False)
    np.testing.assert_allclose(to_numpy(found["logits"]), expected["logits"], atol=TOLERANCE)


@once
@pytest.mark.parametrize("case", FOLDERS)
def test_names_of_models_in_memory(case, tmp_path):
    """A state dict of version 5, which has other names than its files."""
    renamed = {}
    for name, value in tensors(GOLDEN / case).items():
        body, _, rest = name.partition("backbone.conv_encoder.")
        name = f"{body}backbone.{rest}" if rest else name.replace("out_proj", "o_proj")
        if not rest and "layers" in name:
            name = name.replace(".fc", ".mlp.fc")
        renamed[name] = value
    save_file(renamed, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((GOLDEN / case / "config.json").read_text())
    model = keras_vit.from_pretrained(tmp_path)
    assert "in memory" in model.load_report.names
    for ours, theirs in zip(model.weights, loaded(case).weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@once
def test_learned_positions_of_earlier_versions(tmp_path):
    arrays = {
        name.replace("model.position_embedding", "model.backbone.position_embedding"): value
        for name, value in tensors(GOLDEN / "hf_native").items()
    }
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((GOLDEN / "hf_native" / "config.json").read_text())
    model = keras_vit.from_pretrained(tmp_path)
    rows = model.get_layer("positions").rows
    np.testing.assert_array_equal(
        to_numpy(rows), to_numpy(loaded("hf_native").get_layer("positions").rows)
    )


@once
def test_new_classes_and_queries():
    model = loaded("hf_native", num_classes=3, num_queries=4)
    fresh = {"class_head/kernel", "class_head/bias", "queries/embeddings"}
    assert set(model.load_report.fresh) == fresh and model.class_names is None
    assert to_numpy(model.get_layer("queries").embeddings).std() > 0.3  # drawn, not zeros
    other = loaded("authors", decoder_depth=1)
    assert all(".layers.1." in x or ".layers.2." in x for x in other.load_report.dropped)
    assert other.load_report.dropped


@once
def test_a_standing_model_takes_the_weights_of_its_own_arithmetic():
    model = loaded("hf_timm")
    config = model.get_config()
    fresh = keras_vit.DETR.from_config(config)
    report = keras_vit.load_weights(fresh, source("hf_timm"))
    assert not report.fresh
    other = keras_vit.DETR.from_config({**loaded("hf_timm").get_config(), "num_heads": 2})
    with pytest.raises(ValueError, match="num_heads"):
        keras_vit.load_weights(other, source("hf_timm"))
    on_vit = keras_vit.DETR(
        keras_vit.ViTTiny(image_size=32, depth=1), width=16, mlp_dim=16, encoder_depth=1
    )
    with pytest.raises(ValueError, match="have a ResNet as the backbone.*VisionTransformer"):
        keras_vit.load_weights(on_vit, source("hf_timm"))


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "conditional_detr"}, "transformers' 'detr'.*'conditional_detr'"),
        ({"num_queries": 8}, "contradict.*num_queries=7.*Received: num_queries=8"),
        ({"encoder_ffn_dim": 25}, "contradict.*mlp_dim=\\(24, 32\\).*\\(25, 32\\)"),
        ({"position_embedding_type": "learned"}, "contradict.*'sine'.*'learned'"),
        ({"activation_function": "silu"}, "activation_function cannot be.*'silu'"),
        ({"id2label": {"0": "cat"}}, "name every class once.*1 names, 5 classes"),
        (
            {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50d"}},
            "plain stem.*Received: backbone=.*resnet50d",
        ),
        (
            {"backbone_config": {"model_type": "swin"}},
            "model_type of the backbone cannot be honoured.*'swin'",
        ),
        (
            {"backbone_config": {"model_type": "timm_backbone", "output_stride": 8}},
            "output_stride cannot be honoured.*8",
        ),
        (
            {"backbone_config": {"model_type": "resnet", "downsample_in_bottleneck": True}},
            "downsample_in_bottleneck cannot be honoured",
        ),
    ],
)
def test_what_a_configuration_says_is_held_against_the_tensors(changes, message, tmp_path):
    case = GOLDEN / "hf_timm"
    (tmp_path / "model.safetensors").write_bytes((case / "model.safetensors").read_bytes())
    config = json.loads((case / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(tmp_path)


@once
def test_an_old_configuration_is_enough(tmp_path):
    """As the hub's files have it: a flat backbone, and sizes of pictures as two numbers."""
    case = GOLDEN / "hf_timm"
    (tmp_path / "model.safetensors").write_bytes((case / "model.safetensors").read_bytes())
    config = json.loads((case / "config.json").read_text())
    del config["backbone_config"], config["id2label"], config["label2id"]
    config |= {"backbone": "resnet50", "use_timm_backbone": True, "scale_embedding": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "DetrFeatureExtractor", "size": 40, "max_size": 64})
    )
    model = keras_vit.from_pretrained(tmp_path)
    assert model.get_config()["dilation"] and model.class_names is None
    assert model.preprocessor.image_size == (40, 64)
    assert not model.load_report.unread


@once
def test_tensors_that_a_variant_of_the_paper_has_are_refused(tmp_path):
    """`pre_norm` of the authors' code, which no published weights use."""
    reader = open_file(source("authors"))
    reader.select("model")
    arrays = {name: reader.read(name).copy() for name in reader.tensors}
    reader.close()
    arrays["transformer.encoder.norm.weight"] = np.ones(16, "float32")
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="transformer.encoder.norm.weight"):
        keras_vit.from_pretrained(tmp_path / "model.safetensors", num_heads=4)


@once
def test_categories_of_coco():
    assert len(COCO) == 91 and COCO.count("N/A") == 11
    assert (COCO[1], COCO[44], COCO[90]) == ("person", "bottle", "toothbrush")


@once
def test_every_row_of_the_tables_has_a_place():
    paths = {w.path for case in CASES for w in loaded(case).weights}
    for table in names.TABLES:
        for row in table.rows:
            targets = row.targets if isinstance(row.targets, tuple) else (row.targets,)
            for target in targets:
                if not target.startswith(("stage", "stem")):
                    assert target.replace("{i}", "00") in paths, (table.name, target)
