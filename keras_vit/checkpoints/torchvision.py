"""The preprocessing of the weights that torchvision publishes, which its files do not hold."""

from keras_vit.checkpoints.catalog import imagenet_names
from keras_vit.checkpoints.configs import Description
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.untrusted import brief
from keras_vit.preprocessing import Preprocessor

KEY = "torchvision"  # of the configuration that stands for a file
# file: (pixels of the crop, of the short side before it, interpolation), as torchvision 0.28.0 has
# them in the `transforms` of its `*_Weights`. The digits in a name begin the file's SHA-256.
PUBLISHED = {
    "vit_b_16-c867db91.pth": (224, 256, "bilinear"),
    "vit_b_16_swag-9ac1b537.pth": (384, 384, "bicubic"),
    "vit_b_16_lc_swag-4e70ced5.pth": (224, 224, "bicubic"),
    "vit_b_32-d86f8d99.pth": (224, 256, "bilinear"),
    "vit_l_16-852ce7e3.pth": (224, 242, "bilinear"),
    "vit_l_16_swag-4f3808c9.pth": (512, 512, "bicubic"),
    "vit_l_16_lc_swag-4d563306.pth": (224, 224, "bicubic"),
    "vit_l_32-c7638314.pth": (224, 256, "bilinear"),
    "vit_h_14_swag-80465313.pth": (518, 518, "bicubic"),
    "vit_h_14_lc_swag-c1eb923e.pth": (224, 224, "bicubic"),
    "swin_t-704ceda3.pth": (224, 232, "bicubic"),
    "swin_s-5e29d889.pth": (224, 246, "bicubic"),
    "swin_b-68c6b09e.pth": (224, 238, "bicubic"),
    "swin_v2_t-b137f0e2.pth": (256, 260, "bicubic"),
    "swin_v2_s-637d8ceb.pth": (256, 260, "bicubic"),
    "swin_v2_b-781e5279.pth": (256, 272, "bicubic"),
    "resnet18-f37072fd.pth": (224, 256, "bilinear"),
    "resnet34-b627a593.pth": (224, 256, "bilinear"),
    "resnet50-0676ba61.pth": (224, 256, "bilinear"),
    "resnet50-11ad3fa6.pth": (224, 232, "bilinear"),
    "resnet101-63fe2227.pth": (224, 256, "bilinear"),
    "resnet101-cd907fc2.pth": (224, 232, "bilinear"),
    "resnet152-394f9c45.pth": (224, 256, "bilinear"),
    "resnet152-f82ba261.pth": (224, 232, "bilinear"),
}


def hash_in(name):
    """The first digits of the SHA-256 of a file that torchvision published, or None."""
    return name.removesuffix(".pth").rpartition("-")[2] if name in PUBLISHED else None


def config_of(name):
    """The configuration that stands for a published file of that name, or None."""
    return {KEY: name} if name in PUBLISHED else None


def describe(config):
    """`Description` of a published file: its preprocessing and the classes of ImageNet-1k."""
    name = config[KEY]
    if not isinstance(name, str) or name not in PUBLISHED:
        raise CheckpointError(
            f"torchvision has published no such weights. Received: {KEY}={brief(name)}"
        )
    crop, resized, interpolation = PUBLISHED[name]
    preprocessor = Preprocessor(crop, crop_fraction=crop / resized, interpolation=interpolation)
    return Description(preprocessor=preprocessor, class_names=list(imagenet_names()))
