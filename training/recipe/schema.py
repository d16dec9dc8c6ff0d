"""The schema of recipes: a dataclass for every table, with types, defaults and bounds."""

import dataclasses
from dataclasses import dataclass, field

from keras_vit.optimizers.schedules import SHAPES

from .augment_schema import AugmentTable
from .kinds import KINDS
from .kinds import check as check_keys
from .model_schema import (
    AUTO,
    Auto,
    DistillTable,
    FinetuneTable,
    ModelTable,
    require,
)
from .optimizers import NAMES

LOSSES = ("cross_entropy", "dice", "cross_entropy+dice")
WEIGHTS, AVERAGES = ("", "balanced"), ("valid", "all")
INTERPOLATIONS = ("bilinear", "bicubic")
STRATEGIES = ("auto", "none", "data", "model")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
JIT_COMPILE = {"auto": "auto", "on": True, "off": False}  # as `model.compile` takes it


@dataclass(frozen=True)
class TaskTable:
    """[task]: what is learned (see `training.tasks`).

    Attributes:
        kind: "classification" (a class for a picture), "segmentation" (a class for every pixel),
            "detection" (a box and a class for every object) or "masked" (pre-training of an encoder
            without labels). It decides which keys of the other tables have a meaning
            (`training.recipe.kinds`).
    """

    kind: str = KINDS[0]

    def __post_init__(self):
        require(self.kind in KINDS, "task.kind", f"one of {', '.join(KINDS)}", self.kind)


@dataclass(frozen=True)
class DataTable:
    """[data]: where the images come from (see `training.data.load`) and how they are looked at.

    Values that may be "auto", here and below, then follow from the data: see
    `training.recipe.derived.derive`.

    Attributes:
        source: "digits", "npz:PATH", "folder:PATH", "tfds:NAME" or "tfrecord:GLOB"; for
            segmentation also "camvid:PATH", "cityscapes:PATH", "ade20k:PATH", "voc:PATH" and
            "coco:PATH" (`training.data.segmentation.load`); for detection "coco:PATH", "yolo:PATH",
            "voc:PATH" (`training.data.detection.load`).
        validation: share of every class's training images that is held out.
        train_split: name of the training images; "train+validation" takes both.
        validation_split: name of the validation images; by default a share is held out.
        test_split: name of the test images; by default test, else validation or val.
        test: share of every class that is held out for the test where a source has no such split.
        data_dir: folder where tensorflow-datasets keeps its data; by default its own.
        first_label: what a TFRecord calls the first class: 1 in ImageNet as TF-Slim wrote it.
        interpolation: "bilinear" or "bicubic", where images or crops are resized.
        crop_fraction: share of the resized side that the crop keeps in evaluation. Arrays (of
            "digits" and "npz:PATH") are shown whole: one of the model's size stays as it is, one of
            another size is resized, and cut only where its proportions are others.
        upright: whether pictures are turned as their camera noted, as prediction turns them (the
            argument of `keras_vit.preprocessing.load_image`).
        max_corrupt: how many broken images may be left out; with one more the run does not start.
        palette: of masks that are coloured: the colour [r, g, b] of every class by its name, in the
            order of the classes; "void" is that of pixels to ignore.
        reduce_zero_label: whether the label 0 of masks means "none of the classes" and is ignored,
            and 1 is the first class, as in ADE20K.
        fit_into: [longest side, shortest side] that pictures are scaled into, without changing
            their proportions, before anything is cropped; [] for their own size.
        pad_to: sides to which batches of pictures are padded; [] for three that follow from the
            sizes of the pictures (`training.data.padding`).
        raw_ids: whether the classes of COCO's annotations are the category ids themselves, as in
            the published weights of DETR, and not numbered anew.
    """

    source: str
    validation: float | Auto = 0.1
    train_split: str = "train"
    validation_split: str = ""
    test_split: str = ""
    test: float = 0.2
    data_dir: str = ""
    first_label: int = 0
    interpolation: str = "bicubic"
    crop_fraction: float = 0.875
    upright: bool = True
    max_corrupt: int = 0
    palette: dict = field(default_factory=dict)
    reduce_zero_label: bool = False
    fit_into: tuple[int, ...] = ()
    pad_to: tuple[int, ...] = ()
    raw_ids: bool = False

    def __post_init__(self):
        self._check_masks()
        share = self.validation
        require(share == AUTO or 0 < share < 1, "data.validation", "in (0, 1)", share)
        require(0 < self.test < 1, "data.test", "in (0, 1)", self.test)
        require(self.train_split != "", "data.train_split", "a name", self.train_split)
        known = self.interpolation in INTERPOLATIONS
        expected = f"one of {', '.join(INTERPOLATIONS)}"
        require(known, "data.interpolation", expected, self.interpolation)
        fraction = self.crop_fraction
        require(0 < fraction <= 1, "data.crop_fraction", "in (0, 1]", fraction)
        require(self.max_corrupt >= 0, "data.max_corrupt", "0 or more", self.max_corrupt)

    def _check_masks(self):
        for name, color in self.palette.items():
            good = isinstance(color, (list, tuple)) and len(color) == 3
            good = good and all(type(x) is int and 0 <= x <= 255 for x in color)
            require(good, f"data.palette.{name}", "[red, green, blue], each 0 to 255", color)
        colors = [tuple(color) for color in self.palette.values()]
        twice = [
            name
            for name, color in zip(self.palette, colors, strict=True)
            if colors.count(color) > 1
        ]
        require(not twice, "data.palette", "a colour of its own for each class", twice)
        sides = self.fit_into
        good = sides == () or len(sides) == 2 and sides[0] >= sides[1] > 0
        require(good, "data.fit_into", "[longest side, shortest side], or []", list(sides))
        good = all(side > 0 for side in self.pad_to)
        require(good, "data.pad_to", "sides in pixels, or []", list(self.pad_to))


