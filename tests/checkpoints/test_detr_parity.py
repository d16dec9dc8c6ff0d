"""Full-size DETRs of transformers, live, on the backend of the test run (`-m parity`)."""

import shutil

import numpy as np
import pytest

import keras_vit
from tests.helpers import to_numpy

pytestmark = pytest.mark.parity
SIZES = ((320, 416), (288, 352))  # of the two pictures in a batch
BACKBONES = {
    "timm": dict(use_timm_backbone=True, backbone="resnet50"),
    "timm, dilated": dict(use_timm_backbone=True, backbone="resnet50", dilation=True),
    "native": dict(use_timm_backbone=False),
}


def spread(model, images):
    """Weights that are far apart: freshly made, a model gives the same without its positions.

    Statistics of batch normalisations are those of the images, without which all cells of the map
    are nearly alike, and so what the queries find.
    """
    import torch

    embeddings = {id(x.weight) for x in model.modules() if isinstance(x, torch.nn.Embedding)}
    with torch.no_grad():
        for name, x in model.named_parameters():
            noise = torch.randn(x.shape)
            if id(x) in embeddings:
                x.copy_(noise)
            elif x.ndim > 1:
                # sharp attention, of which a layer adds little: queries stay apart
                gain = 3.0 if "q_proj" in name or "k_proj" in name else 1.0
                gain = 0.5 if "v_proj" in name or "o_proj" in name else gain
                x.copy_(noise * gain * x[0].numel() ** -0.5)
            else:  # scales stay near 1
                x.copy_(noise * 0.2 + x.round())
        for module in model.modules():
            if hasattr(module, "running_mean"):
                # small branches, behind which rounding does not grow from block to block
                module.weight.copy_(0.3 + 0.2 * torch.randn(module.weight.shape))
                module.bias.add_(0.2 * torch.randn(module.bias.shape))
                module.register_forward_pre_hook(_take_statistics)
        model.eval()(images)
    for module in model.modules():
        module._forward_pre_hooks.clear()
    return model


def _take_statistics(module, inputs):
    module.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
    variance = inputs[0].var(dim=(0, 2, 3))
    # A channel that hardly varies would be blown up, rounding and all.
    module.running_var.copy_(variance + variance.mean())


def reference(folder, arguments):
    """Saves a model; what it gives for a padded batch, and for its first picture alone."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.DetrConfig(**arguments, num_labels=91, auxiliary_loss=False)
    if not arguments["use_timm_backbone"]:
        config.backbone_config = transformers.ResNetConfig(out_features=["stage4"])
    height, width = np.max(SIZES, axis=0)
    valid = np.zeros((2, height, width), bool)
    for i, (h, w) in enumerate(SIZES):
        valid[i, :h, :w] = True
    images = np.random.default_rng(0).uniform(-1, 1, (2, height, width, 3))
    images = (images * valid[..., None]).astype("float32")
    h, w = SIZES[1]
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    model = spread(transformers.DetrForObjectDetection(config), x)
    model.save_pretrained(folder)
    with torch.no_grad():
        padded = model(x, pixel_mask=torch.tensor(valid).long())
        alone = model(x[1:, :, :h, :w])
    found = [{"logits": x.logits, "boxes": x.pred_boxes} for x in (padded, alone)]
    found = [{name: x.numpy() for name, x in outputs.items()} for outputs in found]
    return [({"images": images, "valid": valid}, found[0]), (images[1:, :h, :w], found[1])]


def without_positions(model, inputs):
    padded = isinstance(inputs, dict)
    images, valid = (inputs["images"], inputs["valid"]) if padded else (inputs, None)
    memory, positions, cells = model.encode(*model.embed(images, valid, False), training=False)
    return model.read_out(model.decode(memory, positions * 0, cells, training=False)[-1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_outputs_are_those_of_transformers_padded_and_alone(backbone, tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("timm")
    folder = tmp_path / "model"
    try:
        runs = reference(folder, BACKBONES[backbone])
        model = keras_vit.from_pretrained(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # 170 MB
    assert model.count_params() == 41_524_768 + 106_240
    for inputs, expected in runs:
        outputs = model(inputs, training=False)
        blind = without_positions(model, inputs)
        for name, value in expected.items():
            found = to_numpy(outputs[name])
            difference = np.abs(found - value).max()
            mutants = [np.abs(x - value).max() for x in (found[:, ::-1], to_numpy(blind[name]))]
            print(f"{backbone}, {name}: {difference:.1e}; reversed, blind: {mutants}")
            assert difference < 1e-4
            assert min(mutants) > 100 * 1e-4
