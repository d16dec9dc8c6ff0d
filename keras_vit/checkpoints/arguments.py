"""Constructor arguments from `.keras` files, and preprocessing for the models of every family."""

import inspect

import keras

from keras_vit.callers import warn
from keras_vit.checkpoints.checks import check_arguments
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import registered
from keras_vit.checkpoints.untrusted import brief
from keras_vit.models.normalization import as_preprocessor
from keras_vit.preprocessing import Preprocessor

LORA = ("lora_kernel_a", "lora_kernel_b")  # Keras's names of the weights of an update


def add_preprocessing(found, description, patch_size, overrides):
    """Adds preprocessor and class names, after checking them against the other arguments."""
    if description.refused is not None and "preprocessor" not in overrides:
        raise description.refused
    found["preprocessor"] = description.preprocessor
    names = description.class_names
    if names is not None and len(names) != found["num_classes"]:
        raise CheckpointError(
            "config.json must name every class once. "
            f"Received: {len(names)} names, {found['num_classes']} classes"
        )
    found["class_names"] = names
    if description.preprocessor is not None:
        # DINOv2 keeps the positions of 518 pixels and is meant to be used at 224: the model takes
        # what the preprocessor gives and resamples, as the source does, at call time.
        p, q = patch_size
        h, w = description.preprocessor.image_size
        if h % p == 0 and w % q == 0:
            found["image_size"] = (h, w)


def keras_arguments(reader, inferred, family):
    """The arguments in a `.keras` file, after checking them against its weights.

    Args:
        reader: `KerasReader`.
        inferred: dict, what the weights say.
        family: `Family` whose weights they are.

    Returns:
        dict of arguments.

    Raises:
        CheckpointError: for another class, or arguments that the weights contradict.
    """
    config = reader.config if isinstance(reader.config, dict) else {}
    name, arguments = config.get("registered_name"), config.get("config")
    said = registered(name)  # which may not be the family that the weights look like
    if said is not None and isinstance(arguments, dict):
        for key, expected in said.read.REFUSED.items():
            if arguments.get(key) is not None:
                raise CheckpointError(
                    f"{reader.path} must hold {expected}; load others with "
                    "keras.models.load_model, if you trust the file. "
                    f"Received: {key}={brief(arguments[key])}"
                )
    if said is not family or not isinstance(arguments, dict):
        raise CheckpointError(
            f"{reader.path} must hold a keras_vit.{family.model.__name__}; load others with "
            f"keras.models.load_model. Received: {brief(name)}"
        )
    _refuse_unknown(arguments, family.model, reader.path)
    arguments = {  # JSON has no tuples
        k: tuple(v) if isinstance(v, list) and k not in ("class_names", "frozen_layers") else v
        for k, v in arguments.items()
    }
    preprocessor, dtype = arguments.pop("preprocessor", None), arguments.pop("dtype", None)
    _merge_adapted(arguments, reader.path)
    check_arguments(arguments)
    for key, value in inferred.items():
        if key in family.read.SAID_TWICE and arguments.get(key) != value:
            raise CheckpointError(
                f"The configuration and the weights of {reader.path} contradict each other. "
                f"Expected: {key}={value!r}. Received: {key}={brief(arguments.get(key))}"
            )
    arguments["dtype"] = _policy(dtype, reader.path)
    arguments["preprocessor"] = _preprocessor(preprocessor, reader.path)
    return arguments


def _refuse_unknown(arguments, kind, path, layers=()):
    """Raises for arguments that neither the class takes nor `layers` names."""
    unknown = sorted(set(arguments) - set(inspect.signature(kind).parameters) - set(layers))
    if unknown:
        raise CheckpointError(
            f"{path} has arguments that keras_vit.{kind.__name__} does not know; a later "
            f"version may have written it. Received: {brief(unknown)}"
        )


def _preprocessor(value, path):
    """The `Preprocessor` in a file, or None."""
    if isinstance(value, dict) and value.get("class_name") == "Preprocessor":
        own = value.get("config")
        if not isinstance(own, dict):
            raise CheckpointError(
                f"{path} has a preprocessor without arguments. Received: {brief(own)}"
            )
        _refuse_unknown(own, Preprocessor, path, ("name", "trainable", "dtype"))
        if "dtype" in own:  # Keras makes an object of any class of what stands there
            own = {**own, "dtype": _policy(own["dtype"], path)}
        value = {**value, "config": own}
    return as_preprocessor(value)


def _policy(dtype, path):
    """The name of a dtype policy, which must be one of Keras's own."""
    if isinstance(dtype, dict):
        known = dtype.get("module") == "keras" and dtype.get("class_name") == "DTypePolicy"
        dtype = dtype["config"]["name"] if known else dtype
    try:
        if isinstance(dtype, str):
            return keras.dtype_policies.get(dtype).name
    except ValueError:
        pass  # said below
    raise CheckpointError(f"{path} has an unknown dtype policy. Received: {brief(dtype)}")


def _merge_adapted(arguments, path):
    """Takes low-rank updates out of the arguments: in the file they are added to the matrices."""
    adapted = arguments.get("adapted_layers")
    if not adapted:
        return
    changes = adapted.values() if isinstance(adapted, dict) else [adapted]
    if not all(isinstance(x, dict) and set(x) == {"lora_rank", "lora_alpha"} for x in changes):
        raise CheckpointError(
            f"{path} holds a quantised model: load it with keras.models.load_model. Received: "
            f"adapted_layers of type {type(adapted).__name__}"
        )
    warn(
        f"The low-rank updates of {path} are added to the matrices here; "
        "keras.models.load_model keeps them apart. "
        f"Received: lora_rank in {len(adapted)} layers"
    )
    arguments["adapted_layers"] = None
    updated = {f"{layer}/{x}" for layer in adapted for x in ("kernel", *LORA)}
    frozen = arguments.get("frozen_layers") or ()
    arguments["frozen_layers"] = [x for x in frozen if not isinstance(x, str) or x not in updated]
