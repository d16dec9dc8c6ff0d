"""How far models loaded here are from the library that their checkpoint is from.

    python -m benchmarks.parity

timm and transformers make models of full size with random weights, save them as they do, and say
what comes out for noise, at the size that the model was made for and at another. Every backend
loads the same folder, in every precision, and the largest difference of any output counts. It needs
timm, transformers and PyTorch beside the backends; `pytest -m parity` asserts the float32 rows.
"""

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import (
    BACKENDS,
    Worker,
    command_or_worker,
    hardware_name,
    installed,
    print_rows,
    results_path,
    versions,
    write_rows,
)

KEY = ("source", "backend", "precision", "image_size")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
BATCH = 2


class Case(NamedTuple):
    """One model of another library.

    Attributes:
        library: "timm" or "transformers".
        name: timm's architecture, or transformers' class and what tells its configuration.
        sizes: image sizes in pixels: the model's own, and another where the library takes one.
        arguments: dict, of `timm.create_model`, or of transformers' configuration.
    """

    library: str
    name: str
    sizes: tuple
    arguments: dict = {}

    @property
    def source(self):
        return f"{self.library} {self.name}"


TINY = dict(hidden_size=192, num_attention_heads=3, intermediate_size=768)
LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
LABELS = {"num_labels": 1000}
PVT_LARGE = {"depths": [3, 8, 27, 3]}
LINEAR = {"linear_attention": True}
RESNET = {"zero_init_last": False}
CASES = [
    Case("timm", "vit_tiny_patch16_224", (224, 384)),
    Case("timm", "vit_small_patch16_224", (224, 384)),
    Case("timm", "vit_base_patch32_224", (224, 384)),
    Case("timm", "vit_base_patch16_224", (224, (384, 320))),
    Case("timm", "vit_large_patch16_224", (224, 256)),
    Case("timm", "vit_huge_patch14_224", (224, 168), {"num_classes": 1000}),
    Case(
        "timm", "vit_base_patch16_224.mae", (224, 256), {"num_classes": 0}
    ),  # class token, no head
    Case("timm", "deit3_base_patch16_224", (224, 384)),  # LayerScale
    Case("timm", "deit_tiny_distilled_patch16_224", (224, 384)),
    Case("timm", "deit_base_distilled_patch16_224", (224, (384, 320))),
    Case("timm", "vit_base_patch16_siglip_gap_224", (224, 384)),  # GAP
    Case("timm", "vit_base_patch16_siglip_224.v2_webli", (224, 384), {"num_classes": 0}),  # MAP
    Case("timm", "vit_base_patch16_clip_224", (224, 336)),
    Case("timm", "vit_base_patch16_clip_quickgelu_224", (224, 336)),
    Case("timm", "vit_small_patch14_dinov2", (518, 224), {"num_classes": 0}),
    Case("timm", "vit_small_patch14_reg4_dinov2", (518, 224), {"num_classes": 0}),  # registers
    Case("timm", "vit_giant_patch14_dinov2", (224, 280), {"num_classes": 0, "img_size": 224}),
    Case("timm", "vit_so150m2_patch16_reg1_gap_256", (256, 384)),
    Case("timm", "vit_little_patch16_reg4_gap_256", (256, 224), {"qk_norm": True}),
    Case("timm", "swin_tiny_patch4_window7_224", (224, (256, 320))),
    Case("timm", "swin_base_patch4_window12_384", (384, 224)),
    Case("timm", "swin_s3_tiny_224", (224, 288)),  # windows of each stage's own
    Case("timm", "swinv2_tiny_window8_256", (256, (320, 288))),
    Case("timm", "swinv2_base_window12to16_192to256", (256, 192)),
    Case("timm", "pvt_v2_b0", (224, (250, 331))),
    Case("timm", "pvt_v2_b2", (224, (250, 331))),
    Case("timm", "pvt_v2_b2_li", (224, (250, 331))),  # adaptive averages of windows that overlap
    Case("timm", "pvt_v2_b5", (224, 256)),
    Case("timm", "vit_tiny_r_s16_p8_224", (224, (384, 320))),
    Case("timm", "vit_small_r26_s32_224", (224, (384, 320))),
    Case("timm", "vit_base_r50_s16_224", (224, (384, 320))),
    Case("timm", "vit_large_r50_s32_224", (224, 384)),
    Case("timm", "cait_xxs24_224", (224,)),  # timm's takes no other size
    Case("timm", "cait_s24_224", (224,)),
    Case("timm", "cait_xs24_384", (384,)),
    Case("timm", "resnet18", (224, (250, 331)), RESNET),
    Case("timm", "resnet50", (224, (250, 331)), {**RESNET, "output_stride": 16}),
    Case("timm", "resnet101", (224, (250, 331)), RESNET),
    Case("transformers", "ResNetForImageClassification 50", (224, (250, 331)), LABELS),
    Case("transformers", "PvtForImageClassification tiny", (224,), LABELS),
    Case("transformers", "PvtForImageClassification large", (224,), {**LABELS, **PVT_LARGE}),
    Case("transformers", "PvtModel tiny", (256,)),
    Case("transformers", "PvtV2ForImageClassification b0", (224, (250, 331)), LABELS),
    Case("transformers", "PvtV2ForImageClassification b0 li", (224, 320), {**LABELS, **LINEAR}),
    Case("transformers", "ViTForImageClassification B/16", (224, 384), LABELS),
    Case("transformers", "ViTForImageClassification L/16", (224, 256), {**LARGE, **LABELS}),
    Case("transformers", "ViTModel Ti/16", (224, (320, 192)), TINY),
    Case("transformers", "DeiTForImageClassificationWithTeacher B/16", (224, 384), LABELS),
    Case("transformers", "DeiTForImageClassification Ti/16", (224, 384), {**TINY, **LABELS}),
    Case("transformers", "DeiTModel Ti/16", (224, (320, 192)), TINY),
    Case("transformers", "ViTMAEModel B/16", (224,), {"mask_ratio": 0.0}),
    Case("transformers", "Dinov2Model B/14", (224, 280)),
    Case("transformers", "Dinov2ForImageClassification B/14", (224, 280), LABELS),
    Case("transformers", "Dinov2WithRegistersModel B/14", (224, 280)),
    Case("transformers", "CLIPVisionModel B/16", (224, 336)),
    Case("transformers", "SiglipVisionModel B/16", (224, 384)),
    Case("transformers", "SiglipForImageClassification B/16", (224, 384), LABELS),
    Case("transformers", "SwinForImageClassification T/4", (224, (288, 352)), LABELS),
    Case("transformers", "Swinv2Model T/4", (256, (320, 288)), {"window_size": 8}),
]


def make_reference(case, folder):
    """Saves the model of a case and what it gives: `expected.npz` with `images0`, `outputs0` ...

    Args:
        case: `Case`.
        folder: path that does not exist yet.
    """
    import torch

    torch.manual_seed(0)
    run = {"timm": _timm, "transformers": _transformers}[case.library](case, folder)
    arrays = {}
    for number, size in enumerate(case.sizes):
        height, width = (size, size) if isinstance(size, int) else size
        images = np.random.default_rng(number).uniform(-1, 1, (BATCH, height, width, 3))
        images = images.astype("float32")
        with torch.no_grad():
            outputs = run(torch.tensor(images.transpose(0, 3, 1, 2)), number > 0)
        arrays.update({f"images{number}": images, f"outputs{number}": outputs.numpy()})
    np.savez(Path(folder) / "expected.npz", **arrays)


def _timm(case, folder):
    import timm

    architecture = case.name.partition(".")[0]
    model = _randomized(timm.create_model(architecture, **case.arguments))
    kept = {k: v for k, v in case.arguments.items() if k != "num_classes"}
    timm.models.save_for_hf(model, folder, model_args=kept, safe_serialization=True)

    def run(images, other_size):
        if not other_size or architecture.startswith(("pvt", "resnet")):
            return model(images)
        size = tuple(images.shape[2:])
        resized = timm.create_model(f"local-dir:{folder}", pretrained=True, img_size=size)
        return resized.eval()(images)

    return run


