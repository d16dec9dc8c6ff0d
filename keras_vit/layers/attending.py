"""What interpretation asks of a layer that attends.

Letters: B batch, P prefix tokens, D width, H heads, h x w grid of patches or places.
"""


class Attending:
    """Base class of what attends: every `Block`, and pooling by attention.

    Attributes:
        queries: str, what reads, which tells how scores of several blocks go together.
            "tokens": every token reads every token, so the scores of one block can be multiplied
            with those of the next (`attention_rollout`).
            "class_token": the first token alone reads, from all tokens.
            "places": places of a feature map read within a window or from a smaller map; such
            scores cannot be multiplied.
            "learned": a query that is a weight, of which nothing else is left.
        head_axis: int, the axis of the scores that counts heads.
        num_heads: int, H.
    """

    queries = "tokens"
    head_axis = 1

    def attention_scores(self, x):
        """The scores that this layer gives its input: float32 tensor (B, H, queries, keys).

        Args:
            x: what the layer is called with, such as tokens (B, P + h*w, D).
        """
        raise NotImplementedError

    def call_with_offset(self, x, scores_offset):
        """The output of the layer for other scores, at inference.

        Args:
            x: what the layer is called with.
            scores_offset: tensor that is added to the scores, of their shape.
        """
        raise NotImplementedError

    def scores_on_grid(self, scores, x_shape, grid, num_prefix_tokens):
        """Lays the keys of the scores on the image; here these are tokens, and the prefix goes.

        Args:
            scores: NumPy array, what `attention_scores` gave.
            x_shape: shape of the layer's input.
            grid: (h, w), the patches along the sides of the image.
            num_prefix_tokens: int, P, tokens in front of the patches.

        Returns:
            NumPy array (B, H, queries, h, w).
        """
        return scores[..., num_prefix_tokens:].reshape(*scores.shape[:-1], *grid)

    def query_grid(self, x_shape, grid):
        """(h, w) of the places that read; arguments as in `scores_on_grid`."""
        return grid
