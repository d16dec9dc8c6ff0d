"""Arguments with one value for each stage, and drop path rates for each block."""

from keras_vit.layers.validation import check_count, check_rate


def as_stages(arguments, names, fractions=()):
    """The named arguments as tuples of positive integers, one a stage; raises for anything else.

    Args:
        arguments: dict of the constructor's arguments, in which they become tuples too.
        names: list of str, the first tells how many stages there are.
        fractions: names whose values may be any positive numbers.

    Returns:
        list of tuples, in the order of `names`.
    """
    values = [arguments[name] for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, (tuple, list)) or not value or len(value) != len(values[0]):
            raise ValueError(
                f"{name} must hold one number for each stage. "
                f"Received: {names[0]}={values[0]!r}, {name}={value!r}"
            )
        for number in value:
            if name in fractions and isinstance(number, float) and number > 0:
                continue
            check_count(number, name)
    arguments.update({name: tuple(value) for name, value in zip(names, values, strict=True)})
    return [arguments[name] for name in names]


def stage_rates(rate, depths):
    """Drop path rates: one a block, a list a stage, from 0 at the very first to `rate` at the last.

    >>> stage_rates(0.3, (2, 2))
    [[0.0, 0.1], [0.2, 0.3]]
    """
    check_rate(rate, "drop_path_rate")
    step = rate / max(sum(depths) - 1, 1)
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [
        [(start + i) * step for i in range(depth)]
        for start, depth in zip(starts, depths, strict=True)
    ]
