"""The schema of the tables [model], [finetune] and [distill], and how the model is built."""

import inspect
from dataclasses import dataclass, field
from typing import Literal

import keras_vit
from keras_vit.distillation import KINDS
from keras_vit.models import registry

from ..cnn import SmallCNN
from ..lora import HEADS, enable_lora

AUTO = "auto"  # a value that follows from the data (`training.recipe.derived`)
Auto = Literal["auto"]

# The models of each kind of task, of `registry.TASKS`; those of classification are `FAMILIES`.
MODELS = {"segmentation": ("setr",), "detection": ("detr",), "masked": ("mae", "simmim")}

# The arguments that make up the architecture: a recipe must share them with its source.
ARCHITECTURE = ("version", "width", "widths", "depth", "depths", "num_heads", "mlp_dim")


@dataclass(frozen=True)
class ModelTable:
    """[model]: a variant of `keras_vit` and arguments of its constructor.

    Attributes:
        variant: name of a public model, such as "ViTTiny" or "SwinTransformer", or "SmallCNN";
            "auto" for that of finetune.source.
        arguments: its keyword arguments; the model itself checks the values. num_classes may be
            "auto", the number of classes in the data.
    """

    variant: str
    arguments: dict = field(default_factory=dict)

    @staticmethod
    def variants():
        """dict of name to the models that a recipe can train, classes and variants of them."""
        classes = {x.model.__name__: x.model for x in registry.FAMILIES.values()}
        variants = {name: x.variants[name] for name, x in registry.variants().items()}
        found = {**classes, **variants, "SmallCNN": SmallCNN}
        for kind in MODELS:
            found |= ModelTable.of_tasks(kind)
        return found

    @staticmethod
    def of_tasks(kind):
        """dict of name to the models of a kind of task other than classification."""
        tasks = [registry.TASKS[name] for name in MODELS[kind]]
        found = {x.model.__name__: x.model for x in tasks}
        return found | {name: variant for x in tasks for name, variant in x.variants.items()}

    @property
    def task(self):
        """The name of the variant's task in the registry; None for a model that classifies."""
        for name, task in registry.TASKS.items():
            if self.variant == task.model.__name__ or self.variant in task.variants:
                return name
        return None

    @property
    def factory(self):
        """The class, or the function that builds the variant."""
        return self.family if self.variant == AUTO else self.variants()[self.variant]

    @property
    def family(self):
        """The class of the models that it builds; of "auto", a stand-in until one is built."""
        if self.variant == AUTO:
            return keras_vit.VisionTransformer
        variants = registry.variants() | registry.task_variants()
        return variants[self.variant].model if self.variant in variants else self.factory

    def valid_arguments(self):
        """Names and defaults of the arguments; the rest is for [train] and the data to say."""
        factories = [self.factory]
        if self.variant == AUTO:  # which of them it has, the source says
            factories = [*(x.model for x in registry.FAMILIES.values()), self.factory]
        parameters = {k: p for f in factories for k, p in inspect.signature(f).parameters.items()}
        elsewhere = ("name", "dtype", "include_preprocessing", "weights")
        return {key: p.default for key, p in parameters.items() if key not in elsewhere}

    def all_arguments(self):
        """The arguments in force: those of the recipe over the variant's defaults."""
        return self.valid_arguments() | self.arguments

    def build(self, precision, finetune, class_names=None):
        """The model, on pixels 0..255: its weights drawn from Keras' global seed, or loaded.

        It keeps the data's class names where they name all its classes and the recipe names none.
        """
        settings = {**self.arguments, "include_preprocessing": True, "dtype": precision}
        if class_names and len(class_names) == self.all_arguments()["num_classes"]:
            settings.setdefault("class_names", list(class_names))
        if not finetune.source:
            return self.factory(**settings)
        model = keras_vit.from_pretrained(finetune.source, like=finetune.like or None, **settings)
        if self.variant != AUTO:
            self._check_source(model)
        if finetune.train == "lora":
            enable_lora(model, finetune.lora_rank)
        elif finetune.train == "head":
            for layer in model.layers:
                layer.trainable = layer.name in HEADS
        return model

    def _check_source(self, model):
        """Raises where the model of finetune.source is another than the recipe's."""
        family = type(model)
        expected = f"that of finetune.source, a {family.__name__}"
        require(self.family is family, "model.variant", expected, self.variant)
        config, own = model.get_config(), self.all_arguments()
        for key in own.keys() & set(ARCHITECTURE):
            require(
                _tuple(config[key]) == _tuple(own[key]),
                "model.variant",
                f"that of finetune.source, which has {key}={config[key]}",
                f"{self.variant} with {key}={own[key]}",
            )

    def of_model(self, model):
        """The table with what it leaves to the source: variant and image size of the built model.

        Where no variant has the model's architecture, the class is named and the architecture is
        spelled out.
        """
        if self.variant != AUTO:
            return self
        config = model.get_config()
        arguments = {"image_size": config["image_size"], **self.arguments}
        architecture = {key: config[key] for key in ARCHITECTURE if key in config}
        for name, family in registry.variants().items():
            own = ModelTable(name).all_arguments()
            if family.model is type(model) and all(
                _tuple(own[key]) == _tuple(value) for key, value in architecture.items()
            ):
                return ModelTable(name, arguments)
        return ModelTable(type(model).__name__, {**architecture, **arguments})


