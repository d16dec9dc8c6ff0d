"""transformers' MAE at full size, live, on the backend of the test run (`-m parity`)."""

import numpy as np
import pytest

import keras_vit

pytestmark = pytest.mark.parity


def write_reference(folder):
    """Saves a ViTMAEForPreTraining B/16 with random weights; returns inputs and its numbers."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(norm_pix_loss=True)).eval()
    with torch.no_grad():  # a fresh model's positions and tokens are zeros
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 224, 224, 3)).astype("float32")
    noise = rng.random((2, 196)).astype("float32")
    with torch.no_grad():
        output = model(torch.tensor(images.transpose(0, 3, 1, 2)), noise=torch.tensor(noise))
    numbers = {"patches": output.logits, "mask": output.mask, "loss": output.loss}
    return images, noise, {key: x.numpy() for key, x in numbers.items()}


def test_mask_prediction_and_loss_are_the_library_s(tmp_path):
    pytest.importorskip("transformers")
    images, noise, expected = write_reference(tmp_path / "model")
    model = keras_vit.from_pretrained(tmp_path / "model", preprocessor=None)
    weights = [x for x in model.weights if "seed" not in x.path]
    assert sum(int(np.prod(x.shape)) for x in weights) == 111_907_840
    found = model.reconstruct(images, noise)
    np.testing.assert_array_equal(found["mask"], expected["mask"])
    assert np.abs(expected["patches"]).max() > 0.5  # the noise has not died on its way
    np.testing.assert_allclose(found["patches"], expected["patches"], atol=1e-4)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
