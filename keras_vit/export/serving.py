"""What is written: a model from one input to named float32 outputs, as whoever serves it wants it.

Letters: B batch, H x W any size, h x w size that the model takes, C channels, K classes.
"""

import keras
from keras import ops


def picture_preprocessor(model):
    """The `Preprocessor` that makes of pictures what `model` takes.

    Raises:
        ValueError: for a model without one, or without a head that gives one tensor of logits.
    """
    found = getattr(model, "picture_preprocessor", None)
    if found is None or isinstance(model.output, dict) or len(model.output.shape) != 2:
        raise ValueError(
            "To take pictures and give probabilities a model needs a head and preprocessor="
            "keras_vit.Preprocessor(...), as keras_vit.from_pretrained gives them; or export with "
            f"inputs='images'. Received: {model.name} with output shape {model.output.shape}, "
            f"preprocessor={found}"
        )
    return found


def output_names(model, inputs):
    """What the outputs are called, in the order of `keras.tree.flatten`."""
    if isinstance(model.output, dict):
        return sorted(model.output)
    if len(keras.tree.flatten(model.output)) != 1:
        raise ValueError(
            "A model with several outputs must give them as a dict, so that they have names. "
            f"Received: {model.output}"
        )
    if inputs != "images":
        return ["probabilities"]
    return ["logits" if getattr(model, "num_classes", None) else "output"]


def with_precision(model, precision):
    """The model, a copy that may be changed, with weights of another precision.

    32 and 16 bits: as built with that dtype policy, weights included. int8: `model.quantize` of
    the float32 model, of the weights alone or of activations too, each time anew.
    """
    dtype = precision if precision in ("float16", "bfloat16") else "float32"
    if model.dtype_policy.name != dtype:
        config = model.get_config()
        if "preprocessor" not in config:
            raise ValueError(
                f"precision={precision!r} is for models of keras_vit; build others with "
                f"dtype={dtype!r}. Received: {model.name}"
            )
        source, model = model, type(model).from_config({**config, "dtype": dtype})
        model.set_weights(source.get_weights())
    if precision in ("int8_weights", "int8_dynamic"):
        activations = None if precision == "int8_weights" else "default"
        model.quantize(
            config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=activations)
        )
    return model


def in_float32(model):
    """The model that computes in float32 with the same weights: itself, a copy, or, of a model of
    mixed precision that is not of keras_vit, itself for want of one that does."""
    if model.compute_dtype == "float32" or "preprocessor" not in model.get_config():
        return model
    return with_precision(model, "float32")


def serving_model(model, inputs, branch=True):
    """A functional model from "images" or "pixels" to a dict of float32 outputs.

    Args:
        model: `keras.Model` from images (B, h, w, C) to a tensor or a dict of tensors.
        inputs: "images" for what the model itself takes; "pixels" for uint8 pictures
            (B, H, W, C), which give {"probabilities": (B, K)}.
        branch: bool, False for TensorFlow's preprocessing without a condition in the graph.
    """
    names = output_names(model, inputs)
    if inputs == "pixels":
        preprocess = picture_preprocessor(model)
        x = keras.Input((None, None, model.input.shape[-1]), dtype="uint8", name="images")
        outputs = probabilities(model(preprocess(x, branch=branch), training=False))
    else:
        x = keras.Input(model.input.shape[1:], dtype=model.input.dtype, name="images")
        outputs = model(x, training=False)
    outputs = [ops.cast(y, "float32") for y in keras.tree.flatten(outputs)]
    return keras.Model(x, dict(zip(names, outputs, strict=True)))


def probabilities(logits):
    """Logits (B, K) to probabilities, in float32."""
    return ops.softmax(ops.cast(logits, "float32"))
