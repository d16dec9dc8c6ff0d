"""Token layouts: how many prefix tokens, and where the patches lie in an image or a video.

Layers that change the layout implement `compute_token_layout(layout)`; all others keep it.

Letters: P prefix tokens, T x h x w grid of patches.
"""

import dataclasses
import math

import keras

NOMINAL_SIZE = 224  # of a side that is not known, where a CNN's stride is asked


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """How tokens (B, P + T*h*w, D), or a map (B, h, w, D), lie in the image or video.

    Attributes:
        num_prefix_tokens: int, P, tokens in front of the sequence that are no patches.
        grid_size: (h, w), the grid of patches, each None where it is known at call time only.
        patch_size: (p, q), the size of a patch in pixels.
        num_steps: int, T, number of patches along the time axis; 1 for images.
        frames_per_step: int, number of frames in a patch (a tubelet); 1 for images.

    Example:
        >>> keras_vit.ViTBase().token_layout("block00")
        TokenLayout(num_prefix_tokens=1, grid_size=(14, 14), patch_size=(16, 16), num_steps=1, ...)
    """

    num_prefix_tokens: int
    grid_size: tuple
    patch_size: tuple
    num_steps: int | None = 1
    frames_per_step: int = 1

    @property
    def num_tokens(self):
        """P + T*h*w, or None where a part of it is not known."""
        sides = (self.num_steps, *self.grid_size)
        return None if None in sides else self.num_prefix_tokens + math.prod(sides)

    def grid_of(self, image_size):
        """(h, w) of an image of another size (H, W), in whole patches."""
        h, w = (side // patch for side, patch in zip(image_size, self.patch_size, strict=True))
        return h, w

    def prefixed(self, num_tokens):
        """With more tokens in front."""
        return dataclasses.replace(self, num_prefix_tokens=self.num_prefix_tokens + num_tokens)

    def without_prefix(self):
        """Of the patches alone."""
        return dataclasses.replace(self, num_prefix_tokens=0)

    def in_patches(self, patch_size, frames=1, round_up=False):
        """Of larger patches, each made of `frames` x p x q of these.

        Args:
            patch_size: int or (p, q).
            frames: int.
            round_up: whether a patch that is not whole counts, in height and width.
        """
        p, q = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        up = (p - 1, q - 1) if round_up else (0, 0)
        sides = zip(self.grid_size, (p, q), up, strict=True)
        grid = tuple(None if side is None else (side + more) // by for side, by, more in sides)
        return TokenLayout(
            self.num_prefix_tokens,
            grid,
            (p * self.patch_size[0], q * self.patch_size[1]),
            None if self.num_steps is None else self.num_steps // frames,
            self.frames_per_step * frames,
        )


def token_layouts(model):
    """The `TokenLayout` of what every layer gives, derived from the layers alone.

    Args:
        model: functional `keras.Model` on images (B, H, W, C) or videos (B, T, H, W, C), perhaps
            with other inputs beside them.

    Returns:
        dict of layer name to `TokenLayout`. Of a layer that gives neither tokens nor a map, such
        as one that pools them, it is the layout of what it reads; layers that read a vector have
        None.
    """
    found = {}

    def follow(layer, *args, **kwargs):
        read = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, TokenLayout)]
        given = _after(layer, read[0]) if read else None
        found[layer.name] = given or (read[0] if read else None)
        return keras.tree.map_structure(lambda _: given, layer.output)

    model._run_through_graph([_of_input(x.shape) for x in model.inputs], call_fn=follow)
    return found


def _of_input(shape):
    """The layout of an input: every pixel is a patch."""
    if len(shape) == 4:
        return TokenLayout(0, tuple(shape[1:3]), (1, 1))
    if len(shape) == 5:
        return TokenLayout(0, tuple(shape[2:4]), (1, 1), shape[1])
    return None


def _after(layer, layout):
    """The layout of what a layer gives, or None where that is neither tokens nor a map."""
    if hasattr(layer, "compute_token_layout"):
        return layer.compute_token_layout(layout)
    shape = getattr(layer.output, "shape", ())
    if len(shape) == 4:
        smaller = layout.in_patches(_stride(layer, layout)).without_prefix()
        if isinstance(layer, keras.Model):
            return smaller
        return dataclasses.replace(smaller, grid_size=tuple(shape[1:3]))
    if len(shape) == 5:
        return layout
    counts = {shape[1], layout.num_tokens} - {None} if len(shape) == 3 else {0, 1}
    return layout if len(counts) < 2 else None  # others than it read


def _stride(layer, layout):
    """By how much a layer without `compute_token_layout` shrinks a map, one number or a pair."""
    if isinstance(layer, keras.Model):
        size = tuple(NOMINAL_SIZE if side is None else side for side in layout.grid_size)
        _, h, w, _ = layer.compute_output_shape((None, *size, layer.input.shape[-1]))
        return (size[0] // h, size[1] // w)
    strides = getattr(layer, "strides", 1)
    return strides if isinstance(strides, int) else tuple(strides)
