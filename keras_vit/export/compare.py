"""Comparison of an export with its model: difference relative to the spread, top-1 agreement.

The spread is the standard deviation of the model's outputs over the samples. Differences of correct
exports of a real ViT-Ti/16, relative to the spread, on the default samples (noise) and on 25
photographs; the worst format for each precision:

    precision       noise    photographs
    float32         2e-6     2e-6
    float32, pixels 4e-4     3e-4           JPEG files the same
    float16         0.004    0.002
    bfloat16        0.026    0.016
    int8_weights    0.05     0.04
    int8_dynamic    0.07     0.04           ONNX 0.50 and 0.33
    int8_static     -        0.05           ONNX and OpenVINO 0.25

int8_static was calibrated on 40 other photographs (for LiteRT on 35, and compared on 15). On noise,
which is outside the calibrated ranges, its difference was 0.47, so it is compared on its
calibration data.

Wrong models differ on the same noise, for the real ViT-Ti/16, by about 1.6 (zero weights), 2
(rolled classes), 0.6 or more (a transposed kernel, a missing block) and 0.3 (mean 0.5 instead of
ImageNet's 0.485, 0.456, 0.406); for tiny models by 1.3, 2, 0.7, 0.7 and 0.37 or more. This is above
every limit, except those of coarse activations and, for mean 0.5 on pictures (0.23), those of int8.
Mean 0.5 in the first channel only, a difference of 0.05, is detected in float32 and float16 only.
So every export is first written and compared in float32.
"""

from typing import NamedTuple

import numpy as np

# Smaller probabilities are clipped: below, float32 underflows.
SMALLEST = 1e-30
# A top-1 answer is decided if it exceeds the second by this many limits. If two outputs are each
# off by the limit (root mean square), their difference is off by 1.4 times the limit.
DECIDED = 2


# Largest share of pixels whose class may differ: those whose two largest logits are equal but for
# rounding. Three tiny models with random weights differed in none of 4272 pixels.
OTHER_CLASSES = 1e-3


class Limits(NamedTuple):
    """The limits of a comparison.

    Attributes:
        difference: float, largest root mean square difference, relative to the spread. Outputs that
            do not depend on the image have a difference of 1 or more.
        agreement: float, smallest fraction of the decided answers that must be the same.
        rounding: float, difference that rounding may cause in any case, relative to the largest
            output.
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
# Activations in 8 bits with one range per tensor, including outliers.
COARSE = {
    ("onnx", "int8_dynamic"): Limits(0.8, 0.9, 1e-2),
    ("onnx", "int8_static"): Limits(0.6, 0.9, 1e-2),
    ("openvino", "int8_static"): Limits(0.6, 0.9, 1e-2),
}
# The limit with preprocessing, where a pixel may be rounded to the neighbouring integer: right
# exports of 35 tiny models differed by 3e-4 in the median, those of two by 5.5e-3 and 6.1e-3. Of
# the wrong ones, a tiny model with another mean in the first channel differed least, by 0.0175.
PIXELS = 1e-2


def limits_of(precision, inputs, format=None):
    """The `Limits` for a precision, for `inputs` "images", "pixels" or "jpeg", in a format."""
    limits = COARSE.get((format, precision), LIMITS[precision])
    if inputs == "images":
        return limits
    return limits._replace(difference=max(limits.difference, PIXELS))


class Comparison(NamedTuple):
    """The result of a comparison of one output. Probabilities are compared as their logits.

    Attributes:
        difference: float, root mean square difference over all samples and values.
        limit: float, the limit of `difference`.
        spread: float, how much the model's outputs vary from sample to sample: the standard
            deviation over the samples, as a root mean square over the values, after the mean of
            each sample is subtracted.
        answers: int, number of top-1 answers: one per sample, or per position of a feature map.
        agreement: float, fraction of the answers that are the same.
        decided: int, number of answers that are ahead of the second by more than twice the limit.
        decided_agreement: float, fraction of the decided answers that are the same; 1.0 if none is
            decided.
        passed: bool, whether the output is within the limits.
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
    """Compares the outputs of an export with those of its model.

    Args:
        expected: dict of name to array (N + 1, ...), the model's outputs. The last sample repeats
            the first in another batch.
        actual: dict of name to array, the outputs of the export; None for a missing output.
        limits: `Limits`.

    Returns:
        `Comparison` of the output with the largest difference relative to its limit.

    Raises:
        ValueError: if names or shapes of the outputs differ.
    """
    shapes = [{name: np.shape(x) for name, x in y.items()} for y in (expected, actual)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "The exported model has outputs of other names or shapes; nothing was kept. "
            f"Expected: {shapes[0]}. Received: {shapes[1]}"
        )
    found = [
        _compare_classes(x, actual[name])
        if name in ("classes", "labels")
        else _compare(_scores(x, name), _scores(actual[name], name), limits)
        for name, x in expected.items()
    ]
    return min(found, key=lambda x: (x.passed, -x.difference / (x.limit or 1.0)))


def _scores(x, name):
    """Outputs as float64; probabilities become logits, with a mean of zero per sample."""
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
        # Written so that NaN does not pass.
        passed=difference <= limit and decided_agreement >= limits.agreement,
    )


def _compare_classes(expected, actual):
    """Compares the classes of pixels (N,); the difference is the share of those that differ."""
    same = float((expected == actual).mean())
    return Comparison(
        difference=1 - same,
        limit=OTHER_CLASSES,
        spread=1.0,
        answers=expected.size,
        agreement=same,
        decided=expected.size,
        decided_agreement=same,
        passed=1 - same <= OTHER_CLASSES,
    )


def _two_largest(x):
    """The largest and second largest value of the last axis; for a single value, twice this."""
    x = np.partition(x, -2, axis=-1) if x.shape[-1] > 1 else x
    return x[..., -1], x[..., -min(2, x.shape[-1])]
