"""The model that is exported: from one input to named float32 outputs.

Letters: B batch, H x W any size, h x w size that the model takes, C channels, K classes.
"""

import keras
from keras import ops

from keras_vit.export.objects import found_in_pictures


def picture_preprocessor(model):
    """The `Preprocessor` that turns pictures into the input of `model`.

    Raises:
        ValueError: if the model has none, or its output is not one tensor of logits.
    """
    found = getattr(model, "picture_preprocessor", None)
    if found is None or isinstance(model.output, dict) or len(model.output.shape) != 2:
        raise ValueError(
            "To take pictures and output probabilities a model needs a head and preprocessor="
            "keras_vit.Preprocessor(...), which keras_vit.from_pretrained sets; or export with "
            f"inputs='images'. Received: {model.name} with the output {model.output}, "
            f"preprocessor={found}"
        )
    return found


def slides(model, inputs):
    """Whether the export slides windows over pictures and outputs the class of every pixel."""
    return inputs == "pixels" and hasattr(model, "segment")


def finds_objects(model, inputs):
    """Whether the export takes pictures and outputs boxes, scores and labels of objects."""
    return inputs == "pixels" and hasattr(model, "detect")


def without_heads_for_training(model):
    """The model, or a copy without the layers that only training uses, if it has some."""
    config, without = model.get_config(), getattr(model, "for_inference", {})
    if all(config[name] == value for name, value in without.items()):
        return model
    changed = {**without, "frozen_layers": ()}
    copy = type(model).from_config({**config, **changed})
    weights = {weight.path: weight for weight in model.weights}
    for weight in copy.weights:
        if weight.path in weights:  # no seeds of random numbers
            weight.assign(weights[weight.path])
    return copy


def output_names(model, inputs):
    """The names of the outputs, in the order of `keras.tree.flatten`.

    Raises:
        ValueError: if the model has several outputs without names.
    """
    if slides(model, inputs):
        return ["classes"]
    if finds_objects(model, inputs):
        return ["boxes", "labels", "scores"]
    if isinstance(model.output, dict):
        return sorted(model.output)
    if len(keras.tree.flatten(model.output)) != 1:
        raise ValueError(
            "The outputs of a model with several outputs must be a dict, so that they have names. "
            f"Received: {model.output}"
        )
    if inputs != "images":
        return ["probabilities"]
    return ["logits" if getattr(model, "num_classes", None) else "output"]


def with_precision(model, precision):
    """Converts a model to another precision.

    "float32", "float16" and "bfloat16": a copy with this dtype policy, weights included; the model
    itself if it has this policy already. "int8_weights" and "int8_dynamic": `model.quantize` of the
    float32 model, which changes the given model if it is float32.

    Raises:
        ValueError: if the model would have to be copied, but is not of this library.
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
    """The model, or if it is of this library and computes in another dtype, a copy in float32."""
    if model.compute_dtype == "float32" or "preprocessor" not in model.get_config():
        return model
    return with_precision(model, "float32")


def serving_model(model, inputs, branch=True):
    """Returns a functional model from "images" or "pixels" to a dict of float32 outputs.

    Args:
        model: `keras.Model` from images (B, h, w, C) to a tensor or a dict of tensors.
        inputs: "images" for the model's input; "pixels" for uint8 pictures (B, H, W, C) as input
            and {"probabilities": (B, K)} as output; of a detector boxes, labels and scores.
        branch: bool, False for preprocessing without a conditional in TensorFlow's graph.

    Returns:
        `keras.Model` with an input named "images".
    """
    names = output_names(model, inputs)
    if finds_objects(model, inputs):
        return found_in_pictures(model, branch)
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
    """Converts logits (B, K) to probabilities, in float32."""
    return ops.softmax(ops.cast(logits, "float32"))
