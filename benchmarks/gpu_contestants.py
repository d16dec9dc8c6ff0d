"""One contestant of `gpu` in a process of its own: a ViT from one of the libraries, in bfloat16.

Each has the same images and labels on the device and does the same three things: logits of a batch,
which end on the host; a training step with cross-entropy and AdamW, which ends when the device is
done; and many steps, which are launched without waiting for the device in between, as people train.
It answers requests to warm up, to measure and to profile.
"""

import itertools
import statistics
import time
import traceback

import numpy as np

from benchmarks import kernels
from benchmarks.common import serve

NUM_CLASSES = 1000
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
SETTLE = 3  # calls before those that count
LEAST = {"forward": 5, "train": 5, "fit": 3}  # calls that count at least
STEPS = {"forward": 1, "train": 1, "fit": 20}  # steps of a call


class TorchContestant:
    """timm or transformers in the loop that PyTorch users write, eager or compiled."""

    def __init__(self, library, size, batch, on_cpu, compiled):
        import torch

        self._torch = torch
        self.device = _torch_device(on_cpu)
        self.model = {"timm": timm_model, "transformers": transformers_model}[library](size).to(
            self.device
        )
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.run = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            fused=self.device == "cuda",
        )
        images, labels = _batch(size, batch)
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.images = torch.from_numpy(images).to(self.device)
        self.labels = torch.from_numpy(labels).long().to(self.device)

    def forward(self):
        """Logits on the host. Returns the seconds until all was launched."""
        self.model.eval()
        start = time.perf_counter()
        with self._torch.no_grad():
            logits = self._logits()
            launched = time.perf_counter() - start
            logits.cpu().numpy()
        return launched

    def train(self, steps=1):
        """Training steps. Returns the seconds until all was launched."""
        self.model.train()
        start = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self._torch.nn.functional.cross_entropy(self._logits(), self.labels)
            loss.backward()
            self.optimizer.step()
        launched = time.perf_counter() - start
        loss.item()
        if self.device == "cuda":
            self._torch.cuda.synchronize()
        return launched

    def fit(self):
        """Many training steps without waiting in between."""
        return self.train(STEPS["fit"])

    def _logits(self):
        with self._torch.autocast(self.device, dtype=self._torch.bfloat16):
            outputs = self.run(self.images)
        return getattr(outputs, "logits", outputs).float()

    def kernels(self, step):
        return kernels.of_torch(getattr(self, step))

    def device_peak(self):
        return self._torch.cuda.max_memory_allocated() / 1e6 if self.device == "cuda" else 0.0

    def release(self):
        _torch_release()


class KerasContestant:
    """keras_vit on JAX or PyTorch, by predict_on_batch, train_on_batch and fit."""

    def __init__(self, size, batch, on_cpu, compiled):
        import keras

        import keras_vit
        from benchmarks import backends

        self._backends = backends
        self.backend = keras.backend.backend()
        _jax_device(on_cpu) if self.backend == "jax" else _torch_device(on_cpu)
        keras.config.set_dtype_policy("mixed_bfloat16")
        self.model = keras_vit.VisionTransformer(num_classes=NUM_CLASSES, **size)
        self.model.compile(
            optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[],
            jit_compile=True if compiled else "auto",
        )
        self.parameters = self.model.count_params()
        self.images, self.labels = map(backends.to_device, _batch(size, batch))
        # Both calls below wait for the device. What they launch returns before; this notes when.
        self.model.make_predict_function()
        self.model.make_train_function()
        self.model.predict_function = self._noting(self.model.predict_function)
        self.model.train_function = self._noting(self.model.train_function)

    def _noting(self, function):
        def call(*arguments):
            outputs = function(*arguments)
            self._launched = time.perf_counter()
            return outputs

        return call

    def forward(self):
        """Logits on the host. Returns the seconds until all was launched."""
        start = time.perf_counter()
        self.model.predict_on_batch(self.images)
        return self._launched - start

    def train(self):
        """A training step. Returns the seconds until all was launched."""
        start = time.perf_counter()
        self.model.train_on_batch(self.images, self.labels)
        self._backends.synchronize([v.value for v in self.model.trainable_variables])
        return self._launched - start

    def fit(self):
        """Many training steps without waiting in between."""
        start = time.perf_counter()
        batch = self.images, self.labels
        batches = (batch for _ in itertools.count())  # a generator, as fit asks for
        self.model.fit(batches, steps_per_epoch=STEPS["fit"], verbose=0)
        self._backends.synchronize([v.value for v in self.model.trainable_variables])
        return self._launched - start

    def kernels(self, step):
        of = kernels.of_jax if self.backend == "jax" else kernels.of_torch
        return of(getattr(self, step))

    def device_peak(self):
        return self._backends.device_peak()

    def release(self):
        if self.backend == "torch":
            _torch_release()


