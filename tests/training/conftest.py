"""A recipe that trains in seconds, and the working directory of each test."""

import pytest

SMALL = """
[model]
variant = "VisionTransformer"
num_classes = 10
image_size = 8
num_channels = 1
patch_size = 4
width = 16
depth = 2
num_heads = 2
mlp_dim = 32
dropout_rate = 0.1
attention_dropout_rate = 0.1
drop_path_rate = 0.2

[data]
source = "digits"

[augment]
rotate = 10
translate = 0.1

[optimizer]
learning_rate = 3e-3
weight_decay = 0.1
warmup_steps = 3
clip_norm = 1.0

[train]
epochs = 4
batch_size = 256
label_smoothing = 0.1
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Path of the recipe, as a str; the test runs in the recipe's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    return "small.toml"
