"""The registry of model families, which checkpoints, listings, recipes, tests and benchmarks read.

The file of a model registers its family and the variants. All other code finds the family here, and
with it the package that reads and writes its checkpoints.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Model = TypeVar("Model")


@dataclass(frozen=True)
class Family(Generic[Model]):
    """A model class, its small configurations for tests, and its variants.

    Attributes:
        name: str, the key in `FAMILIES` or `TASKS`.
        title: str, the name in listings.
        model: the model class; two families may share one.
        tiny: dict of arguments of a model with a few thousand parameters, for tests.
        smoke: dict of arguments of a small model that takes images of 8 x 8 pixels, for the smoke
            test of a recipe.
        checkpoints: str, the package that reads and writes the family's checkpoints;
            `keras_vit.checkpoints.families` describes its modules.
        paper_top1: dict of variant name to the paper's ImageNet-1k top-1 accuracy in %, for
            variants without published weights.
        variants: dict of variant name to the function that builds it.
        rows: dict of variant name to the arguments that it sets.
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
        """Decorator that registers a variant: a function with other defaults for the arguments.

        >>> @VIT.variant
        ... def ViTTiny(*, width=192, num_heads=3, mlp_dim=768, name="vit_tiny", **kwargs):
        ...     "ViT-Ti/16."

        Args:
            row: function with keyword-only arguments and no body.

        Returns:
            A function that takes all arguments of the model class, and `weights`, and returns a
            model. Its docstring is that of `row`, followed by that of the class.

        Raises:
            TypeError: if the model class does not have one of the arguments.
        """
        own = inspect.signature(row).parameters.values()
        defaults = {x.name: x.default for x in own if x.kind is x.KEYWORD_ONLY}
        signature = inspect.signature(self.model)
        unknown = sorted(set(defaults) - set(signature.parameters))
        if unknown:
            raise TypeError(
                f"{self.model.__name__} has no argument {unknown}. "
                f"Received: {row.__name__}({', '.join(defaults)})"
            )

        def build(*, weights=None, **kwargs):
            if weights is None:
                return self.model(**{**defaults, **kwargs})
            return _pretrained(row.__name__, weights, {"name": defaults.get("name"), **kwargs})

        shown = ", ".join(f"{key}={value!r}" for key, value in defaults.items() if key != "name")
        for key in ("__module__", "__name__", "__qualname__"):
            setattr(build, key, getattr(row, key))
        build.__wrapped__ = row  # so that inspect.getsource shows the numbers
        build.__doc__ = "\n\n".join(
            [
                inspect.getdoc(row) or row.__name__,
                f"A `{self.model.__name__}` with {shown}.",
                (inspect.getdoc(self.model) or "").replace("\nRaises:\n", f"{WEIGHTS}\nRaises:\n"),
            ]
        )
        parameters = [
            parameter.replace(
                default=defaults.get(key, parameter.default), kind=inspect.Parameter.KEYWORD_ONLY
            )
            for key, parameter in signature.parameters.items()
        ]
        weights = inspect.Parameter("weights", inspect.Parameter.KEYWORD_ONLY, default=None)
        build.__signature__ = signature.replace(
            parameters=[*parameters, weights], return_annotation=self.model
        )
        self.variants[row.__name__] = build
        self.rows[row.__name__] = {k: v for k, v in defaults.items() if k != "name"}
        return build


FAMILIES: dict[str, Family] = {}  # models that classify images, and encode them for tasks
TASKS: dict[str, Family] = {}  # models of other tasks, such as segmentation

# Behind the arguments of the family in a variant's docstring.
WEIGHTS = """\
    weights: None for random ones; "imagenet" for those of the best known checkpoint of the variant
        (`keras_vit.from_pretrained`); or a source as `keras_vit.from_pretrained` takes it. With
        weights, arguments that are left out are the checkpoint's, `num_classes`, `image_size` and
        `preprocessor` too.
"""


_pretrained = None  # set by `loads_weights`


def loads_weights(function):
    """Decorator of the function (variant, weights, arguments) -> model that `weights=` calls.

    The package of checkpoints stands on the models, which cannot import it: it says so here.
    """
    global _pretrained
    _pretrained = function
    return function


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
        name, title, model, tiny, smoke, paper_top1: attributes of `Family`.
        checkpoints: attribute of `Family`; by default f"keras_vit.checkpoints.{name}".

    Returns:
        `Family`, whose `variant` registers variants.

    Raises:
        ValueError: if a family of this name is registered already.
    """
    if name in FAMILIES:
        raise ValueError(
            f"A family of this name is registered already: choose another. Received: name={name!r}"
        )
    checkpoints = checkpoints or f"keras_vit.checkpoints.{name}"
    family = Family(name, title, model, tiny, smoke, checkpoints, paper_top1 or {})
    FAMILIES[name] = family
    return family


def register_task(name: str, title: str, model: type[Model]) -> Family[Model]:
    """Adds a model of a task to `TASKS`; arguments, result and errors as in `register_family`."""
    if name in TASKS:
        raise ValueError(
            f"A task of this name is registered already: choose another. Received: name={name!r}"
        )
    TASKS[name] = Family(name, title, model, {}, {}, f"keras_vit.checkpoints.{name}", {})
    return TASKS[name]


def family_of(model):
    """The first `Family` that a model or a model class belongs to, or None."""
    kind = model if inspect.isclass(model) else type(model)
    known = [*FAMILIES.values(), *TASKS.values()]
    return next((x for x in known if issubclass(kind, x.model)), None)


def variants():
    """dict of variant name to `Family`, for the variants of all families."""
    return {name: family for family in FAMILIES.values() for name in family.variants}


def task_variants():
    """dict of variant name to `Family`, for the variants of all tasks."""
    return {name: family for family in TASKS.values() for name in family.variants}
