"""The schema of the table [augment]."""

from dataclasses import dataclass

from .model_schema import require


@dataclass(frozen=True)
class AugmentTable:
    """[augment]: how training images are changed, in this order (see `training.augment.transform`).

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
        scale: smallest and largest factor by which a picture and its mask are scaled before a
            window of the model's size is cut out; [] for none.
        cat_max_ratio: largest share of one class among the labelled pixels of that window: up to
            ten windows are drawn to find one; 1 for the first.
        photometric: whether brightness, contrast, saturation and hue are changed, as
            mmsegmentation's PhotoMetricDistortion does.
        short_sides: short sides of which a picture is scaled to one, in place of the second of
            data.fit_into, whose first stays the longest side; [] for that alone.
        crop_sides: smallest and largest side of a crop that half of the pictures are cut to before
            they are scaled; boxes are cut off at its border; [] for no crop.
        crop_short_sides: short sides of which a picture is scaled to one before that crop; [] for
            the picture as it is.
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
    scale: tuple[float, ...] = ()
    cat_max_ratio: float = 1.0
    photometric: bool = False
    short_sides: tuple[int, ...] = ()
    crop_sides: tuple[int, ...] = ()
    crop_short_sides: tuple[int, ...] = ()
    repeats: int = 1

    def __post_init__(self):
        self._check_crops()
        require(0 <= self.rotate <= 180, "augment.rotate", "in [0, 180]", self.rotate)
        require(0 <= self.translate < 1, "augment.translate", "in [0, 1)", self.translate)
        require(0 <= self.zoom < 10, "augment.zoom", "in [0, 10)", self.zoom)
        share = self.probability
        require(0 <= share <= 1, "augment.probability", "in [0, 1]", share)
        self._check_colors()
        require(0 <= self.erasing <= 1, "augment.erasing", "in [0, 1]", self.erasing)
        require(0 <= self.mixup < 100, "augment.mixup", "in [0, 100)", self.mixup)
        require(0 <= self.cutmix < 100, "augment.cutmix", "in [0, 100)", self.cutmix)
        scale, ratio = self.scale, self.cat_max_ratio
        good = scale == () or len(scale) == 2 and 0 < scale[0] <= scale[1] < float("inf")
        require(good, "augment.scale", "[smallest, largest] above 0, or []", list(scale))
        require(0 < ratio <= 1, "augment.cat_max_ratio", "in (0, 1]", ratio)
        require(self.repeats > 0, "augment.repeats", "positive", self.repeats)

    def _check_crops(self):
        scale, ratio = self.crop_scale, self.crop_ratio
        good = scale == () or len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1
        expected = "[smallest, largest] in (0, 1], or []"
        require(good, "augment.crop_scale", expected, list(scale))
        good = len(ratio) == 2 and 0 < ratio[0] <= ratio[1] < float("inf")
        require(good, "augment.crop_ratio", "[smallest, largest] above 0", list(ratio))
        require(self.pad_crop >= 0, "augment.pad_crop", "0 or more", self.pad_crop)
        for key in ("short_sides", "crop_short_sides"):
            value = getattr(self, key)
            good = all(side > 0 for side in value)
            require(good, f"augment.{key}", "sides in pixels, or []", list(value))
        sides = self.crop_sides
        good = sides == () or len(sides) == 2 and 0 < sides[0] <= sides[1]
        require(good, "augment.crop_sides", "[smallest, largest] side, or []", list(sides))
        one = not (scale and self.pad_crop)
        require(one, "augment.pad_crop", "0 beside augment.crop_scale", self.pad_crop)

    def _check_colors(self):
        chosen, strengths = self.randaugment, self.color_jitter
        good = chosen == () or len(chosen) == 2 and chosen[0] > 0 and 0 <= chosen[1] <= 30
        expected = "[number of operations, magnitude 0 to 30], or []"
        require(good, "augment.randaugment", expected, list(chosen))
        good = strengths == () or len(strengths) == 3 and all(0 <= s < 100 for s in strengths)
        expected = "three strengths in [0, 100), or []"
        require(good, "augment.color_jitter", expected, list(strengths))
