"""Inputs and outputs of layers in the graph of one model.

A layer's own `input` and `output` are those of its first call. A task that shares the layers of an
encoder may call them again, on other tokens; that call is in the graph of the task's model alone.
"""


def input_of(model, layer):
    """The symbolic input of a layer in a functional model's graph, or a list of them."""
    return _single(_node(model, layer).input_tensors)


def output_of(model, layer):
    """The symbolic output of a layer in a functional model's graph, or a list of them."""
    return _single(_node(model, layer).output_tensors)


def _node(model, layer):
    nodes = (node for nodes in model._nodes_by_depth.values() for node in nodes)
    return next(node for node in nodes if node.operation is layer)


def _single(tensors):
    return tensors[0] if len(tensors) == 1 else list(tensors)
