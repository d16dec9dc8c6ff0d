"""`complexity` and `shape_flow`: cost of a model, and the shapes of its layers' outputs."""

from typing import NamedTuple

import keras

from keras_vit.layers import Block
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.validation import as_pair
from keras_vit.table import Table


class Call(NamedTuple):
    """A call of a layer.

    Attributes:
        layer: `keras.layers.Layer`.
        input_shapes: list of tuples, shapes of its inputs, with the batch axis.
        output_shape: tuple, shape of its output, or of the first of several, without the batch
            axis.
    """

    layer: keras.layers.Layer
    input_shapes: list
    output_shape: tuple


def trace(model, image_size=None):
    """Lists the layer calls of a functional model in order, with shapes.

    Only shapes are computed, for symbolic images.

    Args:
        model: functional `keras.Model` with one input of images (B, H, W, C).
        image_size: int or (H, W), in pixels; by default the size that the model was built for.

    Returns:
        list of `Call`.

    Raises:
        ValueError: if `image_size` is missing for a model that takes any size, or the layers of the
            model do not take this size.
    """
    _, height, width, channels = model.input.shape
    if image_size is None and None in (height, width):
        raise ValueError(
            "The model takes images of any size: pass one, such as image_size=224. "
            "Received: image_size=None"
        )
    height, width = (height, width) if image_size is None else as_pair(image_size, "image_size")
    calls = []

    def record(layer, *args, **kwargs):
        # Not a call on a symbolic tensor: the layer would keep a reference to it.
        output = layer.compute_output_spec(*args, **kwargs)
        inputs = [x.shape for x in keras.tree.flatten(args) if isinstance(x, keras.KerasTensor)]
        if isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential):
            # a CNN given as `stem`: layer by layer too
            calls.extend(trace(layer, inputs[0][1:3]))
            return output
        calls.append(Call(layer, inputs, keras.tree.flatten(output)[0].shape[1:]))
        return output

    images = keras.KerasTensor((None, height, width, channels), model.input.dtype)
    model._run_through_graph([images], call_fn=record)
    return calls


def shape_flow(model, image_size=None):
    """Lists the output shape of every layer, as a printable table.

    Args:
        model: functional `keras.Model` on images.
        image_size: int or (H, W), in pixels; by default the size that the model was built for.

    Returns:
        `Table` of (layer name, class, output shape with "B" for the batch).

    Raises:
        ValueError: if `image_size` is missing for a model that takes any size, or the layers of the
            model do not take this size.

    Example:
        >>> print(keras_vit.shape_flow(keras_vit.ViTBase()))
    """
    calls = trace(model, image_size)
    images = ("B", *calls[0].input_shapes[0][1:])
    rows = [("images", "", images)]
    rows += [(c.layer.name, type(c.layer).__name__, ("B", *c.output_shape)) for c in calls]
    return Table(("layer", "kind", "shape"), [(a, b, _shape_text(s)) for a, b, s in rows])


def _shape_text(shape):
    return "(" + ", ".join(map(str, shape)) + ")"


class Complexity(NamedTuple):
    """Cost of a forward pass over one image. It prints as a table.

    Attributes:
        image_size: (H, W), in pixels.
        parameters: int, number of weights.
        macs: int, multiply-accumulate operations of all matrix products and convolutions.
        activation_bytes: int, memory that training needs per image for the backward pass, with
            fused attention (see `scores_bytes`).
        scores_bytes: int, additional memory of the attention scores of all blocks on a backend that
            writes them to memory (TensorFlow, JAX on a CPU).
        layers: `Table` of (layer, shape, parameters, MACs, activation bytes).
        terms: `Table` of the MACs of the blocks by term of the textbook formula; None if there are
            no blocks, or they have different shapes.
    """

    image_size: tuple
    parameters: int
    macs: int
    activation_bytes: int
    scores_bytes: int
    layers: Table
    terms: Table | None

    def __str__(self):
        parts = [
            str(self.layers),
            f"{self.image_size[0]} x {self.image_size[1]} pixels: {self.parameters:,} parameters, "
            f"{self.macs / 1e9:.2f} GMACs, {self.activation_bytes / 2**20:.1f} MiB of activations "
            f"per image (plus {self.scores_bytes / 2**20:.1f} MiB if attention scores are written "
            "to memory)",
        ]
        if self.terms is not None:
            parts += [str(self.terms), TERMS_NOTE]
        return "\n\n".join(parts)

    __repr__ = __str__


