"""The golden checkpoints, and how each of them is opened."""

from pathlib import Path

from keras_vit.checkpoints.readers.open import open_file

GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoints"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))
# A file that says all of itself, of each family: its place in tests/golden.
SOURCES = {
    "vit": "checkpoints/timm_vit",
    "deit": "checkpoints/timm_deit",
    "cait": "cait/timm",
    "hybrid": "hybrid/timm_root",
    "swin": "swin/timm_swin",
    "pvt": "pyramids/hf_v1",
    "pvt_v2": "pyramids/timm_v2",
    "resnet": "resnet/timm",
}


def source(case):
    """The folder where a configuration says what the model is, else the file of weights.

    Args:
        case: one of `CASES`, or the path of any other folder.
    """
    folder = GOLDEN / case
    if (folder / "config.json").is_file():
        return folder
    (file,) = (x for x in folder.iterdir() if x.name != "expected.npz")
    return file


def arguments(case):
    """What the source itself does not say: the heads of a width that nobody published."""
    configured = (GOLDEN / case / "config.json").is_file() and not case.startswith("timm")
    flax = case.startswith(("bv_", "vt_"))
    found = {} if configured or flax else {"num_heads": 4}
    if case == "hf_mae":
        found["part"] = "encoder"
    if case.startswith(("torch", "safetensors")):
        found["image_size"] = (24, 16)  # six positions make no square
    if case == "bv_sincos":
        found["image_size"] = 24  # computed for any size
    return found


def tensors(folder):
    """All arrays of a folder's file of weights."""
    reader = open_file(folder / "model.safetensors")
    found = {name: reader.read(name) for name in reader.tensors}
    reader.close()
    return found
