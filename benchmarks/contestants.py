"""One contestant of `speed` in a process of its own: the same model from one of the libraries.

Each gets the same images and labels, already on the device, and does the same two things: logits
of a batch as its library's users would compute them, and a training step with cross-entropy and
AdamW. It answers requests to measure them. For segmentation, which timm has not, the peer is a
plain decoder in PyTorch on timm's encoder (`benchmarks.plain_setr`).
"""

import numpy as np

from benchmarks.common import peak_memory, serve, timed

NUM_CLASSES = 1000
PIXEL_CLASSES = 150  # of segmentation
SETR = "SETRPUP, ViT-S, 512"
SIZES = {SETR: 512, "SwinV2Tiny": 256}  # image sizes; 224 elsewhere
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05


class KerasContestant:
    """keras_vit or keras-hub, by what every Keras model has: predict_on_batch, train_on_batch."""

    def __init__(self, library, model, dtype):
        import keras

        from benchmarks import backends

        self._backends = backends
        backends.full_float32()
        keras.config.set_dtype_policy(dtype)
        build = {"keras_vit": _keras_vit, "keras_hub": _keras_hub}[library]
        self.model = build(model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(
            optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
            loss="cross_entropy" if model == SETR else loss,
            metrics=[],
        )
        self.parameters = self.model.count_params()
        self.image_size = self.model.input.shape[1]

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

    def __init__(self, library, model, dtype):
        import torch

        self._torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        build = {"timm": _timm, "transformers": _transformers}[library]
        self.model = build(model).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.mixed = dtype == "mixed_bfloat16"
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.image_size = SIZES.get(model, 224)

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
        logits = self._logits()
        if isinstance(logits, list):  # with auxiliary heads
            main, *auxiliary = (self._loss(x) for x in logits)
            loss = main + 0.4 * sum(auxiliary)
        else:
            loss = self._loss(logits)
        loss.backward()
        self.optimizer.step()
        loss.item()
        if self.device == "cuda":
            self._torch.cuda.synchronize()

    def _loss(self, logits):
        return self._torch.nn.functional.cross_entropy(logits.float(), self.labels)

    def _logits(self):
        with self._torch.autocast(self.device, dtype=self._torch.bfloat16, enabled=self.mixed):
            outputs = self.model(self.images)
        return getattr(outputs, "logits", outputs)

    def device_peak(self):
        cuda = self._torch.cuda
        return cuda.max_memory_allocated() / 1e6 if cuda.is_available() else 0.0


def _keras_vit(model):
    import keras_vit

    if model == SETR:
        encoder = keras_vit.ViTSmall(image_size=SIZES[SETR])
        return keras_vit.SETR(encoder, "pup", num_classes=PIXEL_CLASSES)
    return getattr(keras_vit, model)(num_classes=NUM_CLASSES)


def _keras_hub(model):
    import keras_hub.models as hub

    image_shape = {"image_shape": (224, 224, 3)}
    vit = {**image_shape, "patch_size": 16, "num_layers": 12}
    if model == "ViTBase":
        backbone = hub.ViTBackbone(**vit, num_heads=12, hidden_dim=768, mlp_dim=3072)
        return hub.ViTImageClassifier(backbone, num_classes=NUM_CLASSES)
    if model == "DeiTSmall":
        vit["patch_size"] = (16, 16)
        backbone = hub.DeiTBackbone(**vit, num_heads=6, hidden_dim=384, intermediate_dim=1536)
        return hub.DeiTImageClassifier(backbone, num_classes=NUM_CLASSES)
    backbone = hub.SwinTransformerBackbone(
        **image_shape, embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7
    )
    return hub.SwinTransformerImageClassifier(backbone, num_classes=NUM_CLASSES)


TIMM = {
    "ViTTiny": "vit_tiny_patch16_224",
    "ViTBase": "vit_base_patch16_224",
    "DeiTSmall": "deit_small_distilled_patch16_224",
    "SwinTiny": "swin_tiny_patch4_window7_224",
    "SwinV2Tiny": "swinv2_tiny_window8_256",
    "PVTv2B2": "pvt_v2_b2",
    "R26ViTSmall32": "vit_small_r26_s32_224",
    "CaiTSmall24": "cait_s24_224",
}


def _timm(model):
    import timm

    if model == SETR:
        from benchmarks.plain_setr import PlainSETR

        return PlainSETR(SIZES[SETR], PIXEL_CLASSES)
    return timm.create_model(TIMM[model], num_classes=NUM_CLASSES)


def _transformers(model):
    import transformers

    if model == "SwinTiny":
        return transformers.SwinForImageClassification(
            transformers.SwinConfig(num_labels=NUM_CLASSES)
        )
    config = transformers.ViTConfig(
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=NUM_CLASSES
    )
    return transformers.ViTForImageClassification(config)


def start(library, model, dtype):
    """The function that answers requests: to load a batch, or to do a step and measure it."""
    kind = KerasContestant if library.startswith("keras") else TorchContestant
    contestant = kind(library, model, dtype)
    size = contestant.image_size
    random = np.random.default_rng(0)

    def answer(load=None, step=None, least=0):
        if load:
            images = random.normal(size=(load, size, size, 3)).astype("float32")
            if model == SETR:
                labels = random.integers(0, PIXEL_CLASSES, (load, size, size))
            else:
                labels = random.integers(0, NUM_CLASSES, load)
            contestant.load(images, labels.astype("int32"))
        if step is None:
            return {"parameters": contestant.parameters, "image_size": size}
        wall, cpu = timed(getattr(contestant, step), least)
        memory = {"peak_mb": peak_memory(), "device_mb": contestant.device_peak()}
        return {"wall": wall, "cpu": cpu, **memory}

    return answer


if __name__ == "__main__":
    serve(start)
