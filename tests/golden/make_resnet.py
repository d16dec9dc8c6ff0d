"""Makes resnet/*: tiny random ResNets as torchvision, timm and transformers save them.

    pip install torch timm transformers && pip install --no-deps torchvision
    python tests/golden/make_resnet.py

Each folder holds a checkpoint and `expected.npz`: `made_with`, `pixels` (B, H, W, C) of 0..255,
which the model takes as `pixels / 127.5 - 1`, and what came out: `stage0` ... (B, h, w, D), and
`logits`. With torchvision's weights there are `dilated_stage3` and `dilated_logits` too, of a model
whose last stage is dilated, and of one in training `train_logits` and `moving/NAME`, the statistics
after that one pass.
"""

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import torch

# The only part of the package that needs its compiled operators, which a CPU's torch cannot load.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("_meta_registrations")

import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402
from torchvision.models import resnet  # noqa: E402

HERE = Path(__file__).parent / "resnet"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {x: i for i, x in enumerate(NAMES)}}
VERSIONS = (
    f"torchvision {torchvision.__version__}, timm {timm.__version__}, "
    f"transformers {transformers.__version__}, torch {torch.__version__}"
)
DEPTHS = [1, 2, 1, 2]
SIZE = (70, 45)  # maps of 18 x 12, 9 x 6, 5 x 3 and 3 x 2: each is rounded up


class Narrow(resnet.ResNet):
    """torchvision's ResNet-50 with a 32nd of its widths after the stem."""

    def __init__(self, dilated=False, **kwargs):
        strides = [False, False, dilated]
        super().__init__(resnet.Bottleneck, DEPTHS, replace_stride_with_dilation=strides, **kwargs)
        self.fc = torch.nn.Linear(self.inplanes, len(NAMES))

    def _make_layer(self, block, planes, *args, **kwargs):
        return super()._make_layer(block, planes // 32, *args, **kwargs)


def randomized(model):
    """Far from an initialisation: scales, offsets and statistics that are never used must show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in [*model.parameters(), *model.buffers()]:
            if x.dtype == torch.int64:  # a counter
                continue
            noise = torch.randn(x.shape, generator=generator)
            if x.ndim > 1:
                x.copy_(noise * x[0].numel() ** -0.5)
            else:  # those of batch normalisations that start at 1 stay near it
                x.copy_(noise * 0.2 + x.round())
    return model.eval()


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("uint8")


def run(model, modules):
    """The logits, and what the modules of the stages gave on the way."""
    found, hooks = {}, []
    for s, module in enumerate(modules):

        def hook(module, inputs, output, s=s):
            found[f"stage{s}"] = output.permute(0, 2, 3, 1)

        hooks.append(module.register_forward_hook(hook))
    images = torch.tensor((pixels() / 127.5 - 1).astype("float32").transpose(0, 3, 1, 2))
    with torch.no_grad():
        output = model(images)
    for hook in hooks:
        hook.remove()
    found["logits"] = getattr(output, "logits", output)
    return {name: x.numpy() for name, x in found.items()}


def save(case, arrays):
    np.savez_compressed(HERE / case / "expected.npz", made_with=VERSIONS, pixels=pixels(), **arrays)


def layers(model):
    return [getattr(model, f"layer{s + 1}") for s in range(4)]


def make_torchvision():
    model = randomized(Narrow())
    torch.save(model.state_dict(), folder("torchvision") / "resnet.pth")
    found = run(model, layers(model))
    dilated = Narrow(dilated=True).eval()
    dilated.load_state_dict(model.state_dict())
    other = run(dilated, layers(dilated))
    found |= {f"dilated_{name}": other[name] for name in ("stage3", "logits")}
    found["train_logits"] = run(model.train(), [])["logits"]
    statistics = {k: x for k, x in model.state_dict().items() if ".running_" in k}
    found |= {f"moving/{name}": x.numpy() for name, x in statistics.items()}
    save("torchvision", found)


def make_timm():
    arguments = dict(layers=DEPTHS, channels=[8, 8, 12, 16], output_stride=16)
    model = randomized(timm.create_model("resnet18", num_classes=len(NAMES), **arguments))
    model.pretrained_cfg.update({"input_size": (3, *SIZE)})
    timm.models.save_for_hf(
        model,
        folder("timm"),
        model_config={"label_names": NAMES},
        model_args=arguments,
        safe_serialization=True,
    )
    save("timm", run(model, layers(model)))


def make_transformers():
    kinds = {
        "hf": dict(layer_type="bottleneck", depths=[1, 2, 1], hidden_sizes=[16, 16, 24]),
        "hf_basic": dict(layer_type="basic", depths=[2, 1, 1, 1], hidden_sizes=[8, 8, 12, 16]),
    }
    for case, more in kinds.items():
        config = transformers.ResNetConfig(embedding_size=8, **more, **LABELS)
        model = randomized(transformers.ResNetForImageClassification(config))
        model.save_pretrained(folder(case))
        save(case, run(model, model.resnet.encoder.stages))


if __name__ == "__main__":
    make_torchvision()
    make_timm()
    make_transformers()