@dataclass(frozen=True)
class OptimizerTable:
    """[optimizer]: the rule of the updates and its rates (see `training.recipe.optimizers`).

    Attributes:
        name: "adamw", "lion", "muon" or "sgd".
        learning_rate: the highest rate, at the end of the warm-up.
        schedule: "cosine", "linear", "rsqrt", "constant", "poly" or "step", what follows the
            warm-up.
        drop_at: share of the steps after which "step" divides the rate by ten.
        warmup_steps: batches of linear growth before it.
        cooldown_steps: last batches over which the rate is brought down to 0 besides.
        weight_decay: of matrices; biases, norms, layer scales, tokens and positions have none.
        decay_all: whether these have it too, as in the authors' code of DETR.
        beta_2: how long "adamw" and "lion" remember; 0 for their own default.
        clip_norm: largest norm of the whole gradient; 0 for no clipping.
        layer_decay: how much slower every layer learns than the next one; 1 for all alike.
        min_learning_rate: the rate at the end of "poly".
        head_rate: factor of the rates of the head, or of the decoder and the auxiliary heads, which
            a pre-trained encoder does not bring; for "adamw" and "sgd". It multiplies
            min_learning_rate too.
        backbone_rate: factor of the rates of what is neither head nor decoder nor else a part of
            the task: the encoder of a segmentation, the backbone of a detector; for "adamw" and
            "sgd".
        nesterov: whether the momentum of "sgd" is Nesterov's.
        accumulate: batches whose gradients are averaged for one update.
        ema: momentum of the average of the weights, which is what is validated, judged and
            exported; 0 for none.
    """

    learning_rate: float | Auto
    name: str = "adamw"
    schedule: str = "cosine"
    warmup_steps: int | Auto = 0
    cooldown_steps: int = 0
    weight_decay: float = 0.0
    beta_2: float = 0.0
    clip_norm: float = 0.0
    layer_decay: float = 1.0
    min_learning_rate: float = 0.0
    head_rate: float = 1.0
    backbone_rate: float = 1.0
    decay_all: bool = False
    drop_at: float = 2 / 3
    nesterov: bool = True
    accumulate: int | Auto = 1
    ema: float | Auto = 0.0

    def __post_init__(self):
        rate = self.learning_rate
        good = rate == AUTO or 0 < rate < float("inf")
        require(good, "optimizer.learning_rate", "above 0", rate)
        for key, known in (("name", NAMES), ("schedule", SHAPES)):
            value = getattr(self, key)
            require(value in known, f"optimizer.{key}", f"one of {', '.join(known)}", value)
        for key in ("weight_decay", "warmup_steps", "cooldown_steps", "clip_norm"):
            value = getattr(self, key)
            good = value == AUTO or 0 <= value < float("inf")
            require(good, f"optimizer.{key}", "0 or more", value)
        least = self.min_learning_rate
        good = least >= 0 and (rate == AUTO or least <= rate)
        require(good, "optimizer.min_learning_rate", "in [0, learning_rate]", least)
        for key in ("head_rate", "backbone_rate"):
            value = getattr(self, key)
            require(0 < value < float("inf"), f"optimizer.{key}", "above 0", value)
        require(0 < self.drop_at < 1, "optimizer.drop_at", "in (0, 1)", self.drop_at)
        for key in ("beta_2", "ema"):
            value = getattr(self, key)
            require(value == AUTO or 0 <= value < 1, f"optimizer.{key}", "in [0, 1)", value)
        decay = self.layer_decay
        require(0 < decay <= 1, "optimizer.layer_decay", "in (0, 1]", decay)
        _require_positive("optimizer.accumulate", self.accumulate)


