"""Tables of configuration fields: what they write they read, or they say why not."""

import importlib
import json
from pathlib import Path

import pytest

from keras_vit import checkpoints
from keras_vit.checkpoints.fields import Field, read_fields, write_fields
from tests.helpers import once

pytestmark = once  # values of JSON alone
FOLDERS = sorted(file.parent.name for file in Path(checkpoints.__file__).parent.glob("*/fields.py"))
ROWS = {
    f"{folder}-{name}-{field.key}": field
    for folder in FOLDERS
    for name in ("HF", "TIMM")
    for field in getattr(
        importlib.import_module(f"{checkpoints.__name__}.{folder}.fields"), name, ()
    )
}
VALUES = {  # of every argument: ones that a conversion could lose
    "width": 24,
    "widths": (8, 16),
    "depth": 3,
    "depths": (1, 2),
    "num_heads": (2, 4),
    "mlp_dim": 48,
    "mlp_ratio": 2.5,
    "mlp_ratios": (4, 2),
    "reductions": (2, 1),
    "patch_size": (8, 4),
    "patch_sizes": (7, 3),
    "strides": (4, 2),
    "num_channels": 4,
    "image_size": (24, 16),
    "window_size": (2, 4),
    "pretrained_window_size": (6, 3),
    "num_registers": 2,
    "qkv_bias": False,
    "norm_epsilon": 1e-5,
    "mlp": "gelu_tanh",
    "dropout_rate": 0.1,
    "attention_dropout_rate": 0.2,
    "drop_path_rate": 0.3,
    "stem_width": 8,
    "block": "basic",
    "dilation": True,
    "channels": (8, 16),
    "num_queries": 7,
    "encoder_depth": 2,
    "decoder_depth": 4,
    "position_embedding": "learned",
}


def test_every_family_has_its_fields():
    assert FOLDERS == ["cait", "detr", "hybrid", "pvt", "pvt_v2", "resnet", "swin", "vit"]
    assert len(ROWS) > 60


@pytest.mark.parametrize("field", ROWS.values(), ids=ROWS)
def test_a_row_reads_what_it_writes_or_says_why_not(field):
    if field.read is None or field.write is None:
        assert field.one_way and field.read is not field.write
        return
    assert not field.one_way
    (kind, *_) = field.kinds or (None,)
    written = json.loads(json.dumps(write_fields([field], VALUES, kind)))
    assert set(written) == {field.key}
    assert read_fields([field], written) == {field.argument: VALUES[field.argument]}


def test_one_number_is_enough_for_a_square():
    fields = {name: x for name, x in ROWS.items() if x.argument == "patch_size"}
    assert len(fields) == 6
    for name, field in fields.items():
        written = write_fields([field], {"patch_size": (4, 4)})
        assert written == {field.key: 4}, name
        assert read_fields([field], written) == {"patch_size": 4}, name


def test_of_fields_of_one_argument_each_kind_writes_its_own():
    fields = (
        Field("ours", "depth", kinds=("a",)),
        Field("theirs", "depth", kinds=("b",)),
        Field("seen", "width", read=None, one_way="the tensors show it"),
    )
    values = {"depth": 3, "width": 8}
    assert write_fields(fields, values, "a") == {"ours": 3, "seen": 8}
    assert write_fields(fields, values, "b") == {"theirs": 3, "seen": 8}
    assert read_fields(fields, {"theirs": 3, "seen": 9, "ours": None}) == {"depth": 3}
