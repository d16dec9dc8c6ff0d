"""The schema of the tables [model], [finetune] and [distill], and how the model is built."""

import inspect
from dataclasses import dataclass, field

import keras_vit
from keras_vit.distillation import KINDS
from keras_vit.models import registry
from training.cnn import SmallCNN
from training.lora import HEADS, enable_lora

# The arguments that make up the architecture: a recipe must share them with its source.
ARCHITECTURE = ("version", "width", "widths", "depth", "depths", "num_heads", "mlp_dim")


@dataclass(frozen=True)
class ModelTable:
    """[model]: a variant of `keras_vit` and arguments of its constructor.

    Attributes:
        variant: name of a public model, such as "ViTTiny" or "SwinTransformer", or "SmallCNN".
        arguments: its keyword arguments; the model itself checks the values.
    """

    variant: str
    arguments: dict = field(default_factory=dict)

    @staticmethod
    def variants():
        """dict of name to the models that a recipe can train, classes and variants of them."""
        classes = {x.model.__name__: x.model for x in registry.FAMILIES.values()}
        variants = {name: x.variants[name] for name, x in registry.variants().items()}
        return {**classes, **variants, "SmallCNN": SmallCNN}

    @property
    def factory(self):
        """The class, or the function that builds the variant."""
        return self.variants()[self.variant]

    @property
    def family(self):
        """The class of the models that it builds."""
        variants = registry.variants()
        return variants[self.variant].model if self.variant in variants else self.factory

    def valid_arguments(self):
        """Names and defaults of the arguments; the rest is for [train] and the data to say."""
        parameters = inspect.signature(self.factory).parameters
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
        if finetune.train == "lora":
            enable_lora(model, finetune.lora_rank)
        elif finetune.train == "head":
            for layer in model.layers:
                layer.trainable = layer.name in HEADS
        return model


@dataclass(frozen=True)
class FinetuneTable:
    """[finetune]: whose weights a run starts from, and which of them it trains.

    Attributes:
        source: what `keras_vit.from_pretrained` takes, whose own configuration then decides
            everything that [model] does not say; "" for new weights.
        like: a name of the catalogue whose preprocessing a source takes that says nothing of it.
        train: "all", "head" for a linear probe, or "lora" for low-rank updates and the head.
        lora_rank: directions of every update.
    """

    source: str = ""
    like: str = ""
    train: str = "all"
    lora_rank: int = 8

    def __post_init__(self):
        known = ("all", "head", "lora")
        require(self.train in known, "finetune.train", f"one of {', '.join(known)}", self.train)
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
