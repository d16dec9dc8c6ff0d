"""Arguments with one value per stage, and the drop path rate of each block."""

from keras_vit.layers.validation import check_count, check_rate


def as_stages(arguments, names, fractions=()):
    """Converts the named arguments to tuples of positive integers, one per stage.

    Args:
        arguments: dict of the constructor's arguments; the named ones are replaced by the tuples.
        names: list of str; the length of the first argument is the number of stages.
        fractions: names of arguments whose values may also be positive floats.

    Returns:
        list of tuples, in the order of `names`.

    Raises:
        ValueError: for other lengths or values.
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
    """Drop path rates of all blocks, one list per stage; they grow linearly from 0 to `rate`.

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
