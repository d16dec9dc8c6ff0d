"""What noise cannot touch: Python calls on PyTorch, bytes and products of a training step on JAX.

    python -m benchmarks.counts

On PyTorch these are the calls of a forward pass of a Vision Transformer with 12 narrow blocks on
one image, and of an update of its weights by AdamW, beside timm and transformers with PyTorch's
fused AdamW: without a compiler, a small batch and a GPU wait for them.
On JAX it is a training step in mixed_bfloat16: the bytes that its compiled operations read and
write, and the matrix products whose operands are float32.
"""

import argparse
import re
import sys

from benchmarks.common import (
    Worker,
    command_or_worker,
    commit,
    hardware_name,
    installed,
    print_rows,
    results_path,
    versions,
    write_rows,
)

SIZE = dict(width=64, depth=12, num_heads=4, mlp_dim=256, patch_size=8, image_size=32)
BATCH = 8  # of the training step
CONTESTANTS = {
    "keras_vit": ("keras_vit", ("torch", "jax")),
    "keras_vit, set_fast_paths(False)": ("keras_vit", ("torch", "jax")),
    "timm": ("timm", ("torch",)),
    "transformers": ("transformers", ("torch",)),
}
KEY = ("contestant", "backend")
CALLS = ("python_calls", "all_calls", "update_calls", "layerwise_calls")  # on PyTorch
COUNTS = (*CALLS, "mib", "float32_products")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="CSV file, by default results/counts_<hardware>.csv")
    path = results_path("counts", parser.parse_args().out)
    for name, (library, backends) in CONTESTANTS.items():
        for backend in filter(installed, backends):
            if not installed(library):
                print(f"{name}: {library} is not installed")
                continue
            setting = {"library": library, "backend": backend, "fast": name == library}
            worker = Worker("benchmarks.counts", setting, backend)
            found = worker.ask()
            worker.close()
            of = ("keras",) if library == "keras_vit" else (library,)
            row = {"contestant": name, "backend": backend, **dict.fromkeys(COUNTS, ""), **found}
            row |= {"hardware": hardware_name(), "commit": commit()}
            row["versions"] = versions(*of, backend)
            write_rows(path, [row], KEY)
            print_rows([row], [*KEY, *COUNTS])


def start(library, backend, fast):
    """Counts for one library on one backend."""
    if library == "keras_vit":
        import keras_vit

        keras_vit.set_fast_paths(fast)
    return torch_calls(library) if backend == "torch" else training_step


def torch_calls(library):
    """A function that counts the Python calls of `library` on PyTorch."""
    import torch

    from benchmarks import gpu_contestants

    shape = (1, SIZE["image_size"], SIZE["image_size"], 3)
    if library == "keras_vit":
        import keras_vit

        model = keras_vit.VisionTransformer(**SIZE, num_classes=1000)
    else:
        model = getattr(gpu_contestants, f"{library}_model")(SIZE).eval()
        shape = (1, 3, *shape[1:3])
    x = torch.zeros(shape)

    def count():
        with torch.no_grad():
            counts = [*calls(lambda: model(x))]
            for layerwise in (False, True):
                counts.append(calls(update(model, library, layerwise))[1])
        return dict(zip(CALLS, counts, strict=True))

    return count


def update(model, library, layerwise):
    """A function that updates all weights by AdamW, by layer at rates of their own or not.

    In timm's manner the latter are groups of parameters, two for each block.
    """
    import torch

    if library == "keras_vit":
        import keras

        from keras_vit import optimizers
        from keras_vit.optimizers.fused import fuse

        variables = model.trainable_variables
        optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.05)
        if layerwise:
            shares = optimizers.layer_shares(model, 0.75)
            decays = [optimizers.decays(v.path) for v in variables]
            optimizer = optimizers.LayerwiseAdamW(1e-3, 0.05, shares, decays)
        fuse(optimizer)
        gradients = [torch.zeros_like(v.value) for v in variables]
        return lambda: optimizer.apply(gradients, variables)
    groups = {}
    for name, parameter in model.named_parameters():
        parameter.grad = torch.zeros_like(parameter)
        block = re.search(r"\d+", name) if layerwise else None
        key = (block and block[0], layerwise and parameter.ndim == 1)
        groups.setdefault(key, {"params": []})["params"].append(parameter)
    return torch.optim.AdamW(groups.values(), 1e-3, weight_decay=0.05, fused=True).step


def calls(function):
    """(Python functions, these and functions in C) that the third call of `function` calls."""
    function(), function()
    counted = {"call": 0, "c_call": 0}

    def count(frame, event, argument):
        if event in counted:
            counted[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    # Without the call of `function`, and that which ends the profile.
    return counted["call"] - 1, counted["call"] + counted["c_call"] - 2


def training_step():
    """What a compiled training step on JAX reads and writes, and its products in float32."""
    import jax
    import keras
    import numpy as np

    import keras_vit

    model = keras_vit.VisionTransformer(**SIZE, num_classes=1000, dtype="mixed_bfloat16")
    images = np.zeros((BATCH, SIZE["image_size"], SIZE["image_size"], 3), "float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def compute(trainable, state, images, labels):
        logits, state = model.stateless_call(trainable, state, images, training=True)
        return loss(labels, logits), state

    step = jax.jit(jax.value_and_grad(compute, has_aux=True))
    values = [
        [v.value for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    lowered = step.lower(*values, images, np.zeros(BATCH, "int32"))
    products = re.findall(r"stablehlo\.dot_general.*: \(tensor<([^>]*)>", lowered.as_text())
    bytes_accessed = lowered.compile().cost_analysis()["bytes accessed"]
    return {
        "mib": bytes_accessed / 2**20,
        "float32_products": sum(operand.endswith("f32") for operand in products),
    }


if __name__ == "__main__":
    command_or_worker(main, start)
