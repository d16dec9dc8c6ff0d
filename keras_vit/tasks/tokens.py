"""Layers on tokens that several tasks use.

Letters: B batch, N tokens, P prefix tokens, D width.
"""

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost


class DropPrefix(ConfiguredLayer):
    """Drops the tokens before the patches: (B, P + N, D) -> (B, N, D).

    Args:
        num_prefix_tokens: int, P.
    """

    def __init__(self, num_prefix_tokens, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, tokens):
        return tokens[:, self.num_prefix_tokens :]

    def compute_output_shape(self, tokens_shape):
        batch, n, width = tokens_shape
        return (batch, n and n - self.num_prefix_tokens, width)

    def compute_token_layout(self, layout):
        return layout.without_prefix()

    def cost(self, tokens_shape):
        return Cost()