def _transformers(case, folder):
    import transformers

    name = case.name.partition(" ")[0]
    config_class = getattr(transformers, name).config_class
    size = {"image_size": case.sizes[0]}
    if "/" in case.name:
        size["patch_size"] = int(case.name.rpartition("/")[2])
    model = _randomized(getattr(transformers, name)(config_class(**size, **case.arguments)))
    model.save_pretrained(folder)

    def run(images, other_size):
        arguments = {}
        runner = model
        if other_size and name.startswith("Swin"):
            # Windows of version 2 follow the configuration; version 1 remembers, from call to call,
            # that a smaller map was not shifted.
            other = config_class(**{**size, "image_size": images.shape[2:]}, **case.arguments)
            runner = type(model)(other).eval()
            runner.load_state_dict(model.state_dict())
        elif other_size and not name.startswith(("Dinov2", "PvtV2", "ResNet")):
            arguments["interpolate_pos_encoding"] = True
        if name == "ViTMAEModel":  # noise that ascends leaves the patches in their order
            import torch

            patches = (images.shape[2] // 16) * (images.shape[3] // 16)
            arguments["noise"] = torch.arange(float(patches))[None].repeat(len(images), 1)
        outputs = runner(images, **arguments)
        if "logits" in outputs:
            return outputs.logits
        pooled = outputs.get("pooler_output")
        return outputs.last_hidden_state[:, 0] if pooled is None else pooled

    return run


def _randomized(model):
    """Far from an initialisation: a scale or bias that is never used must show."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.02
            parameter.add_(scale * torch.randn(parameter.shape))
        for module in model.modules():
            if hasattr(module, "running_var"):  # batch normalisation
                for statistic in (module.running_mean, module.running_var):
                    statistic.add_(0.1 * torch.randn(statistic.shape))
                # With random weights a map grows from block to block, and rounding with it.
                module.weight.mul_(0.5)
    return model.eval()


def difference(folder, number, size, dtype):
    """(largest difference, largest output) of the model loaded here from what was expected."""
    import keras

    import keras_vit

    arrays = np.load(Path(folder) / "expected.npz")
    size = tuple(size) if isinstance(size, list) else size
    keras.config.disable_interactive_logging()
    model = keras_vit.from_pretrained(folder, image_size=size, dtype=dtype)
    found = np.asarray(model.predict_on_batch(arrays[f"images{number}"]), "float32")
    expected = arrays[f"outputs{number}"]
    if found.shape != expected.shape:
        raise ValueError(f"Outputs of {found.shape}, expected {expected.shape}")
    return float(np.abs(found - expected).max()), float(np.abs(expected).max())


def start(case=None):
    """A worker: makes the reference of a case, by its number, or compares on its backend."""
    if case is not None:
        return lambda folder: make_reference(CASES[case], folder)
    from benchmarks import backends

    backends.full_float32()
    return difference


def measure(number, folder):
    """The rows of one case; every process ends before the next begins, for some models are large.

    Args:
        number: int, which of `CASES`.
        folder: path that does not exist yet.
    """
    case = CASES[number]
    with contextlib.closing(Worker("benchmarks.parity", {"case": number}, "torch")) as worker:
        worker.ask(folder=folder)
    rows = []
    for backend in filter(installed, BACKENDS):
        with contextlib.closing(Worker("benchmarks.parity", {}, backend)) as worker:
            for place, size in enumerate(case.sizes):
                for precision in PRECISIONS[: 1 if place else None]:
                    request = {"number": place, "size": size, "dtype": precision}
                    largest, scale = worker.ask(folder=folder, **request)
                    rows.append(
                        {
                            "hardware": hardware_name(),
                            "source": case.source,
                            "backend": backend,
                            "precision": precision,
                            "image_size": json.dumps(size).strip("[]").replace(", ", "x"),
                            "difference": f"{largest:.1e}",
                            "largest_output": f"{scale:.1f}",
                            "versions": versions("keras", backend, case.library),
                        }
                    )
    return rows


def main():
    arguments = _arguments()
    path = results_path("parity", arguments.out)
    for number, case in enumerate(CASES):
        if any(part in case.source for part in arguments.only):
            with tempfile.TemporaryDirectory() as scratch:
                # timm reads a tag in a name behind a point
                rows = measure(number, str(Path(scratch) / f"model{number}"))
            write_rows(path, rows, KEY)
            print_rows(rows, KEY + ("difference", "largest_output"))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of sources' names")
    parser.add_argument("--out", help="CSV file, by default results/parity_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
