"""Computes a functional model layer by layer."""

from keras_vit.layers.sublayer import sublayer


def walk(model, inputs, training):
    """What `keras.Model.call` computes; each layer is called as a `sublayer`.

    Args:
        model: functional model.
        inputs: what `keras.Model.call` takes.
        training: bool, or None for what the call around it says.

    Returns:
        The output of the model.
    """

    def step(layer, *args, **kwargs):
        if training is not None and "training" in getattr(layer, "_call_context_args", ()):
            kwargs["training"] = training
        return sublayer(layer, *args, **kwargs)

    outputs = model._run_through_graph(model._standardize_inputs(inputs), call_fn=step)
    return outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs
