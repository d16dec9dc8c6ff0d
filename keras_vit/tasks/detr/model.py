"""DETR of Carion et al. 2020 (arXiv:2005.12872): a backbone, a transformer, and a set of boxes.

The graph is that of the paper's figures 2 and 10: the last map of a backbone, an encoder over its
cells, a decoder over learned object queries, and two heads that read a class and a box from every
query.

The layers of the backbone keep their names and weight paths. What DETR adds is

    input_projection/{kernel,bias}                    (C, D)
    positions/{rows,columns}                          (50, D/2), learned positions only
    encoder_block00/attention/{query,key,value,proj}/{kernel,bias}
    encoder_block00/norm1/{gamma,beta}                after the attention
    encoder_block00/mlp/{fc1,fc2}/{kernel,bias}
    encoder_block00/norm2/{gamma,beta}                after the MLP
    queries/embeddings                                (Q, D)
    decoder_block00/self_attention/{query,key,value,proj}/{kernel,bias}
    decoder_block00/norm1/{gamma,beta}
    decoder_block00/cross_attention/{query,key,value,proj}/{kernel,bias}
    decoder_block00/norm2/{gamma,beta}
    decoder_block00/mlp/{fc1,fc2}/{kernel,bias}
    decoder_block00/norm3/{gamma,beta}
    decoder_norm/{gamma,beta}
    class_head/{kernel,bias}                          (D, K + 1), "no object" is the last
    box_head/{fc1,fc2,fc3}/{kernel,bias}              (D, D), (D, D), (D, 4)

and for training alone `query_groups/embeddings` ((G - 1) * Q, D) and `denoising/...`.

Letters: B batch, H x W image size, C channels of the backbone, h x w its last map, N = h*w,
D width, Q queries, K classes.
"""

import copy

import keras

from keras_vit.layers.sublayer import TORCH
from keras_vit.layers.validation import (
    as_pair,
    check_choice,
    check_count,
    check_rate,
)
from keras_vit.models.classifier import check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.registry import register_task
from keras_vit.models.walk import walk
from keras_vit.tasks.detr.backbone import backbone_of, serialized
from keras_vit.tasks.detr.blocks import NORM_EPSILON, DetrDecoderBlock, DetrEncoderBlock
from keras_vit.tasks.detr.detect import DetectsPictures
from keras_vit.tasks.detr.features import backbone_model, run_masked
from keras_vit.tasks.detr.heads import BoxHead, ObjectQueries, torch_uniform
from keras_vit.tasks.detr.inputs import PaddedInputs
from keras_vit.tasks.detr.positions import LearnedPositions, MapMask, MapToTokens, SinePositions
from keras_vit.tasks.detr.training import TrainsDetection

