"""Token layouts: the number of prefix tokens and the grid of patches of a layer's output.

Layers that change the layout implement `compute_token_layout(layout)`; all others keep it.

Letters: P prefix tokens, T x h x w grid of patches.
"""

import dataclasses
import math

import keras

from keras_vit.models.graph import output_of

NOMINAL_SIZE = 224  # pixels, for sides of unknown size when a CNN's stride is computed


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """How tokens (B, P + T*h*w, D), or a map (B, h, w, D), correspond to an image or video.

    Attributes:
        num_prefix_tokens: int, P, number of tokens before the patches.
        grid_size: (h, w), grid of patches; a side is None if it is known only at call time.
        patch_size: (p, q), patch size in pixels.
        num_steps: int, T, number of patches along the time axis; 1 for images, None if it is known
            only at call time.
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
        """int, P + T*h*w, or None if T, h or w is not known."""
        sides = (self.num_steps, *self.grid_size)
        return None if None in sides else self.num_prefix_tokens + math.prod(sides)

    def grid_of(self, image_size):
        """(h, w), the grid of whole patches of an image of size (H, W)."""
        h, w = (side // patch for side, patch in zip(image_size, self.patch_size, strict=True))
        return h, w

    def prefixed(self, num_tokens):
        """The layout with `num_tokens` more prefix tokens."""
        return dataclasses.replace(self, num_prefix_tokens=self.num_prefix_tokens + num_tokens)

    def without_prefix(self):
        """The layout without prefix tokens."""
        return dataclasses.replace(self, num_prefix_tokens=0)

    def in_patches(self, patch_size, frames=1, round_up=False):
        """The layout of larger patches, each made of `frames` x p x q of the present ones.

        Args:
            patch_size: int or (p, q), in present patches.
            frames: int, in present patches along the time axis.
            round_up: bool, whether an incomplete patch counts, in height and width.

        Returns:
            `TokenLayout`.
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
    """Derives the `TokenLayout` of every layer's output from the graph.

    Args:
        model: functional `keras.Model` on images (B, H, W, C) or videos (B, T, H, W, C). It may
            have other inputs too.

    Returns:
        dict of layer name to `TokenLayout`. If the output of a layer is neither tokens nor a map,
        as in a pooling, it is the layout of the layer's input; None if that has none either.
    """
    found = {}

    def follow(layer, *args, **kwargs):
        read = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, TokenLayout)]
        output = output_of(model, layer)
        given = _after(layer, output, read[0]) if read else None
        found[layer.name] = given or (read[0] if read else None)
        return keras.tree.map_structure(lambda _: given, output)

    model._run_through_graph([_of_input(x.shape) for x in model.inputs], call_fn=follow)
    return found


def _of_input(shape):
    """The layout of a model's input, in which every pixel is a patch; None for other inputs."""
    if len(shape) == 4:
        return TokenLayout(0, tuple(shape[1:3]), (1, 1))
    if len(shape) == 5:
        return TokenLayout(0, tuple(shape[2:4]), (1, 1), shape[1])
    return None


def _after(layer, output, layout):
    """The layout of a layer's output, or None if that is neither tokens nor a map."""
    if hasattr(layer, "compute_token_layout"):
        return layer.compute_token_layout(layout)
    shape = getattr(output, "shape", ())
    if len(shape) == 4:
        smaller = layout.in_patches(_stride(layer, layout)).without_prefix()
        if isinstance(layer, keras.Model):
            return smaller
        return dataclasses.replace(smaller, grid_size=tuple(shape[1:3]))
    if len(shape) == 5:
        return layout
    counts = {shape[1], layout.num_tokens} - {None} if len(shape) == 3 else {0, 1}
    return layout if len(counts) < 2 else None  # another number of tokens


def _stride(layer, layout):
    """The stride of a layer without `compute_token_layout`, int or pair."""
    if isinstance(layer, keras.Model):
        size = tuple(NOMINAL_SIZE if side is None else side for side in layout.grid_size)
        _, h, w, _ = layer.compute_output_shape((None, *size, layer.input.shape[-1]))
        return (size[0] // h, size[1] // w)
    strides = getattr(layer, "strides", 1)
    return strides if isinstance(strides, int) else tuple(strides)
