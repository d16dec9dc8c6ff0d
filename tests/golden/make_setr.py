"""Makes setr/*: tiny random SETRs as their authors and mmsegmentation save them.

    pip install torch && python tests/golden/make_setr.py

The reference code needs mmcv, so encoder and decoders are restated here in PyTorch; the encoder is
timm's too, and that the totals of full-size models are the paper's shows the structure of the
decoders (tests/tasks/setr/test_model.py).
Each folder holds a checkpoint `setr.pth` with the names of its source, and `expected.npz`:
`made_with`; `pixels` (B, H, W, C) of 0..255, which the model takes normalised with ImageNet's mean
and standard deviation; `labels` (B, H, W), 255 where ignored; logits as (B, H, W, K): `logits` and
`auxiliary0` ... in inference, `train_logits` and `train_auxiliary0` ... in training; `loss_valid`
and `loss_all`, the cross-entropy in training with the auxiliary heads at 0.4, averaged over valid
and over all pixels; `moving/...`, the statistics of batch normalisation after that one pass; and
`other_logits` for `other_pixels` of another size, with positions resampled as the sources do.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent / "setr"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SIZE, PATCH, WIDTH, DEPTH, HEADS, CLASSES, CHANNELS = 16, 4, 8, 4, 2, 3, 6
LAYERS = (0, 1, 2, 3)


def resize(x, size=None, scale=None, corners=False):
    return F.interpolate(x, size, scale, mode="bilinear", align_corners=corners)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        heads = self.qkv(x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(*heads)
        return self.proj(x.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A block with the names of timm."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(), MLP()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """A ViT without its last normalisation; MLA's drops the class token before the blocks."""

    def __init__(self, with_token):
        super().__init__()
        self.with_token = with_token
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, (SIZE // PATCH) ** 2 + 1, WIDTH))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))

    def positions(self, size):
        side = SIZE // PATCH
        grid = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, WIDTH, side, side)
        grid = resize(grid, size) if size != (side, side) else grid
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def forward(self, images):
        x = self.patch_embed.proj(images)
        size = tuple(x.shape[2:])
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        x = x + self.positions(size)
        x = x if self.with_token else x[:, 1:]
        found = []
        for block in self.blocks:
            x = block(x)
            patches = x[:, 1:] if self.with_token else x
            found.append(patches.transpose(1, 2).reshape(len(x), WIDTH, *size))
        return [found[i] for i in LAYERS]


