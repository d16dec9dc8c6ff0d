"""A named variant is its family's class with other defaults."""

import inspect
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Model = TypeVar("Model")


def variant(
    family: Callable[Arguments, Model], name: str, defaults: dict
) -> Callable[Arguments, Model]:
    """Makes the function `name` that builds `family` with `defaults`; all may be overridden.

    The type, the signature and the docstring are those of the family, so that an editor completes
    the real arguments and `help(...)` shows the real defaults.

    Args:
        family: model class.
        name: str, the public name, such as "ViTBase".
        defaults: dict of constructor arguments, the variant's row in the family's table.

    Returns:
        A function with the keyword arguments of `family` that returns a model named like
        "vit_base".

    Raises:
        TypeError: if `defaults` names an argument that the family does not have.
    """
    signature = inspect.signature(family)
    unknown = set(defaults) - set(signature.parameters)
    if unknown:
        raise TypeError(f"{family.__name__} has no argument {sorted(unknown)}. Received: {name}")
    # "ViTSo400m" -> "vit_so400m", "SwinV2Tiny" -> "swin_v2_tiny", "PVTv2B0" -> "pvt_v2_b0",
    # "RViTTiny16" -> "r_vit_tiny16", "CaiTXXSmall24" -> "cait_xxsmall24"
    ends = r"(?<=[a-zT2])(?=[A-Z][a-z2])|(?<=T)(?=v2|X)|(?<=\d)(?=[A-Z])|(?<=^R)(?=V)"
    words = re.sub(ends, "_", name)
    defaults = {**defaults, "name": words.lower()}

    def build(*args, **kwargs):
        return family(*args, **{**defaults, **kwargs})

    row = ", ".join(f"{key}={value!r}" for key, value in defaults.items() if key != "name")
    build.__name__ = build.__qualname__ = name
    build.__module__ = family.__module__
    build.__doc__ = f"{family.__name__} with {row}.\n\n{inspect.cleandoc(family.__doc__)}"
    build.__signature__ = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(key, parameter.default))
            for key, parameter in signature.parameters.items()
        ],
        return_annotation=family,
    )
    return build
