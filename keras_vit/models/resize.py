"""`resize`: a copy of a model for another image size, or with other windows."""

from keras import ops

from keras_vit.layers import AddPositionEmbedding, resample_grid
from keras_vit.layers.position_bias import resample_bias_table
from keras_vit.models.base import ImageModel
from keras_vit.models.swin import SwinTransformer

BIAS_TABLE = "/position_bias/table"


def resize(model, image_size, window_size=None):
    """A new model for another image size with the weights of `model`.

    Learned position embeddings are resampled to the new grid in the model's own way
    (`position_resample`); those of class, distillation and register tokens, and every other weight,
    are copied as they are. For an equal size the new model computes the same.

    A `SwinTransformer` keeps its windows unless `window_size` says otherwise, or maps of the new
    size are smaller; where they change, its bias tables are resampled as its `convention` says.

    Args:
        model: a model of this library.
        image_size: int, (H, W), for most families multiples of the patch size, or None for any size
            at call time (the embeddings then keep their grid and are resampled in every call).
        window_size: int or a tuple, one a stage, of a `SwinTransformer`; by default as before.

    Returns:
        A model of the same class, not compiled; frozen layers stay frozen.

    Raises:
        ValueError: for a size that is no multiple of the patch, or a model whose weights are not
            those that its configuration gives (after `enable_lora` or `quantize`).

    Example:
        >>> keras_vit.resize(keras_vit.ViTBase(), image_size=384).count_params()
        86859496
    """
    if not isinstance(model, ImageModel):
        raise ValueError(f"resize expects a model of keras_vit. Received: {type(model).__name__}")
    config = {**model.get_config(), "image_size": image_size}
    if config["adapted_layers"] is not None:
        raise ValueError(
            "resize expects the weights that the model was built with: resize first, then call "
            f"enable_lora or quantize. Received: changed layers {list(config['adapted_layers'])}"
        )
    if image_size is not None and config["preprocessor"] is not None:
        config["preprocessor"]["config"]["image_size"] = image_size
    if isinstance(model, SwinTransformer):
        config["window_size"] = config["window_size"] if window_size is None else window_size
    elif window_size is not None:
        raise ValueError(
            f"A {type(model).__name__} has no windows. Received: window_size={window_size}"
        )
    learned = learned_positions(model)
    if learned:
        config["position_grid"] = None if image_size is not None else learned[0].grid_size
    resized = type(model).from_config(config)

    positions = {layer.grid.path: layer for layer in learned_positions(resized)}
    weights = {weight.path: weight for weight in model.weights}
    for weight in resized.weights:
        value = weights[weight.path]
        if weight.path in positions:
            layer = positions[weight.path]
            value = resample_grid(value, layer.grid_size, layer.resample)
        elif weight.path.endswith(BIAS_TABLE):
            value = resample_bias_table(value, weight.shape[:2], config["convention"])
        # A copy: JAX gives the arrays of a model away while it trains or predicts.
        weight.assign(ops.copy(value))
    return resized


def learned_positions(model):
    """The layers with learned position embeddings, one in all or one a stage."""
    found = [layer for layer in model.layers if isinstance(layer, AddPositionEmbedding)]
    return [layer for layer in found if layer.kind == "learned"]
