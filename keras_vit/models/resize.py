"""`resize`: copies a model for another image size or window size."""

from keras import ops

from keras_vit.layers import AddPositionEmbedding, resample_grid
from keras_vit.layers.position_bias import resample_bias_table
from keras_vit.models.base import ImageModel
from keras_vit.models.swin import SwinTransformer

BIAS_TABLE = "/position_bias/table"


def resize(model, image_size, window_size=None):
    """Returns a new model for another image size, with the weights of `model`.

    Learned position embeddings are resampled to the new grid as the model's `position_resample`
    says. All other weights are copied, the positions of class, distillation and register tokens
    included. If the image size does not change, the new model computes the same as `model`.

    A `SwinTransformer` keeps its window size unless `window_size` is given, or a stage's map is
    smaller than the window at the new size. Where the window changes, the bias tables are resampled
    as the model's `convention` says.

    Args:
        model: a model of this library.
        image_size: int or (H, W), in pixels, for most families a multiple of the patch size; None
            to accept any size at call time. The position embeddings then keep their grid and are
            resampled in every call.
        window_size: int, or tuple of int, one per stage, for a `SwinTransformer`; by default the
            model's window size.

    Returns:
        A model of the same class, not compiled. Frozen layers stay frozen.

    Raises:
        ValueError: if `image_size` is not a multiple of the patch size, `window_size` is given for
            a model without windows, or `enable_lora` or `quantize` changed the model.

    Example:
        >>> keras_vit.resize(keras_vit.ViTBase(), image_size=384).count_params()
        86859496
    """
    if not isinstance(model, ImageModel):
        raise ValueError(f"resize expects a model of keras_vit. Received: {type(model).__name__}")
    config = model.get_config()
    sized = config  # the arguments of what reads the image: of the encoder, if there is one
    if "encoder" in config:
        sized, config["image_size"] = config["encoder"]["config"], "auto"
    sized["image_size"] = image_size
    if config["adapted_layers"] is not None:
        raise ValueError(
            "resize expects a model without LoRA or quantisation: resize first, then call "
            f"enable_lora or quantize. Received: changed layers {list(config['adapted_layers'])}"
        )
    if image_size is not None and config["preprocessor"] is not None:
        config["preprocessor"]["config"]["image_size"] = image_size
    if isinstance(model, SwinTransformer):
        config["window_size"] = config["window_size"] if window_size is None else window_size
    elif window_size is not None:
        raise ValueError(
            f"A {type(model).__name__} has no windows: leave window_size out. "
            f"Received: window_size={window_size}"
        )
    learned = learned_positions(model)
    if learned:
        sized["position_grid"] = None if image_size is not None else learned[0].grid_size
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
        # A copy, because JAX donates the arrays of a model while it trains or predicts.
        weight.assign(ops.copy(value))
    return resized


def learned_positions(model):
    """The layers of a model with learned position embeddings: none, one, or one per stage."""
    found = [layer for layer in model.layers if isinstance(layer, AddPositionEmbedding)]
    return [layer for layer in found if layer.kind == "learned"]
