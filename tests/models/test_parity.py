"""The numbers of timm at full size, live: needs timm installed (`-m parity`)."""

import numpy as np
import pytest

import keras_vit
from tests.golden import timm_names
from tests.helpers import images, to_numpy

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("timm_name", "variant", "arguments"),
    [
        ("vit_tiny_patch16_224", "ViTTiny", {}),
        ("vit_small_patch32_224", "ViTSmall", {"patch_size": 32}),
        ("vit_base_patch16_224", "ViTBase", {}),
        ("vit_base_patch16_384", "ViTBase", {"image_size": 384}),
        ("vit_large_patch16_224", "ViTLarge", {}),
        ("vit_base_patch16_siglip_224", "ViTBase", {"pooling": "map"}),
        (
            "vit_small_patch14_reg4_dinov2",
            "ViTSmall",
            {
                "image_size": 518,
                "patch_size": 14,
                "num_registers": 4,
                "position_embedding": "learned_patches",
                "layer_scale": 1e-5,
            },
        ),
    ],
)
def test_equals_timm(timm_name, variant, arguments):
    timm = pytest.importorskip("timm")
    import torch

    torch.manual_seed(0)
    theirs = timm.create_model(timm_name, num_classes=1000).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and scales too
            parameter.add_(0.02 * torch.randn(parameter.shape))
    model = getattr(keras_vit, variant)(**arguments)
    state = {f"weights/{name}": value.numpy() for name, value in theirs.state_dict().items()}
    timm_names.load(model, state)

    pixels = images(model.input.shape[1:3], batch=2)
    with torch.no_grad():
        tokens = theirs.forward_features(torch.tensor(pixels.transpose(0, 3, 1, 2)))
        logits = theirs.forward_head(tokens)
    found = to_numpy(model.features(pixels, ["norm"])["norm"])
    np.testing.assert_allclose(found, tokens.numpy(), atol=1e-4)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), logits.numpy(), atol=1e-4)
