"""SETR of Zheng et al. 2021 (arXiv:2012.15840): a Vision Transformer encoder and a decoder of maps.

The graph is that of the paper's figure 1: an encoder without its last normalisation and head, and
one of three decoders. Auxiliary heads, which are used in training only, read earlier layers.

The layers of the encoder keep their names and weight paths. What SETR adds is `decoder`, for MLA
`neck` before it, and `auxiliary_head0`, `auxiliary_head1` ...

Letters: B batch, H x W image size, C channels, h x w grid of patches, D width of the encoder,
F width of the decoder, K classes.
"""

import copy

import keras

from keras_vit.layers.validation import check_choice, check_count
from keras_vit.models.base import ImageModel
from keras_vit.models.classifier import check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.registry import register_task
from keras_vit.models.vit import ViTLarge
from keras_vit.tasks.encoder import encoder_of, serialized
from keras_vit.tasks.setr import features
from keras_vit.tasks.setr.decoders import (
    LinearDecoder,
    MultiLevelAggregation,
    MultiLevelDecoder,
    ResizeToImage,
    UpsamplingDecoder,
)
from keras_vit.tasks.setr.segment import SegmentsPictures
from keras_vit.tasks.setr.training import TrainsSegmentation

DECODERS = ("naive", "pup", "mla")
CONVENTIONS = ("authors", "mmseg")


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class SETR(TrainsSegmentation, SegmentsPictures, ImageModel):
    """SETR from images (B, H, W, C) to logits of every pixel (B, H, W, K), in float32.

    `model.compile(optimizer)` and `model.fit` train it on images and labels (B, H, W); the loss is
    the model's own (`compile`). In training (`model(images, training=True)`) a model with auxiliary
    heads returns {"main": logits, "auxiliary": [logits, ...]}; `predict`, `evaluate`, metrics and
    exports only see the main logits.

    Args:
        encoder: a model of this library, whose layers and weights are shared, not copied; its last
            normalisation and head are not used. None for a ViT-L/16.
        decoder: "naive" (a 1x1 convolution), "pup" (progressive upsampling) or "mla" (multi-level
            feature aggregation). The first two read the last of `layers`, "mla" all of them. The
            logits are then resized to the size of the image, whatever the stride of the encoder.
        num_classes: int, K, at least 2: the background is a class too.
        image_size: int or (H, W), in pixels, of the encoder that is built if `encoder` is None;
            None to accept any size at call time. A given encoder determines the size: leave it out
            ("auto") then.
        decoder_width: int, F, channels of the decoder; half as many in the convolutions that MLA
            upsamples.
        layers: sequence of int, which blocks of the encoder are read (stages of a pyramid such as
            Swin), counted from 0 and rising. By default the ends of the four quarters: 5, 11, 17
            and 23 of 24. MLA drops the class token and other prefix tokens before the first block.
        auxiliary_heads: bool, whether there are auxiliary heads for training. With "naive" they
            read all `layers` but the last, with "pup" all (with `convention="mmseg"` all but the
            last), with "mla" every map that the decoder reads.
        auxiliary_convs: int, number of convolutions in an auxiliary head of "naive" and "pup".
        convention: "authors" or "mmseg". As in mmsegmentation, "mmseg" upsamples in two steps for
            "naive" and before the classifier for "pup", uses no bias before a batch normalisation,
            and for "mla" upsamples without aligned corners, classifies with a 1x1 convolution and
            takes the deepest level first.
        short_side: int, to how many pixels `segment` resizes the shorter side of a picture; None to
            keep the size of a picture.
        include_preprocessing: bool. If True, the encoder that is built takes pixels 0..255. A given
            encoder determines this: leave it out (None) then.
        preprocessor: `keras_vit.Preprocessor`, of which `segment` uses the mean and std; by default
            the encoder's. It is saved with the model.

    Raises:
        ValueError: if a choice is unknown, the encoder does not have the layers, or `image_size` or
            `include_preprocessing` are not those of the encoder.

    Example:
        >>> encoder = keras_vit.from_pretrained(
        ...     "vit_tiny_patch16_224.augreg_in21k_ft_in1k", image_size=256
        ... )
        >>> model = keras_vit.SETR(encoder, "pup", num_classes=11)
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(images, labels)  # labels (B, H, W): 0..10, and 255 for ignored pixels
        >>> model.segment(["street.jpg"])[0].shape
        (480, 640)

    Sources: fudan-zvg/SETR `mmseg/models/decode_heads/vit_up_head.py`, `vit_mla_head.py`;
    mmsegmentation `mmseg/models/decode_heads/setr_up_head.py`, `setr_mla_head.py`.
    """

    def __init__(
        self,
        encoder=None,
        decoder="naive",
        num_classes=150,
        image_size="auto",
        decoder_width=256,
        layers=None,
        auxiliary_heads=True,
        auxiliary_convs=1,
        convention="authors",
        short_side=None,
        include_preprocessing=None,
        preprocessor=None,
        class_names=None,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        _check(self._arguments)
        if encoder is None:
            self._arguments["encoder"] = _default_encoder(self._arguments)
        encoder = encoder_of(self._arguments, SETR)
        layers = self._arguments["layers"] = features.chosen(encoder, layers)
        # Its configuration is enough: an attribute that is a model would be saved with its head.
        self._arguments["encoder"] = None
        object.__setattr__(self, "_encoder_config", serialized(encoder))

        images = encoder.input  # (B, H, W, C)
        grids = features.maps(encoder, layers, decoder != "mla", self.layer)  # (B, h, w, D) each
        if decoder == "mla":
            grids = self.layer(MultiLevelAggregation, decoder_width, name="neck")(grids)
            logits = self._multi_level_decoder()(grids)  # (B, 4h, 4w, K)
        else:
            logits = self._upsampling_decoder()(grids[-1])  # (B, s*h, s*w, K)
        logits = self._resize(logits, images, "logits")  # (B, H, W, K)

        auxiliary = [
            self._resize(self._auxiliary_head(i)(grid), images, f"auxiliary_logits{i}")
            for i, grid in enumerate(self._read_by_heads(grids))
        ]
        heads = [self._layers_by_name[f"auxiliary_head{i}"] for i in range(len(auxiliary))]
        object.__setattr__(self, "_heads", heads)  # `layers` has them
        super().__init__(images, logits, name)
        self._set_training_outputs(images, logits, auxiliary)

    def _upsampling_decoder(self):
        a, mmseg = self._given, self._given.convention == "mmseg"
        if a.decoder == "naive":
            kernel_size, scales = 1, (4,) if mmseg else (1,)
        else:
            kernel_size, scales = 3, (2, 2, 2, 2) if mmseg else (2, 2, 2, 1)
        return self.layer(
            UpsamplingDecoder,
            a.num_classes,
            a.decoder_width,
            kernel_size,
            scales,
            use_bias=not mmseg,
            name="decoder",
        )

    def _multi_level_decoder(self):
        a, mmseg = self._given, self._given.convention == "mmseg"
        return self.layer(
            MultiLevelDecoder,
            a.num_classes,
            a.decoder_width // 2,
            kernel_size=1 if mmseg else 3,
            align_corners=not mmseg,
            deepest_first=mmseg,
            name="decoder",
        )

    def _read_by_heads(self, grids):
        """The maps that auxiliary heads read, in the order of the heads."""
        a, mmseg = self._given, self._given.convention == "mmseg"
        if not a.auxiliary_heads:
            return []
        if a.decoder == "mla":
            return grids[::-1] if mmseg else grids
        return grids if a.decoder == "pup" and not mmseg else grids[:-1]

    def _auxiliary_head(self, i):
        a, mmseg, name = self._given, self._given.convention == "mmseg", f"auxiliary_head{i}"
        if a.decoder == "mla":
            return self.layer(LinearDecoder, a.num_classes, use_bias=mmseg, name=name)
        scale = 4 if mmseg or a.decoder == "pup" else 1
        return self.layer(
            UpsamplingDecoder,
            a.num_classes,
            a.decoder_width,
            3 if a.decoder == "pup" else 1,
            (scale,) * a.auxiliary_convs,
            use_bias=not mmseg,
            name=name,
        )

    def _resize(self, logits, images, name):
        float32 = self._arguments["dtype"].variable_dtype
        return self.layer(ResizeToImage, name=name, dtype=float32)(logits, images)

    @property
    def num_classes(self):
        """int, K, number of classes."""
        return self._arguments["num_classes"]

    @property
    def class_names(self):
        """list of str, one name per class, or None. It is saved with the model."""
        return self._arguments["class_names"]

    @class_names.setter
    def class_names(self, names):
        check_class_names(names, self.num_classes)
        self._arguments["class_names"] = None if names is None else list(names)

    @property
    def layers(self):
        """list of the layers: those of the graph for inference, and the auxiliary heads."""
        return [*super().layers, *self._heads]

    @property
    def encoder_layers(self):
        """list of the encoder's layers; `layer.trainable = False` for each freezes the encoder."""
        return [layer for layer in self.layers if layer.name not in self._layers_by_name]

    def get_config(self):
        return {**super().get_config(), "encoder": copy.deepcopy(self._encoder_config)}


def _default_encoder(arguments):
    """The ViT-L/16 of the paper."""
    size = arguments["image_size"]
    return ViTLarge(
        num_classes=None,
        image_size=512 if size == "auto" else size,
        position_resample="bilinear",  # as in the authors' code
        include_preprocessing=bool(arguments["include_preprocessing"]),
        preprocessor=arguments["preprocessor"],
        dtype=arguments["dtype"],
    )


def _check(arguments):
    """Raises a `ValueError` for arguments that no layer checks."""
    check_choice(arguments["decoder"], "decoder", DECODERS)
    check_choice(arguments["convention"], "convention", CONVENTIONS)
    check_count(arguments["num_classes"], "num_classes", minimum=2)  # one alone has no loss
    for name in ("decoder_width", "auxiliary_convs"):
        check_count(arguments[name], name)
    if arguments["short_side"] is not None:
        check_count(arguments["short_side"], "short_side")
    check_class_names(arguments["class_names"], arguments["num_classes"])


SETR_TASK = register_task("setr", "SETR", SETR)


# fmt: off
@SETR_TASK.variant
def SETRNaive(*, decoder="naive", layers=(9, 14, 19, 23), name="setr_naive", **kwargs):
    """SETR-Naive on ViT-L/16 (Zheng et al. 2021, section 4.1)."""


@SETR_TASK.variant
def SETRPUP(*, decoder="pup", layers=(9, 14, 19, 23), name="setr_pup", **kwargs):
    """SETR-PUP on ViT-L/16 (Zheng et al. 2021, section 4.1)."""


@SETR_TASK.variant
def SETRMLA(*, decoder="mla", layers=(5, 11, 17, 23), name="setr_mla", **kwargs):
    """SETR-MLA on ViT-L/16 (Zheng et al. 2021, section 4.1)."""