POSITIONS = {"sine": SinePositions, "learned": LearnedPositions}


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class DETR(TrainsDetection, DetectsPictures, PaddedInputs):
    """DETR from images (B, H, W, C) to a set of Q classes and boxes for each of them.

    Inputs are images alone, or {"images": (B, H, W, C), "valid": bool (B, H, W)} for pictures of
    different sizes, padded with zeros at the bottom and right after they were normalised; True is
    picture. Padding reaches neither the transformer nor the positions.

    Outputs are {"logits": (B, Q, K + 1), "boxes": (B, Q, 4)}, float32. The last class is "no
    object". Boxes are centre x, centre y, width and height, in 0..1 of the valid picture. In
    training (`model(x, training=True)`) there is also "auxiliary", a list of such dicts of the
    earlier blocks of the decoder.

    Args:
        backbone: a model of this library, whose layers and weights are shared, not copied; its head
            is not used. Or the name of a variant, such as "ResNet101", that is built for images of
            any size; None for "ResNet50".
        num_classes: int, K. With 91, outputs are COCO's category ids.
        num_queries: int, Q, the largest number of objects in a picture.
        width: int, D, width of the transformer, a multiple of 4 and of `num_heads`.
        encoder_depth: int, number of blocks of the encoder; it may be 0.
        decoder_depth: int, number of blocks of the decoder.
        num_heads: int, attention heads, or a pair for encoder and decoder.
        mlp_dim: int, hidden width of the MLPs, or a pair for encoder and decoder.
        mlp: activation of the MLPs (`keras_vit.layers.MLP`).
        position_embedding: "sine" or "learned", positions of the cells of the map.
        dropout_rate: float in [0, 1), dropout in the transformer.
        attention_dropout_rate: float in [0, 1), dropout on its attention scores.
        dilation: bool, whether the last stage of a ResNet that is built has the resolution of the
            one before ("DC5"). A given backbone determines this: leave it out (None) then.
        image_size: int or (H, W), in pixels, of the backbone that is built; None to accept any
            size. A given backbone determines the size: leave it out ("auto") then. Padded images
            may have any size with every backbone.
        query_groups: int, number of groups of queries in training (Group DETR, Chen et al. 2023);
            inference uses the first alone.
        denoising: bool, whether training also reconstructs the boxes from noisy ones (DN-DETR, Li
            et al. 2022); inference does not.
        include_preprocessing: bool. If True, the backbone that is built takes pixels 0..255. A
            given backbone determines this: leave it out (None) then.
        preprocessor: `keras_vit.Preprocessor`, which `detect` uses; by default one with
            resize="fit", sizes (800, 1333) and the mean and std of the backbone's.
        class_ids: list of K ints, the ids of the outputs in the data set; None if they are 0, 1 ...
        remat: bool, whether training recomputes the blocks of the transformer in the backward pass
            (gradient checkpointing).

    Raises:
        ValueError: if a choice is unknown, sizes do not divide, or `image_size`, `dilation` or
            `include_preprocessing` are not those of a given backbone.

    Example:
        >>> model = keras_vit.DETR(keras_vit.ResNet50(weights="imagenet"), num_classes=20)
        >>> model.compile(keras.optimizers.AdamW(1e-4, weight_decay=1e-4, global_clipnorm=0.1))
        >>> model.fit(dataset)  # ({"images", "valid"}, {"boxes", "labels", "count"})
        >>> model.detect(["street.jpg"])[0].boxes.shape
        (7, 4)

    Source: facebookresearch/detr `models/detr.py`, `models/transformer.py`.
    """

    def __init__(
        self,
        backbone=None,
        num_classes=91,
        num_queries=100,
        width=256,
        encoder_depth=6,
        decoder_depth=6,
        num_heads=8,
        mlp_dim=2048,
        mlp="relu",
        position_embedding="sine",
        dropout_rate=0.1,
        attention_dropout_rate=0.1,
        dilation=None,
        image_size="auto",
        query_groups=1,
        denoising=False,
        include_preprocessing=None,
        preprocessor=None,
        class_names=None,
        class_ids=None,
        remat=False,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        _check(self._arguments)
        backbone = backbone_of(self._arguments)
        # Its configuration is enough: an attribute that is a model would be saved with its head.
        self._arguments["backbone"] = None
        features = backbone_model(backbone, self.layer)
        layouts = {layer.name: backbone._layouts.get(layer.name) for layer in backbone.layers}
        for key, value in (
            ("_backbone_config", serialized(backbone)),
            ("_backbone", features),
            ("_backbone_layouts", layouts),
        ):
            object.__setattr__(self, key, value)

        self._make_aids()
        images = features.input  # (B, H, W, C)
        memory = self.encode(features.output)
        objects = self.decode(*memory)[-1]  # (B, Q, D)
        super().__init__(images, self.read_out(objects), name)

    def embed(self, images, valid=None, training=None):
        """Computes the map of the backbone, the first of four stages.

        Args:
            images: float tensor (B, H, W, C).
            valid: bool tensor (B, H, W), True where there is a picture, or None if everywhere.
            training: bool, whether to apply dropout; by default Keras's current mode.

        Returns:
            (map (B, h, w, C), bool mask (B, h, w) of valid cells, or None).
        """
        if valid is None:
            grid = (walk if TORCH else _called)(self._backbone, images, training)
            return grid, None
        grid = run_masked(
            self._backbone, self._backbone_layouts, images, valid, training, self.layer
        )
        return grid, self.layer(MapMask, name="map_mask")(valid, grid)

    def encode(self, grid, mask=None, training=None):
        """Applies the encoder, the second stage.

        Args:
            grid, mask: what `embed` returns.
            training: as in `embed`.

        Returns:
            (memory (B, N, D), positions (B or 1, N, D), mask (B, N) or None).
        """
        a, layer = self._given, self.layer
        project = layer(
            keras.layers.Dense,
            a.width,
            kernel_initializer=torch_uniform(),
            name="input_projection",
        )
        x = project(grid)  # (B, h, w, D)
        positions = layer(POSITIONS[a.position_embedding], a.width, name="positions")(x, valid=mask)
        x = layer(MapToTokens, name="cells")(x)  # (B, N, D)
        if mask is not None:
            mask = layer(MapToTokens, name="mask_cells")(mask)
        for i in range(a.encoder_depth):
            block = self._block(DetrEncoderBlock, 0, f"encoder_block{i:02d}")
            x = block(x, positions, valid=mask, training=training)  # (B, N, D)
        return x, positions, mask

    def decode(self, memory, positions, mask=None, training=None, queries=None, visible=None):
        """Applies the decoder, the third stage.

        Args:
            memory, positions, mask: what `encode` returns.
            training: as in `embed`.
            queries: (objects, queries), tensors (B, Q, D) that the decoder starts from; by default
                zeros and the learned queries.
            visible: bool tensor (Q, Q), True where a query may attend to another, or None.

        Returns:
            list of float tensors (B, Q, D), the output of every block.
        """
        a, layer = self._given, self.layer
        if queries is None:
            queries = layer(ObjectQueries, a.num_queries, name="queries")(memory)
        objects, queries = queries
        found = []
        for i in range(a.decoder_depth):
            block = self._block(DetrDecoderBlock, 1, f"decoder_block{i:02d}")
            objects = block(
                objects,
                queries,
                memory,
                positions,
                valid=mask,
                visible=visible,
                training=training,
            )
            found.append(objects)
        return found

    def read_out(self, objects):
        """Normalises the output of a block of the decoder and applies the heads, the last stage.

        Args:
            objects: float tensor (B, Q, D).

        Returns:
            {"logits": (B, Q, K + 1), "boxes": (B, Q, 4)}, float32.
        """
        a, layer = self._given, self.layer
        x = layer(keras.layers.LayerNormalization, epsilon=NORM_EPSILON, name="decoder_norm")(
            objects
        )
        float32 = a.dtype.variable_dtype
        classify = layer(
            keras.layers.Dense,
            a.num_classes + 1,
            kernel_initializer=torch_uniform(),
            dtype=float32,
            name="class_head",
        )
        return {
            "logits": classify(x),
            "boxes": layer(BoxHead, dtype=float32, name="box_head")(x),
        }

    def _block(self, kind, which, name):
        """A block of the encoder (`which` is 0) or of the decoder (1)."""
        a = self._given
        return self.layer(
            kind,
            _pair(a.num_heads)[which],
            _pair(a.mlp_dim)[which],
            mlp=a.mlp,
            dropout_rate=a.dropout_rate,
            attention_dropout_rate=a.attention_dropout_rate,
            remat=a.remat,
            name=name,
        )

    def grid_of(self, layer_name, image_size):
        """(h, w), the cells of a layer's map for images of size (H, W); incomplete ones count."""
        if layer_name not in self._layers_by_name:  # of the backbone
            return super().grid_of(layer_name, image_size)
        shape = (None, *image_size, self.input.shape[-1])
        return tuple(self._backbone.compute_output_shape(shape)[1:3])

    @property
    def num_classes(self):
        """int, K, number of classes."""
        return self._arguments["num_classes"]

    @property
    def num_queries(self):
        """int, Q, the largest number of objects that can be found in a picture."""
        return self._arguments["num_queries"]

    @property
    def class_names(self):
        """list of str, one name per class, or None. It is saved with the model."""
        return self._arguments["class_names"]

    @class_names.setter
    def class_names(self, names):
        check_class_names(names, self.num_classes)
        self._arguments["class_names"] = None if names is None else list(names)

    @property
    def class_ids(self):
        """list of int, the ids of the outputs in the data set, or None if they are 0, 1 ..."""
        return self._arguments["class_ids"]

    @class_ids.setter
    def class_ids(self, ids):
        check_class_ids(ids, self.num_classes)
        self._arguments["class_ids"] = None if ids is None else [int(i) for i in ids]

    def get_config(self):
        return {**super().get_config(), "backbone": copy.deepcopy(self._backbone_config)}


def _called(model, images, training):
    return model.call(images, training=training)


def _pair(value):
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def _check(arguments):
    """Raises a `ValueError` for arguments that no layer checks."""
    check_choice(arguments["position_embedding"], "position_embedding", tuple(POSITIONS))
    check_count(arguments["num_classes"], "num_classes")
    for name in ("num_queries", "width", "decoder_depth", "query_groups"):
        check_count(arguments[name], name)
    check_count(arguments["encoder_depth"], "encoder_depth", minimum=0)
    for name in ("dropout_rate", "attention_dropout_rate"):
        check_rate(arguments[name], name)
    for name in ("num_heads", "mlp_dim"):
        as_pair(arguments[name], name)
    check_choice(arguments["denoising"], "denoising", (False, True))
    check_class_names(arguments["class_names"], arguments["num_classes"])
    check_class_ids(arguments["class_ids"], arguments["num_classes"])


def check_class_ids(ids, num_classes):
    """Raises a `ValueError` unless `ids` is None or a list of K different integers."""
    if ids is None:
        return
    whole = isinstance(ids, (list, tuple)) and all(
        isinstance(i, int) and not isinstance(i, bool) for i in ids
    )
    if not whole or len(set(ids)) != num_classes or len(ids) != num_classes:
        raise ValueError(
            f"class_ids must be a list of {num_classes} different integers, one for each class. "
            f"Received: {ids!r}"
        )


DETR_TASK = register_task("detr", "DETR", DETR)


# fmt: off
@DETR_TASK.variant
def DETRResNet50(*, backbone="ResNet50", name="detr_resnet50", **kwargs):
    """DETR on ResNet-50 (Carion et al. 2020, table 1)."""


@DETR_TASK.variant
def DETRResNet50DC5(*, backbone="ResNet50", dilation=True, name="detr_resnet50_dc5", **kwargs):
    """DETR-DC5 on ResNet-50, whose last stage is dilated (Carion et al. 2020, table 1)."""


@DETR_TASK.variant
def DETRResNet101(*, backbone="ResNet101", name="detr_resnet101", **kwargs):
    """DETR on ResNet-101 (Carion et al. 2020, table 1)."""


@DETR_TASK.variant
def DETRResNet101DC5(*, backbone="ResNet101", dilation=True, name="detr_resnet101_dc5", **kwargs):
    """DETR-DC5 on ResNet-101 (Carion et al. 2020, table 1)."""
