"""SETR-PUP as somebody writes it in PyTorch on timm's encoder, beside `keras_vit.SETR`."""

import timm
from torch import nn
from torch.nn import functional as F

ENCODER, WIDTH, LAYERS = "vit_small_patch16_224", 384, (2, 5, 8, 11)


class Decoder(nn.Module):
    """Convolutions, each followed by an upsampling, and a classifier of positions."""

    def __init__(self, num_classes, scales, channels=256):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        widths = [WIDTH, *[channels] * len(scales)]
        self.scales = scales
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in zip(widths, widths[1:], strict=False)
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x, size):
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for conv, scale in zip(self.convs, self.scales, strict=True):
            x = conv(x)
            if scale > 1:
                x = F.interpolate(x, scale_factor=scale, mode="bilinear")
        return F.interpolate(self.classifier(x), size=size, mode="bilinear")


class PlainSETR(nn.Module):
    """Logits of an image, or in training a list: those of the decoder and of four auxiliary heads.

    Source: Zheng et al. 2021 (arXiv:2012.15840), figure 1 (b).
    """

    def __init__(self, image_size, num_classes):
        super().__init__()
        self.encoder = timm.create_model(ENCODER, img_size=image_size, num_classes=0)
        self.encoder.norm = nn.Identity()  # never used
        self.decoder = Decoder(num_classes, (2, 2, 2, 1))
        self.auxiliary = nn.ModuleList(Decoder(num_classes, (4,)) for _ in LAYERS)

    def forward(self, images):
        maps = self.encoder.get_intermediate_layers(images, LAYERS, reshape=True)
        logits = self.decoder(maps[-1], images.shape[2:])
        if not self.training:
            return logits
        heads = zip(self.auxiliary, maps, strict=True)
        return [logits, *(head(x, images.shape[2:]) for head, x in heads)]
