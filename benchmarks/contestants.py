"""One contestant of `vit_speed` in a process of its own: the same ViT from one of the libraries.

Each gets the same images and labels, already on the device, and does the same two things: logits
of a batch as its library's users would compute them, and a training step with cross-entropy and
AdamW. It answers requests to measure them.
"""

import numpy as np

from benchmarks.common import peak_memory, serve, timed

NUM_CLASSES = 1000
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05


class KerasContestant:
    """keras_vit or keras-hub, by what every Keras model has: predict_on_batch, train_on_batch."""

    def __init__(self, library, shape, image_size, dtype):
        import keras

        from benchmarks import backends

        self._backends = backends
        backends.full_float32()
        keras.config.set_dtype_policy(dtype)
        build = {"keras_vit": _keras_vit, "keras_hub": _keras_hub}[library]
        self.model = build(shape, image_size)
        self.model.compile(
            optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[],
        )
        self.parameters = self.model.count_params()

    def load(self, images, labels):
        self.images = self._backends.to_device(images)
        self.labels = self._backends.to_device(labels)

    def forward(self):
        self.model.predict_on_batch(self.images)  # NumPy logits: they are there

    def train(self):
        self.model.train_on_batch(self.images, self.labels)
        self._backends.synchronize([v.value for v in self.model.trainable_variables])

    def device_peak(self):
        return self._backends.device_peak()


class TorchContestant:
    """timm or transformers, eager, in the loop that PyTorch users write."""

    def __init__(self, library, shape, image_size, dtype):
        import torch

        self._torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        build = {"timm": _timm, "transformers": _transformers}[library]
        self.model = build(shape, image_size).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.mixed = dtype == "mixed_bfloat16"
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def load(self, images, labels):
        torch = self._torch
        channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.images = torch.from_numpy(channels_first).to(self.device)
        self.labels = torch.from_numpy(labels).long().to(self.device)

    def forward(self):
        self.model.eval()
        with self._torch.no_grad():
            self._logits().float().cpu().numpy()

    def train(self):
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._torch.nn.functional.cross_entropy(self._logits().float(), self.labels)
        loss.backward()
        self.optimizer.step()
        loss.item()
        if self.device == "cuda":
            self._torch.cuda.synchronize()

    def _logits(self):
        with self._torch.autocast(self.device, dtype=self._torch.bfloat16, enabled=self.mixed):
            outputs = self.model(self.images)
        return getattr(outputs, "logits", outputs)

    def device_peak(self):
        cuda = self._torch.cuda
        return cuda.max_memory_allocated() / 1e6 if cuda.is_available() else 0.0


def _keras_vit(shape, image_size):
    from keras_vit import VisionTransformer

    return VisionTransformer(num_classes=NUM_CLASSES, image_size=image_size, **shape)


def _keras_hub(shape, image_size):
    from keras_hub.models import ViTBackbone, ViTImageClassifier

    backbone = ViTBackbone(
        image_shape=(image_size, image_size, 3),
        patch_size=shape["patch_size"],
        num_layers=shape["depth"],
        num_heads=shape["num_heads"],
        hidden_dim=shape["width"],
        mlp_dim=shape["mlp_dim"],
    )
    return ViTImageClassifier(backbone, num_classes=NUM_CLASSES)


def _timm(shape, image_size):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=image_size,
        patch_size=shape["patch_size"],
        embed_dim=shape["width"],
        depth=shape["depth"],
        num_heads=shape["num_heads"],
        mlp_ratio=shape["mlp_dim"] / shape["width"],
        num_classes=NUM_CLASSES,
    )


def _transformers(shape, image_size):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=image_size,
        patch_size=shape["patch_size"],
        hidden_size=shape["width"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["num_heads"],
        intermediate_size=shape["mlp_dim"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=NUM_CLASSES,
    )
    return ViTForImageClassification(config)


def start(library, shape, image_size, dtype):
    """The function that answers requests: to load a batch, or to do a step and measure it."""
    kind = KerasContestant if library.startswith("keras") else TorchContestant
    contestant = kind(library, shape, image_size, dtype)
    random = np.random.default_rng(0)

    def answer(load=None, step=None, least=0):
        if load:
            images = random.normal(size=(load, image_size, image_size, 3)).astype("float32")
            contestant.load(images, random.integers(0, NUM_CLASSES, load).astype("int32"))
        if step is None:
            return {"parameters": contestant.parameters}
        wall, cpu = timed(getattr(contestant, step), least)
        memory = {"peak_mb": peak_memory(), "device_mb": contestant.device_peak()}
        return {"wall": wall, "cpu": cpu, **memory}

    return answer


if __name__ == "__main__":
    serve(start)