class Product:
    """A product of two square matrices in bfloat16: what the device reaches at best."""

    def __init__(self, size, on_cpu):
        import torch

        self._torch, self.size = torch, size
        self.device = _torch_device(on_cpu)
        self.a, self.b = (
            torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2)
        )

    def tflops(self, calls=20):
        """TFLOP/s of `calls` products one after another."""
        for _ in range(SETTLE):
            self.a @ self.b
        self._wait()
        start = time.perf_counter()
        for _ in range(calls):
            self.a @ self.b
        self._wait()
        return 2 * self.size**3 * calls / (time.perf_counter() - start) / 1e12

    def _wait(self):
        if self.device == "cuda":
            self._torch.cuda.synchronize()

    def release(self):
        _torch_release()


def start(library, **arguments):
    """The function that answers requests; a step that fails is an answer with "error".

    Args:
        library: "timm", "transformers", "keras", or "product" for `Product`.
        arguments: `size`, a dict, `batch` and `compiled`; with `on_cpu` a CPU will do, otherwise
            it is an error if there is no GPU.
    """
    if library == "product":
        contestant = Product(**arguments)
    elif library == "keras":
        contestant = KerasContestant(**arguments)
    else:
        contestant = TorchContestant(library, **arguments)
    warmed = {}

    def answer(do=None, step=None, **options):
        try:
            if do == "product":
                return {"tflops": contestant.tflops()}
            if do == "kernels":
                return contestant.kernels(step)
            if do and step not in warmed:
                warmed[step] = warm(contestant, step)
            if do == "measure":
                figures = measure(contestant, step, **options)
                return {**figures, **warmed[step], "parameters": contestant.parameters}
            return {}
        except Exception as error:  # out of memory beside others, for example
            contestant.release()
            said = f"{type(error).__name__}: {error}"
            return {"error": said, "traceback": traceback.format_exc()[-2000:]}

    return answer


def warm(contestant, step):
    """The first call, which may compile, and a second.

    Returns:
        dict with first_s, and with device_mb: the device's peak memory in the second call, or
        since the start on JAX, which cannot reset it; therefore the small step is warmed first.
    """
    call = getattr(contestant, step)
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    contestant.release()
    call()
    found = {"first_s": first, "device_mb": round(contestant.device_peak())}
    contestant.release()
    return found


def measure(contestant, step, seconds):
    """Times calls one by one for `seconds`.

    Returns:
        dict with median and quartiles of the wall time (ms, q1_ms, q3_ms), the median time until
        all was launched (launch_ms) and CPU time (cpu_ms), all of one step, and the number of calls
        (calls).
    """
    call, steps = getattr(contestant, step), STEPS[step]
    for _ in range(SETTLE if steps == 1 else 1):
        call()
    walls, launches = [], []
    begin, cpu = time.perf_counter(), time.process_time()
    while len(walls) < LEAST[step] or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        launches.append(call())
        walls.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    q1, median, q3 = statistics.quantiles(walls, method="inclusive")
    return {
        "ms": 1e3 * median / steps,
        "q1_ms": 1e3 * q1 / steps,
        "q3_ms": 1e3 * q3 / steps,
        "launch_ms": 1e3 * statistics.median(launches) / steps,
        "cpu_ms": 1e3 * cpu / len(walls) / steps,
        "calls": len(walls),
    }


def _batch(size, batch):
    """Images, channels last, and labels."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, size["image_size"], size["image_size"], 3))
    return images.astype("float32"), random.integers(0, NUM_CLASSES, batch).astype("int32")


def timm_model(size):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=size["image_size"],
        patch_size=size["patch_size"],
        embed_dim=size["width"],
        depth=size["depth"],
        num_heads=size["num_heads"],
        mlp_ratio=size["mlp_dim"] / size["width"],
        num_classes=NUM_CLASSES,
    )


def transformers_model(size):
    import transformers

    config = transformers.ViTConfig(
        image_size=size["image_size"],
        patch_size=size["patch_size"],
        hidden_size=size["width"],
        num_hidden_layers=size["depth"],
        num_attention_heads=size["num_heads"],
        intermediate_size=size["mlp_dim"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=NUM_CLASSES,
    )
    return transformers.ViTForImageClassification(config)


def _torch_device(on_cpu):
    import torch

    if torch.cuda.is_available():
        # As JAX does by default: products that are left in float32 in TF32.
        torch.backends.cuda.matmul.allow_tf32 = True
        return "cuda"
    if not on_cpu:
        raise RuntimeError("PyTorch finds no GPU; `--tiny` runs on a CPU.")
    return "cpu"


def _jax_device(on_cpu):
    import jax

    if not on_cpu and jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX finds no GPU, only {jax.devices()}; `--tiny` runs on a CPU.")


def _torch_release():
    """Gives cached memory back, for the processes beside this one, and forgets the peak."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    serve(start)
