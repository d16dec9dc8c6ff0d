"""The families of models: the one list that weights, listings, recipes, tests and benchmarks read.

A model file registers its family and, below its class, the variants. Everything else finds the
family here, the package that reads and writes its checkpoints included.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Model = TypeVar("Model")


@dataclass(frozen=True)
class Family(Generic[Model]):
    """A class of models, its forms for tests, and its variants.

    Attributes:
        name: str, the key in `FAMILIES`.
        title: str, what listings call it.
        model: the class; two families may share it.
        tiny: dict of arguments, a model of a few thousand parameters, for tests.
        smoke: dict of arguments, a small model on 8 x 8 pixels, for a recipe's smoke form.
        checkpoints: str, the package that reads and writes its weights, of the modules that
            `keras_vit.checkpoints.families` describes.
        paper_top1: dict of variant to the paper's ImageNet-1k accuracy in %, of those whose weights
            no hub has.
        variants: dict of name to the function that builds the variant.
        rows: dict of the variant's name to the arguments that it sets.
    """

    name: str
    title: str
    model: type[Model]
    tiny: dict
    smoke: dict
    checkpoints: str
    paper_top1: dict
    variants: dict = field(default_factory=dict)
    rows: dict = field(default_factory=dict)

    def variant(self, row: Callable[Arguments, None]) -> Callable[Arguments, Model]:
        """Makes a variant of a function, whose keyword arguments are the family's other defaults.

        >>> @VIT.variant
        ... def ViTTiny(*, width=192, num_heads=3, mlp_dim=768, name="vit_tiny", **kwargs):
        ...     "ViT-Ti/16."

        Args:
            row: function without a body.

        Returns:
            A function with every keyword argument of the family that returns its model. Its
            docstring is that of `row` and then the family's.

        Raises:
            TypeError: for an argument that the family does not have.
        """
        own = inspect.signature(row).parameters.values()
        defaults = {x.name: x.default for x in own if x.kind is x.KEYWORD_ONLY}
        signature = inspect.signature(self.model)
        unknown = sorted(set(defaults) - set(signature.parameters))
        if unknown:
            raise TypeError(
                f"{self.model.__name__} has no argument {unknown}. Received: {row.__name__}"
            )

        def build(**kwargs):
            return self.model(**{**defaults, **kwargs})

        said = ", ".join(f"{key}={value!r}" for key, value in defaults.items() if key != "name")
        for key in ("__module__", "__name__", "__qualname__"):
            setattr(build, key, getattr(row, key))
        build.__wrapped__ = row  # where inspect.getsource finds the numbers
        build.__doc__ = "\n\n".join(
            [
                inspect.getdoc(row) or row.__name__,
                f"A `{self.model.__name__}` with {said}.",
                inspect.getdoc(self.model) or "",
            ]
        )
        build.__signature__ = signature.replace(
            parameters=[
                parameter.replace(default=defaults.get(key, parameter.default))
                for key, parameter in signature.parameters.items()
            ],
            return_annotation=self.model,
        )
        self.variants[row.__name__] = build
        self.rows[row.__name__] = {k: v for k, v in defaults.items() if k != "name"}
        return build


FAMILIES: dict[str, Family] = {}


def register_family(
    name: str,
    title: str,
    model: type[Model],
    *,
    tiny: dict,
    smoke: dict,
    checkpoints: str | None = None,
    paper_top1: dict | None = None,
) -> Family[Model]:
    """Adds a family to `FAMILIES`.

    Args:
        name, title, model, tiny, smoke, paper_top1: as `Family` has them.
        checkpoints: as `Family` has it; by default "keras_vit.checkpoints." and `name`.

    Returns:
        `Family`, whose `variant` registers the variants.

    Raises:
        ValueError: where another family has the name.
    """
    if name in FAMILIES:
        raise ValueError(f"name must be new: another family has it. Received: name={name!r}")
    checkpoints = checkpoints or f"keras_vit.checkpoints.{name}"
    family = Family(name, title, model, tiny, smoke, checkpoints, paper_top1 or {})
    FAMILIES[name] = family
    return family


def family_of(model):
    """The first `Family` that a model, or a class of models, belongs to, or None."""
    kind = model if inspect.isclass(model) else type(model)
    return next((x for x in FAMILIES.values() if issubclass(kind, x.model)), None)


def variants():
    """dict of every variant's name to its `Family`."""
    return {name: family for family in FAMILIES.values() for name in family.variants}
