"""How an export is judged: by how much its model's outputs vary, and by the top-1 answers.

Differences of right exports of a real ViT-Ti/16, relative to the spread, on the default samples and
on 25 photographs; the worst of the formats that were run in each precision:

    precision       noise    photographs
    float32         2e-6     2e-6
    float32, pixels 4e-4     3e-4           JPEG files the same
    float16         0.004    0.002
    bfloat16        0.026    0.016
    int8_weights    0.05     0.04
    int8_dynamic    0.07     0.04           ONNX 0.50 and 0.33
    int8_static     -        0.05           ONNX and OpenVINO 0.25

int8_static was calibrated on 40 other photographs (LiteRT's on 35, for 15); on noise, beyond the
ranges found there, it was off by 0.47, so that it is compared on its calibration.

Wrong models differ on such noise by about 1.6 (zero weights), 2 (rolled classes), 0.6 or more (a
transposed kernel, a block left out) and 0.3 (mean 0.5 for ImageNet's 0.485, 0.456, 0.406) where
they are the real ViT-Ti/16, and by 1.3, 2, 0.7, 0.7 and 0.37 or more where they are tiny: beyond
every limit but those of coarse activations and, for mean 0.5 on pictures (0.23), those of int8.
Mean 0.5 in the first channel alone, 0.05, is seen in float32 and float16 alone. So every precision
is written in float32 first.
"""

from typing import NamedTuple

import numpy as np

# Below it a probability in float32 is on its way to 0.
SMALLEST = 1e-30
# An answer is decided if it is ahead of the second by so many times the limit: two outputs of
# which each is off by the limit (root mean square) are off each other by 1.4 times that.
DECIDED = 2


class Limits(NamedTuple):
    """What an export may be off by.

    Attributes:
        difference: root mean square, relative to the spread. Outputs that are the same whatever
            the image are off by 1 or more.
        agreement: share of the decided answers that are the same.
        rounding: what rounding may change however little outputs vary, relative to the largest.
    """

    difference: float
    agreement: float
    rounding: float


LIMITS = {
    "float32": Limits(1e-3, 1.0, 1e-5),
    "float16": Limits(0.02, 1.0, 2e-3),
    "bfloat16": Limits(0.15, 1.0, 1e-2),
    "int8_weights": Limits(0.2, 0.9, 1e-2),
    "int8_dynamic": Limits(0.25, 0.9, 1e-2),
    "int8_static": Limits(0.25, 0.9, 1e-2),
}
# Activations in 8 bits by one range for a whole tensor, outliers and all.
COARSE = {
    ("onnx", "int8_dynamic"): Limits(0.8, 0.9, 1e-2),
    ("onnx", "int8_static"): Limits(0.6, 0.9, 1e-2),
    ("openvino", "int8_static"): Limits(0.6, 0.9, 1e-2),
}
# The difference where pictures are prepared, and a pixel may be rounded to its neighbour.
PIXELS = 5e-3


def limits_of(precision, inputs, format=None):
    """The `Limits` for a precision, on "images", "pixels" or "jpeg", in a format."""
    limits = COARSE.get((format, precision), LIMITS[precision])
    if inputs == "images":
        return limits
    return limits._replace(difference=max(limits.difference, PIXELS))


class Comparison(NamedTuple):
    """What was found of one output. Probabilities are compared as the logits they come from.

    Attributes:
        difference: root mean square over all samples and values.
        limit: of that difference.
        spread: what the model's outputs vary by from sample to sample: the standard deviation,
            root mean square over the values, without what all values of a sample share.
        answers: number of largest outputs: of samples, or of places of feature maps.
        agreement: share of these that are the same.
        decided: number of those that the model decides by more than twice the limit.
        decided_agreement: the same share of the decided; 1.0 of none.
        passed: whether it is within the limits.
    """

    difference: float
    limit: float
    spread: float
    answers: int
    agreement: float
    decided: int
    decided_agreement: float
    passed: bool


def compare(expected, actual, limits):
    """Compares outputs.

    Args:
        expected: dict of name to array, samples first; the last sample is the first one again,
            in another batch.
        actual: the same, or None where there is no such output.
        limits: `Limits`.

    Returns:
        `Comparison` of the output that is nearest to its limit, or the farthest beyond.

    Raises:
        ValueError: for outputs of other names or shapes.
    """
    shapes = [{name: np.shape(x) for name, x in y.items()} for y in (expected, actual)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "The exported model gives other outputs; nothing was kept. "
            f"Expected: {shapes[0]}. Received: {shapes[1]}"
        )
    found = [
        _compare(_scores(x, name), _scores(actual[name], name), limits)
        for name, x in expected.items()
    ]
    return min(found, key=lambda x: (x.passed, -x.difference / (x.limit or 1.0)))


def _scores(x, name):
    """Outputs as float64; of probabilities the logits, up to what those of a sample share."""
    x = np.asarray(x, "float64")
    if name != "probabilities":
        return x
    x = np.log(np.maximum(x, SMALLEST))
    return x - x.mean(-1, keepdims=True)


def _compare(expected, actual, limits):
    difference = float(np.sqrt(((expected - actual) ** 2).mean()))
    flat = expected.reshape(len(expected), -1)
    if flat.shape[1] > 1:
        flat = flat - flat.mean(1, keepdims=True)
    spread = float(np.sqrt(flat.var(0).mean()))
    limit = max(limits.difference * spread, limits.rounding * float(np.abs(expected).max()))

    expected, actual = expected[:-1], actual[:-1]
    same = expected.argmax(-1) == actual.argmax(-1)
    first, second = _two_largest(expected)
    decided = first - second > DECIDED * limit
    decided_agreement = float(same[decided].mean()) if decided.any() else 1.0
    return Comparison(
        difference=difference,
        limit=limit,
        spread=spread,
        answers=same.size,
        agreement=float(same.mean()),
        decided=int(decided.sum()),
        decided_agreement=decided_agreement,
        # NaN is no agreement either
        passed=difference <= limit and decided_agreement >= limits.agreement,
    )


def _two_largest(x):
    """The largest and the second of the last axis; of one value that twice."""
    x = np.partition(x, -2, axis=-1) if x.shape[-1] > 1 else x
    return x[..., -1], x[..., -min(2, x.shape[-1])]
