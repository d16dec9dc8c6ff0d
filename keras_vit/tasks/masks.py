"""`DrawsMasks`: the random numbers behind masks, from a seed.

Letters: B batch, N patches or units that are removed as a whole.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer


class DrawsMasks(ConfiguredLayer):
    """Base class of layers that draw masks.

    In training every call draws other numbers, from the state of a seed generator, which is saved:
    a loaded model draws the next mask. In inference the numbers are a function of `seed` and the
    shape, so that losses can be compared.

    Args:
        mask_ratio: float in (0, 1), share that is removed.
        seed: int.
    """

    def __init__(self, mask_ratio, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.mask_ratio, self.seed = mask_ratio, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def noise(self, batch, n, training):
        """Uniform noise (B, N), float32."""
        seed = self.seed_generator if training else self.seed
        return keras.random.uniform((batch, n), dtype="float32", seed=seed)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["seed"] = ops.convert_to_numpy(self.seed_generator.state)  # which Keras leaves out

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed"][()])