TERMS_NOTE = (
    "The textbook formula is O(N²D) for attention and O(ND²) for the MLP. It hides the dominant\n"
    "terms: the projections of the attention cost 4ND² more, and the MLP, with a hidden width of\n"
    "4D, costs 8ND². The attention scores cost more than both only for more than N = 6D tokens."
)


def complexity(model, image_size=None):
    """Counts parameters, multiply-accumulates and activation memory, by layer and in total.

    Args:
        model: functional `keras.Model` on images. Its layers must be layers of this library, the
            Keras layers in `PLAIN_LAYERS`, or have a method `cost`.
        image_size: int or (H, W), in pixels; by default the size that the model was built for.

    Returns:
        `Complexity`.

    Raises:
        ValueError: if the cost of a layer with weights is not known, or as in `shape_flow`.

    Example:
        >>> keras_vit.complexity(keras_vit.ViTBase(), image_size=384).macs / 1e9
        55.5
    """
    calls = trace(model, image_size)
    costs = [_cost(call) for call in calls]
    sizes = [keras.backend.standardize_dtype(call.layer.compute_dtype) for call in calls]
    memory = [c.activations * _itemsize(s) for c, s in zip(costs, sizes, strict=True)]
    rows = [
        (c.layer.name, _shape_text(("B", *c.output_shape)), c.layer.count_params(), k.macs, m)
        for c, k, m in zip(calls, costs, memory, strict=True)
    ]
    blocks = [call for call in calls if isinstance(call.layer, Block)]
    return Complexity(
        image_size=tuple(calls[0].input_shapes[0][1:3]),
        parameters=model.count_params(),
        macs=sum(cost.macs for cost in costs),
        activation_bytes=sum(memory),
        # The softmax is float32 under every dtype policy.
        scores_bytes=sum(4 * x.layer.num_scores(*x.input_shapes) for x in blocks),
        layers=Table(("layer", "shape", "parameters", "MACs", "activation bytes"), rows),
        terms=_terms(blocks) if _alike(blocks) else None,
    )


def _alike(blocks):
    """Whether the textbook formula applies: all blocks work on tokens of the same shape."""
    plain = all(block.layer.queries == "tokens" for block in blocks)
    return plain and len({block.output_shape for block in blocks}) == 1


def _itemsize(dtype):
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def _terms(blocks):
    """`Table` of the MACs of the blocks by term of the textbook formula."""
    n, width = blocks[0].output_shape
    scores = sum(2 * n * n * width for _ in blocks)
    attention = sum(b.layer.attention.cost((1, n, width)).macs for b in blocks)
    mlp = sum(b.layer.mlp.cost((1, n, width)).macs for b in blocks)
    total = attention + mlp
    rows = [
        ("attention scores and sums, 2N²D", scores),
        ("attention projections, 4ND²", attention - scores),
        ("MLP, 2NDM (8ND² for M = 4D)", mlp),
    ]
    rows = [(name, macs, f"{100 * macs / total:.1f} %") for name, macs in rows]
    return Table((f"in {len(blocks)} blocks, N = {n}, D = {width}", "MACs", "share"), rows)


def _cost(call):
    if hasattr(call.layer, "cost"):
        return call.layer.cost(*call.input_shapes)
    for kind, count in PLAIN_LAYERS.items():
        if isinstance(call.layer, kind):
            return count(call)
    if call.layer.weights:
        raise ValueError(
            "The cost of a layer is not known: add a method cost(input_shape) to it that returns a "
            f"keras_vit.layers.cost.Cost. Received: {call.layer}"
        )
    return Cost(activations=_size(call.output_shape))


def _size(shape):
    size = 1
    for side in shape:
        size *= side
    return size


def _dense(call):
    return dense_cost(
        _size(call.output_shape[:-1]), call.input_shapes[0][-1], call.output_shape[-1]
    )


def _convolution(call):
    output = _size(call.output_shape)
    each = _size(call.layer.kernel.shape[:-1])  # multiply-accumulates per output value
    if isinstance(call.layer, keras.layers.DepthwiseConv2D):
        each = _size(call.layer.kernel.shape[:2])
    return Cost(macs=output * each, activations=output)


def _nothing(call):
    return Cost()


def _normalization(call):
    return Cost(activations=_size(call.output_shape))


# The Keras layers that models use at their top level, or that a CNN given as `stem` may contain.
PLAIN_LAYERS = {
    keras.layers.Dense: _dense,
    keras.layers.LayerNormalization: _normalization,
    keras.layers.GroupNormalization: _normalization,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.Average: _nothing,
    keras.layers.Dropout: _nothing,  # the identity at rate 0; its mask is not counted
}
