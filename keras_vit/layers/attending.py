"""The interface through which `keras_vit.interpret` reads attention scores from a layer.

Letters: B batch, P prefix tokens, D width, H heads, h x w grid of patches or positions.
"""


class Attending:
    """Base class of layers with attention: every `Block`, and attention pooling.

    Attributes:
        queries: str, what the queries are.
            "tokens": all tokens attend to all tokens, so the scores of successive blocks can be
            multiplied (`attention_rollout`).
            "class_token": only the first token attends, to all tokens.
            "places": the positions of a feature map attend within a window or to a smaller map;
            such scores cannot be multiplied.
            "learned": the query is a weight of the layer.
            "objects": learned queries of which each is to find an object of the picture.
        head_axis: int, axis of the heads in the scores.
        num_heads: int, H.
        others: tuple of str, further attentions of the layer, which `attention_scores` takes as a
            second argument. Their keys are the queries, not places of the picture.
    """

    queries = "tokens"
    head_axis = 1
    others = ()

    def attention_scores(self, x):
        """Computes the attention scores for an input of this layer.

        Args:
            x: the layer's input, such as tokens (B, P + h*w, D).

        Returns:
            float32 tensor (B, H, queries, keys), with the heads at `head_axis`.
        """
        raise NotImplementedError

    def call_with_offset(self, x, scores_offset):
        """Computes the output of the layer at inference with an offset added to the scores.

        Args:
            x: the layer's input.
            scores_offset: tensor of the shape of the scores.

        Returns:
            The layer's output.
        """
        raise NotImplementedError

    def scores_on_grid(self, scores, x_shape, grid, num_prefix_tokens):
        """Arranges the keys of the scores on the grid of patches, without the prefix tokens.

        Args:
            scores: NumPy array, the result of `attention_scores`.
            x_shape: shape of the layer's input.
            grid: (h, w), number of patches along each side of the image.
            num_prefix_tokens: int, P, number of tokens before the patches.

        Returns:
            NumPy array (B, H, queries, h, w).
        """
        return scores[..., num_prefix_tokens:].reshape(*scores.shape[:-1], *grid)

    def query_grid(self, x_shape, grid):
        """(h, w), the grid of the queries; the arguments are those of `scores_on_grid`."""
        return grid
