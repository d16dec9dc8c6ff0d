"""The signatures of all public names, and the registered names of classes in `.keras` files."""

import importlib
import inspect

import keras

# Modules with public names: those imported by `keras_vit/__init__.py`, and those in the README.
MODULES = ("keras_vit", "keras_vit.layers", "keras_vit.losses", "keras_vit.metrics")
MODULES += ("keras_vit.optimizers", "keras_vit.preprocessing")
MODULES += ("training.evaluate", "training.show_augmentations")
# Classes that public functions return, and names in the README from a module that imports them.
ELSEWHERE = (
    ("keras_vit.checkpoints.report", "LoadReport"),
    ("keras_vit.complexity", "Complexity"),
    ("keras_vit.export.report", "ExportReport"),
    ("keras_vit.picture_files", "load_image"),
    ("keras_vit.table", "Table"),
    ("training.cnn", "SmallCNN"),
    ("training.results.metrics", "Evaluation"),
)
OURS = ("keras_vit", "training")
WIDTH = 100


def lines():
    """One line per name, or per argument if there are many."""
    bases = {}
    for name in MODULES:
        module = importlib.import_module(name)
        yield f"# {name}"
        for public in names(module):
            value = getattr(module, public)
            yield from of(public, value)
            if inspect.isclass(value):
                bases |= {base: None for base in value.__mro__[1:] if ours(base)}
        yield ""
    yield "# What these are made of or return"
    for base in sorted(bases, key=lambda base: base.__name__):
        yield from of(base.__name__, base)
    for module, public in ELSEWHERE:
        yield from of(public, getattr(importlib.import_module(module), public))
    yield ""
    yield "# The names of classes in .keras files"
    registered = keras.saving.get_custom_objects().items()
    yield from sorted(name for name, value in registered if ours(value))


def names(module):
    """The public names of a module: its `__all__`, or the names that it defines."""
    if hasattr(module, "__all__"):
        return sorted(x for x in module.__all__ if not inspect.ismodule(getattr(module, x)))
    found = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    home = module.__name__
    return sorted(
        name for name, x in found.items() if getattr(x, "__module__", "").startswith(home)
    )


def ours(value):
    return getattr(value, "__module__", "").partition(".")[0] in OURS


def of(name, value):
    """The lines of a class with its own methods, of a variant, or of a function."""
    if not inspect.isclass(value):
        family = inspect.signature(value).return_annotation
        if inspect.isclass(family) and issubclass(family, keras.Model):
            yield from call(f"{name} = {family.__name__}", changed_defaults(value, family))
        else:
            yield from call(name, inspect.signature(value))
        return
    # Keras inserts another base class when the first functional model is built.
    bases = [
        x if ours(x) or not issubclass(x, keras.Model) else keras.Model for x in value.__bases__
    ]
    bases = ", ".join(base.__name__ for base in bases if base is not object)
    yield from call(f"class {name}({bases})", inspect.signature(value))
    for method, x in vars(value).items():
        public = not method.startswith("_") or method == "__call__"
        if public and isinstance(x, property):
            yield f"    {name}.{method}"
        elif public and isinstance(x, staticmethod | classmethod):
            yield from call(f"    {name}.{method}", inspect.signature(x.__func__))
        elif public and callable(x):
            yield from call(f"    {name}.{method}", inspect.signature(x))


def changed_defaults(variant, family):
    """The signature of a variant, with only the arguments whose defaults differ from its family."""
    before = inspect.signature(family).parameters
    after = inspect.signature(variant).parameters
    assert [*before, "weights"] == list(after), variant
    return inspect.Signature([x for name, x in after.items() if x != before.get(name)])


def call(name, signature):
    """`name(arguments)` in one line, or one line per argument if that is too long."""
    parameters = [x.replace(annotation=x.empty) for x in signature.parameters.values()]
    signature = inspect.Signature(parameters)
    if len(f"{name}{signature}") <= WIDTH:
        yield f"{name}{signature}"
        return
    yield name
    indent = " " * (len(name) - len(name.lstrip()) + 4)
    previous = None
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and previous is not parameter.KEYWORD_ONLY:
            yield f"{indent}*"
        yield f"{indent}{parameter}"
        previous = parameter.kind