def normalised(norm, x):
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AuthorsUp(nn.Module):
    def __init__(self, kernel, scales):
        super().__init__()
        self.scales = scales
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        width = WIDTH
        for i in range(len(scales)):
            setattr(self, f"conv_{i}", nn.Conv2d(width, CHANNELS, kernel, padding=kernel // 2))
            setattr(self, f"syncbn_fc_{i}", nn.BatchNorm2d(CHANNELS))
            width = CHANNELS
        setattr(self, f"conv_{len(scales)}", nn.Conv2d(width, CLASSES, 1))
        self.conv_seg = nn.Conv2d(2 * CHANNELS, CLASSES, 1)  # never used

    def forward(self, x):
        x = normalised(self.norm, x)
        for i, scale in enumerate(self.scales):
            x = F.relu(getattr(self, f"syncbn_fc_{i}")(getattr(self, f"conv_{i}")(x)))
            x = resize(x, scale=scale) if scale > 1 else x
        return getattr(self, f"conv_{len(self.scales)}")(x)


def conv_norm(width, channels, kernel):
    return [
        nn.Conv2d(width, channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]


class AuthorsNeck(nn.Module):
    """`norm_0` ... of the backbone, and its `mla`."""

    def __init__(self):
        super().__init__()
        for i in range(4):
            setattr(self, f"norm_{i}", nn.LayerNorm(WIDTH, eps=1e-6))
        self.mla = nn.Module()
        for p in (2, 3, 4, 5):
            setattr(self.mla, f"mla_p{p}_1x1", nn.Sequential(*conv_norm(WIDTH, CHANNELS, 1)))
        for p in (2, 3, 4, 5):
            setattr(self.mla, f"mla_p{p}", nn.Sequential(*conv_norm(CHANNELS, CHANNELS, 3)))

    def forward(self, maps):
        maps = [normalised(getattr(self, f"norm_{i}"), x) for i, x in enumerate(maps)]
        p2, p3, p4, p5 = (
            getattr(self.mla, f"mla_p{p}_1x1")(x) for p, x in zip((2, 3, 4, 5), maps, strict=True)
        )
        p4 = p5 + p4
        p3 = p4 + p3
        p2 = p3 + p2
        levels = zip((2, 3, 4, 5), (p2, p3, p4, p5), strict=True)
        return [getattr(self.mla, f"mla_p{p}")(x) for p, x in levels]


class AuthorsMLA(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlahead = nn.Module()
        half = CHANNELS // 2
        for p in (2, 3, 4, 5):
            pair = [*conv_norm(CHANNELS, half, 3), *conv_norm(half, half, 3)]
            setattr(self.mlahead, f"head{p}", nn.Sequential(*pair))
        self.cls = nn.Conv2d(4 * half, CLASSES, 3, padding=1)
        self.conv_seg = nn.Conv2d(2 * CHANNELS, CLASSES, 1)  # never used

    def forward(self, maps):
        maps = [
            resize(getattr(self.mlahead, f"head{p}")(x), scale=4, corners=True)
            for p, x in zip((2, 3, 4, 5), maps, strict=True)
        ]
        return self.cls(torch.cat(maps, 1))


class AuthorsLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.aux = nn.Conv2d(CHANNELS, CLASSES, 1, bias=False)
        self.conv_seg = nn.Conv2d(2 * CHANNELS, CLASSES, 1)  # never used

    def forward(self, x):
        return self.aux(x)


class ConvModule(nn.Module):
    def __init__(self, width, channels, kernel):
        super().__init__()
        self.conv, self.bn, self.relu = conv_norm(width, channels, kernel)

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


class MMSegUp(nn.Module):
    def __init__(self, kernel, scales):
        super().__init__()
        self.scales = scales
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        widths = (WIDTH, *(CHANNELS for _ in scales))
        self.up_convs = nn.ModuleList(
            nn.Sequential(ConvModule(widths[i], CHANNELS, kernel)) for i in range(len(scales))
        )
        self.conv_seg = nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, x):
        x = normalised(self.norm, x)
        for conv, scale in zip(self.up_convs, self.scales, strict=True):
            x = resize(conv(x), scale=scale)
        return self.conv_seg(x)


class MMSegNeck(nn.Module):
    """Its outputs are the deepest level first."""

    def __init__(self):
        super().__init__()
        self.norm = nn.ModuleList(nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(4))
        self.mla = nn.Module()
        self.mla.channel_proj = nn.ModuleList(ConvModule(WIDTH, CHANNELS, 1) for _ in range(4))
        self.mla.feat_extract = nn.ModuleList(ConvModule(CHANNELS, CHANNELS, 3) for _ in range(4))

    def forward(self, maps):
        projected = [
            project(normalised(norm, x))
            for norm, project, x in zip(self.norm, self.mla.channel_proj, maps, strict=True)
        ]
        found, total = [], 0
        for x, extract in zip(projected[::-1], self.mla.feat_extract, strict=True):
            total = total + x
            found.append(extract(total))
        return found


class MMSegMLA(nn.Module):
    def __init__(self):
        super().__init__()
        half = CHANNELS // 2
        self.up_convs = nn.ModuleList(
            nn.Sequential(ConvModule(CHANNELS, half, 3), ConvModule(half, half, 3))
            for _ in range(4)
        )
        self.conv_seg = nn.Conv2d(4 * half, CLASSES, 1)

    def forward(self, maps):
        pairs = zip(self.up_convs, maps, strict=True)
        return self.conv_seg(torch.cat([resize(conv(x), scale=4) for conv, x in pairs], 1))


class MMSegLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_seg = nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, x):
        return self.conv_seg(x)


class Model(nn.Module):
    def __init__(self, decoder, convention):
        super().__init__()
        self.decoder, self.mmseg = decoder, convention == "mmseg"
        self.backbone = Encoder(with_token=decoder != "mla")
        up = MMSegUp if self.mmseg else AuthorsUp
        if decoder == "mla":
            self.neck = MMSegNeck() if self.mmseg else AuthorsNeck()
            self.decode_head = MMSegMLA() if self.mmseg else AuthorsMLA()
            heads = [MMSegLinear() if self.mmseg else AuthorsLinear() for _ in range(4)]
        elif decoder == "naive":
            self.decode_head = up(1, (4,) if self.mmseg else (1,))
            heads = [up(1, (4, 4) if self.mmseg else (1,)) for _ in range(3)]
        else:
            self.decode_head = up(3, (2, 2, 2, 2) if self.mmseg else (2, 2, 2, 1))
            heads = [up(3, (4, 4) if self.mmseg else (4,)) for _ in range(3 if self.mmseg else 4)]
        self.auxiliary_head = nn.ModuleList(heads)

    def forward(self, images):
        maps = self.backbone(images)
        maps = self.neck(maps) if self.decoder == "mla" else maps
        read = maps if self.decoder == "mla" else maps[-1]
        outputs = [self.decode_head(read)]
        outputs += [head(x) for head, x in zip(self.auxiliary_head, maps, strict=False)]
        return [resize(x, images.shape[2:]) for x in outputs]


def renamed(name, mmseg):
    """The name of a tensor in its source."""
    if not mmseg:
        return name.replace("neck.", "backbone.")
    for ours, theirs in (
        ("backbone.patch_embed.proj.", "backbone.patch_embed.projection."),
        ("backbone.blocks.", "backbone.layers."),
        (".norm1.", ".ln1."),
        (".norm2.", ".ln2."),
        (".attn.qkv.", ".attn.attn.in_proj_"),
        (".attn.proj.", ".attn.attn.out_proj."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
    ):
        name = name.replace(ours, theirs)
    return name


def randomized(model):
    """Far from an initialisation: a bias, scale or statistic that is never used must show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.dtype == torch.int64:
                continue
            spread = 0.3 if tensor.ndim in (1, 3) else tensor[0].numel() ** -0.5
            noise = torch.randn(tensor.shape, generator=generator) * spread
            if "running_var" in name:
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim == 1 and "bias" not in name and "running" not in name:
                tensor.copy_(noise + 1.0)
            else:
                tensor.copy_(noise)
    return model.eval()


def inputs(pixels):
    images = ((pixels / 255 - MEAN) / STD).astype("float32")
    return torch.tensor(images.transpose(0, 3, 1, 2))


def named(outputs, prefix=""):
    arrays = [x.detach().numpy().transpose(0, 2, 3, 1) for x in outputs]
    found = {f"{prefix}logits": arrays[0]}
    return found | {f"{prefix}auxiliary{i}": x for i, x in enumerate(arrays[1:])}


def losses(outputs, labels):
    target = torch.tensor(labels.astype("int64"))
    weights = [1.0, *(0.4 for _ in outputs[1:])]
    each = [F.cross_entropy(x, target, ignore_index=255, reduction="none") for x in outputs]
    valid = (target != 255).sum()
    pairs = list(zip(weights, each, strict=True))
    return {
        "loss_valid": float(sum(w * x.detach().sum() / valid for w, x in pairs)),
        "loss_all": float(sum(w * x.detach().mean() for w, x in pairs)),
    }


def main():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype("uint8")
    other = rng.integers(0, 256, (1, 20, 24, 3)).astype("uint8")
    labels = rng.integers(0, CLASSES, (2, SIZE, SIZE)).astype("uint8")
    labels[rng.random(labels.shape) < 0.2] = 255
    shutil.rmtree(HERE, ignore_errors=True)
    for convention in ("authors", "mmseg"):
        for decoder in ("naive", "pup", "mla"):
            mmseg = convention == "mmseg"
            torch.manual_seed(0)
            model = randomized(Model(decoder, convention))
            folder = HERE / f"{convention}_{decoder}"
            folder.mkdir(parents=True)
            state = {renamed(name, mmseg): x.clone() for name, x in model.state_dict().items()}
            torch.save({"meta": {"epoch": 1}, "state_dict": state}, folder / "setr.pth")
            with torch.no_grad():
                found = named(model(inputs(pixels)))
                other_logits = named(model(inputs(other)))["logits"]
            trained = model.train()(inputs(pixels))
            moving = {
                f"moving/{renamed(name, mmseg)}": x.numpy()
                for name, x in model.state_dict().items()
                if "running" in name
            }
            np.savez_compressed(
                folder / "expected.npz",
                made_with=f"torch {torch.__version__}",
                pixels=pixels,
                labels=labels,
                **found,
                **named(trained, "train_"),
                **losses(trained, labels),
                **moving,
                other_pixels=other,
                other_logits=other_logits,
            )


if __name__ == "__main__":
    main()
