"""LoRA: fine-tuning with low-rank updates of the attention projections."""

from keras_vit.layers import Block

HEADS = ("head", "distillation_head")
PROJECTIONS = ("qkv", "query", "key_value", "proj")


def enable_lora(model, rank):
    """Freezes a model except for its head and low-rank updates of all attention projections.

    The projections to queries, keys and values (one matrix, or two if keys come from a reduced map)
    and the output projection each get an update of rank `rank`. `model.save` saves the updates
    separately. In the checkpoints of a run they are merged into the matrices
    (`keras_vit.models.adapted.merged`), so that these load as models without LoRA.

    Args:
        model: built model with transformer blocks.
        rank: int, positive.

    Raises:
        ValueError: if the model has no blocks.

    Source: Hu et al. 2022 (arXiv:2106.09685).
    """
    blocks = [layer for layer in model.layers if isinstance(layer, Block)]
    if not blocks:
        raise ValueError(f"LoRA needs a model with transformer blocks. Received: {model.name}")
    for layer in model.layers:
        layer.trainable = layer.name in HEADS or layer in blocks
    for block in blocks:
        attention = block.attention
        adapted = [getattr(attention, name) for name in PROJECTIONS if hasattr(attention, name)]
        for layer in block._flatten_layers(include_self=False, recursive=True):
            if layer not in (block.attention, *adapted):
                layer.trainable = False
        for layer in adapted:
            layer.enable_lora(rank)
            if layer.bias is not None:
                layer.bias.trainable = False