@dataclass(frozen=True)
class FinetuneTable:
    """[finetune]: whose weights a run starts from, and which of them it trains.

    Attributes:
        source: what `keras_vit.from_pretrained` takes, whose own configuration then decides
            everything that [model] does not say; "" for new weights.
        like: a name of the catalogue whose preprocessing a source takes that says nothing of it.
        train: "all", "head" for a linear probe, or "lora" for low-rank updates and the head.
        lora_rank: directions of every update.
        head: "new" for random weights, or "fitted" to what the source makes of the training images
            (`training.loop.head`).
    """

    source: str = ""
    like: str = ""
    train: str = "all"
    lora_rank: int = 8
    head: str = "new"

    def __post_init__(self):
        for key, known in (("train", ("all", "head", "lora")), ("head", ("new", "fitted"))):
            value = getattr(self, key)
            require(value in known, f"finetune.{key}", f"one of {', '.join(known)}", value)
        fits = self.head == "new" or self.source
        require(fits, "finetune.source", "set beside head='fitted'", self.source)
        of_nothing = self.train != "all" and not self.source
        require(not of_nothing, "finetune.source", "set where not all is trained", self.source)
        require(self.source or not self.like, "finetune.source", "set beside like", self.source)
        require(self.lora_rank > 0, "finetune.lora_rank", "positive", self.lora_rank)


@dataclass(frozen=True)
class DistillTable:
    """[distill]: a teacher (see `keras_vit.Distiller`).

    Attributes:
        teacher: a run folder, a .keras file, or what `keras_vit.from_pretrained` takes: a model to
            logits of the same classes, which takes pixels 0..255 or is one of keras_vit; "" for
            none.
        kind: "hard" or "soft".
        temperature: of "soft".
        alpha: the teacher's share of the loss.
    """

    teacher: str = ""
    kind: str = "hard"
    temperature: float = 3.0
    alpha: float = 0.5

    def __post_init__(self):
        require(self.kind in KINDS, "distill.kind", f"one of {', '.join(KINDS)}", self.kind)
        heat = self.temperature
        require(0 < heat < float("inf"), "distill.temperature", "above 0", heat)
        require(0 <= self.alpha <= 1, "distill.alpha", "in [0, 1]", self.alpha)


def require(condition, name, expected, value):
    if not condition:
        raise ValueError(f"{name} must be {expected}. Received: {name}={value!r}")


def _tuple(value):
    """A value as it compares: TOML has lists where the models have tuples."""
    return tuple(value) if isinstance(value, list) else value
