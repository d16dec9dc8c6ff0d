"""What a recipe may say: a dataclass for every table, with its types, defaults and bounds."""

import dataclasses
import inspect
from dataclasses import dataclass, field

import keras_vit
from keras_vit.distillation import KINDS
from keras_vit.models.base import ImageModel
from keras_vit.optimizers import SHAPES
from training.cnn import SmallCNN
from training.lora import HEADS, enable_lora
from training.optimizers import NAMES

INTERPOLATIONS = ("bilinear", "bicubic")
STRATEGIES = ("auto", "none", "data", "model")
# What makes two models of one family the same, but for what is asked of them.
ARCHITECTURE = ("version", "width", "widths", "depth", "depths", "num_heads", "mlp_dim")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
JIT_COMPILE = {"auto": "auto", "on": True, "off": False}  # as `model.compile` takes it


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
        public = {k: v for k, v in vars(keras_vit).items() if _family(v) is not None}
        return {**public, "SmallCNN": SmallCNN}

    @property
    def factory(self):
        """The class, or the function that builds the variant."""
        return self.variants()[self.variant]

    @property
    def family(self):
        """The class of the models that it builds."""
        return _family(self.factory)

    def valid_arguments(self):
        """Names and defaults of the arguments; the rest is for [train] and the data to say."""
        parameters = inspect.signature(self.factory).parameters
        elsewhere = ("name", "dtype", "include_preprocessing")
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
        model = keras_vit.from_pretrained(finetune.source, **settings)
        family = type(model)
        expected = f"that of finetune.source, a {family.__name__}"
        _require(self.family is family, "model.variant", expected, self.variant)
        config, own = model.get_config(), self.all_arguments()
        for key in own.keys() & set(ARCHITECTURE):
            _require(
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
        train: "all", "head" for a linear probe, or "lora" for low-rank updates and the head.
        lora_rank: directions of every update.
    """

    source: str = ""
    train: str = "all"
    lora_rank: int = 8

    def __post_init__(self):
        known = ("all", "head", "lora")
        _require(self.train in known, "finetune.train", f"one of {', '.join(known)}", self.train)
        of_nothing = self.train != "all" and not self.source
        _require(not of_nothing, "finetune.source", "set where not all is trained", self.source)
        _require(self.lora_rank > 0, "finetune.lora_rank", "positive", self.lora_rank)


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
        _require(self.kind in KINDS, "distill.kind", f"one of {', '.join(KINDS)}", self.kind)
        heat = self.temperature
        _require(0 < heat < float("inf"), "distill.temperature", "above 0", heat)
        _require(0 <= self.alpha <= 1, "distill.alpha", "in [0, 1]", self.alpha)


@dataclass(frozen=True)
class DataTable:
    """[data]: where the images come from (see `training.data.load`) and how they are looked at.

    Attributes:
        source: "digits", "npz:PATH", "folder:PATH", "tfds:NAME" or "tfrecord:GLOB".
        validation: share of every class's training images that is held out.
        train_split: name of the training images; "train+validation" takes both.
        test_split: name of the test images; by default test, else validation or val.
        test: share of every class that is held out for the test where a source has no such split.
        data_dir: folder where tensorflow-datasets keeps its data; by default its own.
        first_label: what a TFRecord calls the first class: 1 in ImageNet as TF-Slim wrote it.
        interpolation: "bilinear" or "bicubic", where images or crops are resized.
        crop_fraction: share of the resized side that the crop keeps in evaluation. Arrays (of
            "digits" and "npz:PATH") are shown whole: one of the model's size stays as it is, one of
            another size is resized, and cut only where its proportions are others.
        max_corrupt: how many broken images may be left out; with one more the run does not start.
    """

    source: str
    validation: float = 0.1
    train_split: str = "train"
    test_split: str = ""
    test: float = 0.2
    data_dir: str = ""
    first_label: int = 0
    interpolation: str = "bicubic"
    crop_fraction: float = 0.875
    max_corrupt: int = 0

    def __post_init__(self):
        _require(0 < self.validation < 1, "data.validation", "in (0, 1)", self.validation)
        _require(0 < self.test < 1, "data.test", "in (0, 1)", self.test)
        _require(self.train_split != "", "data.train_split", "a name", self.train_split)
        known = self.interpolation in INTERPOLATIONS
        expected = f"one of {', '.join(INTERPOLATIONS)}"
        _require(known, "data.interpolation", expected, self.interpolation)
        fraction = self.crop_fraction
        _require(0 < fraction <= 1, "data.crop_fraction", "in (0, 1]", fraction)
        _require(self.max_corrupt >= 0, "data.max_corrupt", "0 or more", self.max_corrupt)


@dataclass(frozen=True)
class AugmentTable:
    """[augment]: how training images are changed, in this order (see `training.transform`).

    Attributes:
        crop_scale: smallest and largest share of the area that a random crop takes, before it is
            resized to the model's size; [] for no such crop.
        crop_ratio: smallest and largest width / height of that crop.
        pad_crop: pixels of reflection around the image, of which a random part is taken.
        rotate: degrees, either way.
        translate: share of the image's side, either way.
        zoom: largest magnification less one.
        flip: whether half of the images are mirrored.
        probability: share of the images that the last four change; the others stay as they are.
        randaugment: [number of operations, magnitude 0 to 30]; [] for none.
        color_jitter: strengths for brightness, contrast and saturation; [] for none.
        erasing: share of the images that lose a random rectangle.
        mixup: alpha of the Beta distribution by which images and labels are blended; 0 for none.
        cutmix: alpha of the Beta distribution of the box that comes from another image; 0 for none.
            With both a batch draws one of the two.
        repeats: how often an example is in the stream of batches, each time changed anew; an epoch
            has no more steps and shows so many fewer examples.
    """

    crop_scale: tuple[float, ...] = ()
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)
    pad_crop: int = 0
    rotate: float = 0.0
    translate: float = 0.0
    zoom: float = 0.0
    flip: bool = False
    probability: float = 1.0
    randaugment: tuple[int, ...] = ()
    color_jitter: tuple[float, ...] = ()
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1

    def __post_init__(self):
        self._check_crops()
        _require(0 <= self.rotate <= 180, "augment.rotate", "in [0, 180]", self.rotate)
        _require(0 <= self.translate < 1, "augment.translate", "in [0, 1)", self.translate)
        _require(0 <= self.zoom < 10, "augment.zoom", "in [0, 10)", self.zoom)
        share = self.probability
        _require(0 <= share <= 1, "augment.probability", "in [0, 1]", share)
        self._check_colors()
        _require(0 <= self.erasing <= 1, "augment.erasing", "in [0, 1]", self.erasing)
        _require(0 <= self.mixup < 100, "augment.mixup", "in [0, 100)", self.mixup)
        _require(0 <= self.cutmix < 100, "augment.cutmix", "in [0, 100)", self.cutmix)
        _require(self.repeats > 0, "augment.repeats", "positive", self.repeats)

    def _check_crops(self):
        scale, ratio = self.crop_scale, self.crop_ratio
        good = scale == () or len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1
        expected = "[smallest, largest] in (0, 1], or []"
        _require(good, "augment.crop_scale", expected, list(scale))
        good = len(ratio) == 2 and 0 < ratio[0] <= ratio[1] < float("inf")
        _require(good, "augment.crop_ratio", "[smallest, largest] above 0", list(ratio))
        _require(self.pad_crop >= 0, "augment.pad_crop", "0 or more", self.pad_crop)
        one = not (scale and self.pad_crop)
        _require(one, "augment.pad_crop", "0 beside augment.crop_scale", self.pad_crop)

    def _check_colors(self):
        chosen, strengths = self.randaugment, self.color_jitter
        good = chosen == () or len(chosen) == 2 and chosen[0] > 0 and 0 <= chosen[1] <= 30
        expected = "[number of operations, magnitude 0 to 30], or []"
        _require(good, "augment.randaugment", expected, list(chosen))
        good = strengths == () or len(strengths) == 3 and all(0 <= s < 100 for s in strengths)
        expected = "three strengths in [0, 100), or []"
        _require(good, "augment.color_jitter", expected, list(strengths))


@dataclass(frozen=True)
class OptimizerTable:
    """[optimizer]: the rule of the updates and its rates (see `training.optimizers.optimizer`).

    Attributes:
        name: "adamw", "lion", "muon" or "sgd".
        learning_rate: the highest rate, at the end of the warm-up.
        schedule: "cosine", "linear", "rsqrt" or "constant", what follows the warm-up.
        warmup_steps: batches of linear growth before it.
        cooldown_steps: last batches over which the rate is brought down to 0 besides.
        weight_decay: of matrices; biases, norms, layer scales, tokens and positions have none.
        beta_2: how long "adamw" and "lion" remember; 0 for their own default.
        clip_norm: largest norm of the whole gradient; 0 for no clipping.
        layer_decay: how much slower every layer learns than the next one; 1 for all alike.
        accumulate: batches whose gradients are averaged for one update.
        ema: momentum of the average of the weights, which is what is validated, judged and
            exported; 0 for none.
    """

    learning_rate: float
    name: str = "adamw"
    schedule: str = "cosine"
    warmup_steps: int = 0
    cooldown_steps: int = 0
    weight_decay: float = 0.0
    beta_2: float = 0.0
    clip_norm: float = 0.0
    layer_decay: float = 1.0
    accumulate: int = 1
    ema: float = 0.0

    def __post_init__(self):
        rate = self.learning_rate
        _require(0 < rate < float("inf"), "optimizer.learning_rate", "above 0", rate)
        for key, known in (("name", NAMES), ("schedule", SHAPES)):
            value = getattr(self, key)
            _require(value in known, f"optimizer.{key}", f"one of {', '.join(known)}", value)
        for key in ("weight_decay", "warmup_steps", "cooldown_steps", "clip_norm"):
            value = getattr(self, key)
            _require(0 <= value < float("inf"), f"optimizer.{key}", "0 or more", value)
        for key in ("beta_2", "ema"):
            value = getattr(self, key)
            _require(0 <= value < 1, f"optimizer.{key}", "in [0, 1)", value)
        decay = self.layer_decay
        _require(0 < decay <= 1, "optimizer.layer_decay", "in (0, 1]", decay)
        _require(self.accumulate > 0, "optimizer.accumulate", "positive", self.accumulate)


@dataclass(frozen=True)
class TrainTable:
    """[train]: the loop.

    Attributes:
        epochs: how often every training image is seen.
        batch_size: images a step.
        label_smoothing: share of the target that is spread over all classes.
        seed: of the weights, the order, the augmentation and the dropouts.
        precision: "float32", "mixed_bfloat16" or "mixed_float16" (with loss scaling).
        jit_compile: "auto" (with JAX and TensorFlow), "on" or "off". With PyTorch it is worth its
            minutes of compiling in a run of some hours (`python -m benchmarks.jit_compile`).
        checkpoint_steps: steps after which an epoch writes a checkpoint besides the one at its end;
            0 for none.
        keep_epochs: how many of the last epochs keep a file of their own, if more than one.
        skip_nan: how many steps with a loss that is not finite are left out before the run stops.
    """

    epochs: int
    batch_size: int
    label_smoothing: float = 0.0
    seed: int = 0
    precision: str = "float32"
    jit_compile: str = "auto"
    checkpoint_steps: int = 0
    keep_epochs: int = 1
    skip_nan: int = 0

    def __post_init__(self):
        _require(self.epochs > 0, "train.epochs", "positive", self.epochs)
        _require(self.batch_size > 0, "train.batch_size", "positive", self.batch_size)
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "train.label_smoothing", "in [0, 1)", smoothing)
        _require(0 <= self.seed < 2**31, "train.seed", "in [0, 2**31)", self.seed)
        known = self.precision in PRECISIONS
        _require(known, "train.precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        known = self.jit_compile in JIT_COMPILE
        _require(known, "train.jit_compile", f"one of {', '.join(JIT_COMPILE)}", self.jit_compile)
        _require(self.keep_epochs > 0, "train.keep_epochs", "positive", self.keep_epochs)
        for key in ("checkpoint_steps", "skip_nan"):
            value = getattr(self, key)
            _require(value >= 0, f"train.{key}", "0 or more", value)


@dataclass(frozen=True)
class LogTable:
    """[log]: where else the learning curves go (see `training.logs`).

    Attributes:
        tensorboard: whether to write the run folder's `tensorboard/`.
        wandb: project of Weights & Biases; "" for none.
    """

    tensorboard: bool = False
    wandb: str = ""


@dataclass(frozen=True)
class DistributeTable:
    """[distribute]: many devices and machines (see `training.distribute`).

    Attributes:
        strategy: "auto" (data parallel where there are several devices or processes), "none" (one
            device), "data" or "model" (weights and optimizer split over the devices too; JAX).
    """

    strategy: str = "auto"

    def __post_init__(self):
        known = self.strategy in STRATEGIES
        expected = f"one of {', '.join(STRATEGIES)}"
        _require(known, "distribute.strategy", expected, self.strategy)


@dataclass(frozen=True)
class Recipe:
    """Everything that a run is made from."""

    model: ModelTable
    finetune: FinetuneTable
    distill: DistillTable
    data: DataTable
    augment: AugmentTable
    optimizer: OptimizerTable
    train: TrainTable
    distribute: DistributeTable
    log: LogTable

    def as_dict(self):
        """All tables with every value that is in force, as a recipe file would have them."""
        tables = dataclasses.asdict(self)
        # TOML has no None: an argument that is left out is None by default, or as its source says.
        table = self.model
        arguments = table.arguments if self.finetune.source else table.all_arguments()
        set_arguments = {key: value for key, value in arguments.items() if value is not None}
        return tables | {"model": {"variant": self.model.variant, **set_arguments}}


def _family(factory):
    """The class of models that a class or a variant makes; None for what makes none."""
    if not callable(factory) or not hasattr(factory, "__name__"):
        return None
    made = factory if inspect.isclass(factory) else inspect.signature(factory).return_annotation
    return made if inspect.isclass(made) and issubclass(made, ImageModel) else None


def _tuple(value):
    """A value as it compares: TOML has lists where the models have tuples."""
    return tuple(value) if isinstance(value, list) else value


def _require(condition, name, expected, value):
    if not condition:
        raise ValueError(f"{name} must be {expected}. Received: {name}={value!r}")
