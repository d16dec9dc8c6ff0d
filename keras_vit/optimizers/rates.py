"""Which variables decay, and how fast each learns."""

from keras_vit.layers.block import BaseBlock

# Weight decay applies to matrices only, as in DeiT's code and big_vision: not to biases,
# normalisations, LayerScale, tokens and position embeddings.
NO_DECAY = ("bias", "query_bias", "value_bias", "gamma", "beta", "probe", "logit_scale")
NO_DECAY_LAYERS = (
    "class_token",
    "mask_token",
    "distillation_token",
    "registers",
    "position_embedding",
    "position_bias",
)
# First layers of the weight paths of what a pre-trained encoder does not bring.
HEADS = ("head", "distillation_head", "decoder")
AUXILIARY = "auxiliary_head"  # and a number
# How the weight paths begin of what a detector adds to its backbone.
DETECTOR = ("input_projection", "positions/", "encoder_block", "decoder", "queries/")
DETECTOR += ("query_groups", "denoising", "class_head", "box_head")


def decays(path):
    """Whether weight decay should apply to a variable.

    Args:
        path: str, path of the variable, such as "block00/mlp/fc1/kernel".

    Returns:
        bool, True for matrices, False for biases, normalisations, LayerScale, tokens and position
        embeddings.

    Example:
        >>> decays("block00/mlp/fc1/kernel"), decays("block00/norm1/gamma")
        (True, False)
    """
    *layers, name = path.split("/")
    # Only the end of a layer's name is compared: models with stages prefix it with the stage.
    return name not in NO_DECAY and not any(layer.endswith(NO_DECAY_LAYERS) for layer in layers)


def layer_shares(model, layer_decay):
    """The learning rate factors of layer-wise learning rate decay.

    The factor is 1 for the head and the last normalisation, `layer_decay` for the last block, its
    square for the block before, and smallest for the layers before the first block.

    Args:
        model: model of this library, or another functional model with blocks
            (`keras_vit.layers.Block`).
        layer_decay: float, factor from one block to the block before, such as 0.75.

    Returns:
        list of float, one per trainable variable, in the order of `model.trainable_variables`.

    Example:
        >>> shares = layer_shares(keras_vit.ViTTiny(num_classes=10), layer_decay=0.5)
        >>> shares[0], shares[-1]  # patch embedding, head
        (0.0001220703125, 1.0)

    Source: Clark et al. 2020 (arXiv:2003.10555); Bao et al. 2022 (arXiv:2106.08254) for ViT.
    """
    # Number of blocks after a layer; a layer between two blocks counts with the later one.
    distances, blocks = {}, 0
    for layer in reversed(model.layers):
        blocks += isinstance(layer, BaseBlock)
        distances[layer.name] = blocks
    for layer in model.layers:
        if isinstance(layer, BaseBlock):
            break
        distances[layer.name] = blocks + 1
    owners = {id(v): layer.name for layer in model.layers for v in layer.trainable_variables}
    # Layers beside the graph, such as auxiliary heads, come after all blocks.
    own = [distances.get(owners.get(id(v)), 0) for v in model.trainable_variables]
    return [layer_decay**distance for distance in own]


def head_shares(model, head_rate):
    """The learning rate factors of a model whose head learns at another rate than the rest.

    The head is what a pre-trained encoder does not bring: the classifiers `head` and
    `distillation_head`, or the `decoder` and the auxiliary heads of a task.

    Args:
        model: model of this library.
        head_rate: float, the factor of the head, such as 10; that of the rest is 1.

    Returns:
        list of float, one per trainable variable, in the order of `model.trainable_variables`.

    Example:
        >>> shares = head_shares(keras_vit.ViTTiny(num_classes=10), head_rate=10.0)
        >>> shares[0], shares[-1]  # patch embedding, head
        (1.0, 10.0)

    Source: Zheng et al. 2021 (arXiv:2012.15840), whose code multiplies the rate of every weight
    with "head" in its name by 10.
    """
    parts = [v.path.partition("/")[0] for v in model.trainable_variables]
    is_head = [part in HEADS or part.startswith(AUXILIARY) for part in parts]
    return [float(head_rate) if own else 1.0 for own in is_head]


def backbone_shares(model, backbone_rate):
    """The learning rate factors of a model whose backbone learns at another rate than the rest.

    The backbone is what a task's model was given: the layers of its `backbone` or `encoder`, and
    not the decoder, the queries, the heads and the like.

    Args:
        model: `keras_vit.DETR` or `keras_vit.SETR`.
        backbone_rate: float, the factor of the backbone, such as 0.1; that of the rest is 1.

    Returns:
        list of float, one per trainable variable, in the order of `model.trainable_variables`.

    Example:
        >>> shares = backbone_shares(keras_vit.DETRResNet50(), backbone_rate=0.1)
        >>> shares[0], shares[-1]  # stem, box head
        (0.1, 1.0)

    Source: facebookresearch/detr `main.py`, whose backbone learns at a tenth of the rate.
    """
    paths = [v.path for v in model.trainable_variables]
    own = [path.startswith((*DETECTOR, *HEADS, AUXILIARY)) for path in paths]
    return [1.0 if is_own else float(backbone_rate) for is_own in own]
