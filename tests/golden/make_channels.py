"""Makes channels.npz: what timm computes with RGB weights on images of other numbers of channels.

    pip install timm && python tests/golden/make_channels.py

It reads the folders of timm that the other scripts make. The file holds `made_with`, and for each
CASE and number of channels N `CASE/N/pixels` (B, H, W, N) of 0..255, which the model takes as
`pixels / 127.5 - 1`, and `CASE/N/logits`. `kernel` (D, C, p, q) and `kernel/N` are in and out of
timm's `adapt_input_conv`.
"""

from pathlib import Path

import numpy as np
import timm
import torch
from timm.models._manipulate import adapt_input_conv

HERE = Path(__file__).parent
CASES = {  # case: its folder, and the size of its images
    "vit": ("checkpoints/timm_vit", (24, 16)),
    "deit": ("checkpoints/timm_deit", (24, 16)),
    "cait": ("cait/timm", None),
    "hybrid": ("hybrid/timm_root", None),
    "swin": ("swin/timm_swin", (32, 32)),
    "pvt_v2": ("pyramids/timm_v2", None),
    "resnet": ("resnet/timm", None),
}
CHANNELS = (1, 2, 4, 7)


def main():
    rng = np.random.default_rng(0)
    found = {"made_with": f"timm {timm.__version__}, torch {torch.__version__}"}
    kernel = rng.normal(size=(5, 3, 2, 3)).astype("float32")
    found["kernel"] = kernel
    for n in CHANNELS:
        found[f"kernel/{n}"] = adapt_input_conv(n, torch.tensor(kernel)).numpy()
    for case, (folder, size) in CASES.items():
        for n in (1, 4):
            model = timm.create_model(f"local-dir:{HERE / folder}", pretrained=True, in_chans=n)
            size = size or tuple(model.pretrained_cfg["input_size"][1:])
            pixels = rng.integers(0, 256, (2, *size, n)).astype("uint8")
            x = torch.tensor((pixels / 127.5 - 1).astype("float32").transpose(0, 3, 1, 2))
            with torch.no_grad():
                found[f"{case}/{n}/logits"] = model.eval()(x).numpy()
            found[f"{case}/{n}/pixels"] = pixels
    np.savez_compressed(HERE / "channels.npz", **found)


if __name__ == "__main__":
    main()