@dataclass(frozen=True)
class TrainTable:
    """[train]: the loop.

    Attributes:
        epochs: how often every training image is seen.
        batch_size: images a step.
        label_smoothing: share of the target that is spread over all classes.
        loss: of a segmentation: "cross_entropy", "dice", or both as "cross_entropy+dice".
        class_weights: of that cross-entropy: "" for none, or "balanced", by how rare a class is
            among the training pixels.
        average: whether that cross-entropy is the mean over the "valid" pixels, or over "all",
            ignored ones too, as the authors of SETR and mmsegmentation compute it.
        no_object_weight: of a detector: weight of the queries that find nothing in the
            cross-entropy of the classes.
        seed: of the weights, the order, the augmentation and the dropouts.
        precision: "float32", "mixed_bfloat16" or "mixed_float16" (with loss scaling).
        jit_compile: "auto" (with JAX and TensorFlow), "on" or "off"; what it costs and saves is
            measured by `python -m benchmarks.jit_compile`.
        checkpoint_steps: steps after which an epoch writes a checkpoint besides the one at its end;
            0 for none.
        keep_epochs: how many of the last epochs keep a file of their own, if more than one.
        skip_nan: how many steps with a loss that is not finite are left out before the run stops.
    """

    epochs: int | Auto
    batch_size: int | Auto
    label_smoothing: float = 0.0
    loss: str = "cross_entropy"
    class_weights: str = ""
    average: str = "valid"
    no_object_weight: float = 0.1
    seed: int = 0
    precision: str = "float32"
    jit_compile: str = "auto"
    checkpoint_steps: int = 0
    keep_epochs: int = 1
    skip_nan: int = 0

    def __post_init__(self):
        _require_positive("train.epochs", self.epochs)
        _require_positive("train.batch_size", self.batch_size)
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "train.label_smoothing", "in [0, 1)", smoothing)
        share = self.no_object_weight
        require(0 < share <= 1, "train.no_object_weight", "in (0, 1]", share)
        for key, known in (("loss", LOSSES), ("class_weights", WEIGHTS), ("average", AVERAGES)):
            value = getattr(self, key)
            expected = f"one of {', '.join(x or repr(x) for x in known)}"
            require(value in known, f"train.{key}", expected, value)
        require(0 <= self.seed < 2**31, "train.seed", "in [0, 2**31)", self.seed)
        known = self.precision in PRECISIONS
        require(known, "train.precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        known = self.jit_compile in JIT_COMPILE
        require(known, "train.jit_compile", f"one of {', '.join(JIT_COMPILE)}", self.jit_compile)
        require(self.keep_epochs > 0, "train.keep_epochs", "positive", self.keep_epochs)
        for key in ("checkpoint_steps", "skip_nan"):
            value = getattr(self, key)
            require(value >= 0, f"train.{key}", "0 or more", value)


@dataclass(frozen=True)
class LogTable:
    """[log]: where else the learning curves go (see `training.loop.logs`).

    Attributes:
        tensorboard: whether to write the run folder's `tensorboard/`.
        wandb: project of Weights & Biases; "" for none.
    """

    tensorboard: bool = False
    wandb: str = ""


@dataclass(frozen=True)
class DistributeTable:
    """[distribute]: many devices and machines (see `training.devices.distribute`).

    Attributes:
        strategy: "auto" (data parallel where there are several devices or processes), "none" (one
            device), "data" or "model" (weights and optimizer split over the devices too; JAX).
    """

    strategy: str = "auto"

    def __post_init__(self):
        known = self.strategy in STRATEGIES
        expected = f"one of {', '.join(STRATEGIES)}"
        require(known, "distribute.strategy", expected, self.strategy)


@dataclass(frozen=True)
class Recipe:
    """A recipe: everything that determines a run."""

    task: TaskTable
    model: ModelTable
    finetune: FinetuneTable
    distill: DistillTable
    data: DataTable
    augment: AugmentTable
    optimizer: OptimizerTable
    train: TrainTable
    distribute: DistributeTable
    log: LogTable

    def __post_init__(self):
        check_keys(self)

    def as_dict(self):
        """All tables with every value that is in force, as a recipe file would have them."""
        tables = dataclasses.asdict(self)
        # TOML has no None: an argument that is left out is None by default, or as its source says.
        table = self.model
        arguments = table.arguments if self.finetune.source else table.all_arguments()
        set_arguments = {key: value for key, value in arguments.items() if value is not None}
        return tables | {"model": {"variant": self.model.variant, **set_arguments}}


def _require_positive(name, value):
    require(value == AUTO or value > 0, name, "positive", value)
