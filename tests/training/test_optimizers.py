import keras
import numpy as np
import pytest

import keras_vit
from training.optimizers import adamw, warmup_cosine


def model():
    return keras_vit.VisionTransformer(
        num_classes=3,
        image_size=8,
        patch_size=4,
        width=8,
        depth=1,
        num_heads=2,
        mlp_dim=16,
        num_registers=2,
        layer_scale=0.1,
        qk_norm=True,
    )


def test_only_matrices_decay():
    vit = model()
    for variable in vit.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer = adamw(vit, 0.1, 0.5, warmup_steps=0, total_steps=10, clip_norm=0.0)
    zeros = [keras.ops.zeros(variable.shape) for variable in vit.trainable_variables]
    optimizer.apply(zeros, vit.trainable_variables)
    shrunk = {v.path for v in vit.trainable_variables if np.max(keras.ops.convert_to_numpy(v)) < 1}
    assert shrunk == {
        "patch_embedding/projection/kernel",
        "block00/attention/qkv/kernel",
        "block00/attention/proj/kernel",
        "block00/mlp/fc1/kernel",
        "block00/mlp/fc2/kernel",
        "head/dense/kernel",
    }


def test_schedule_rises_linearly_and_falls_by_a_cosine():
    schedule = warmup_cosine(2.0, warmup_steps=10, total_steps=110)
    rates = [float(schedule(step)) for step in (0, 5, 10, 35, 60, 110)]
    expected = [0, 1, 2, 1 + np.cos(np.pi / 4), 1, 0]
    np.testing.assert_allclose(rates, expected, atol=1e-6)
    assert float(warmup_cosine(2.0, 0, 10)(0)) == 2.0


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_steps=10, 10 steps"):
        warmup_cosine(2.0, warmup_steps=10, total_steps=10)


def test_the_whole_gradient_is_clipped():
    assert adamw(model(), 0.1, 0.0, 0, 10, clip_norm=0.5).global_clipnorm == 0.5
    assert adamw(model(), 0.1, 0.0, 0, 10, clip_norm=0.0).global_clipnorm is None
