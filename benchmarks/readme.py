"""Writes the tables of the README and of the pages in docs/.

    python -m benchmarks.readme            # all of them
    python -m benchmarks.readme gpu speed  # these

Each stands between <!-- NAME --> and <!-- end -->, on any page. What a model costs is counted anew;
what was timed comes from results/*.csv, which the other benchmarks write.
"""

import argparse
import functools
import itertools
import re

from benchmarks.common import BACKENDS, RESULTS, ROOT, read_rows
from benchmarks.gpu import CONTESTANTS

README = ROOT / "README.md"
# What Dosovitskiy et al. 2021, table 1, give.
PUBLISHED = {"ViTBase": "86M", "ViTLarge": "307M", "ViTHuge": "632M"}
CONFIGURATIONS = [
    ("ViTTiny", {}),
    ("ViTSmall", {}),
    ("ViTSmall", {"patch_size": 32}),
    ("ViTBase", {"patch_size": 32}),
    ("ViTBase", {}),
    ("ViTBase", {"image_size": 384}),
    ("ViTBase", {"patch_size": 8}),
    ("ViTLarge", {"patch_size": 32}),
    ("ViTLarge", {}),
    ("ViTLarge", {"patch_size": 14}),
    ("ViTSo400m", {}),
    ("ViTHuge", {}),
    ("ViTGiant", {}),
    ("ViTGigantic", {}),
]
RECIPES = {path.stem for path in (ROOT / "training" / "recipes").glob("*.toml")}
STEPS = {"forward": "forward", "train": "training step"}
GPU_STEPS = {**STEPS, "fit": "training, a step of 20"}


def main():
    renders = {name: functools.cache(render) for name, render in {**COUNTED, **TIMED}.items()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=list(renders), choices=list(renders))
    wanted = parser.parse_args().tables
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for name in set(wanted).intersection(tables_of(text)):
            text = replace(text, name, renders[name]())
        path.write_text(text, encoding="utf-8")


def pages():
    """The README and the pages of the site that are written in Markdown."""
    return [README, *sorted((ROOT / "docs").rglob("*.md"))]


def tables_of(text):
    """Names of the tables that a page has a place for."""
    return [name for name in (*COUNTED, *TIMED) if f"<!-- {name} -->" in text]


def replace(text, name, table):
    """`text` with what stands between <!-- name --> and <!-- end --> replaced by `table`."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"The text must have a place for this. Received: <!-- {name} -->")
    return pattern.sub(lambda match: f"{match[1]}{table}{match[2]}", text)


def models():
    """`keras_vit.list_models()`."""
    import keras_vit

    found = keras_vit.list_models()
    rows = [(f"`{row[0]}`", *row[1:3], f"{row[3]:,}", *row[4:6], f"`{row[6]}`") for row in found]
    return table(found.header, [tuple("" if x == "``" else x for x in row) for row in rows])


def families():
    """A row for each family: its variants, the range of their sizes and of their accuracies."""
    import keras_vit
    from keras_vit.models.registry import FAMILIES

    found = {family.title: [] for family in FAMILIES.values()}
    for row in keras_vit.list_models():
        if row[1] in found:  # a task has a page of its own
            found[row[1]].append(row)
    lines = []
    for family in FAMILIES.values():
        rows = found[family.title]
        parameters = [row[3] / 1e6 for row in rows]
        accuracies = sorted(float(row[5]) for row in rows if row[5])
        lines.append(
            (
                f"[{family.title}](docs/models/{family.name}.md)",
                str(len(rows)),
                f"{min(parameters):,.1f} to {max(parameters):,.1f}",
                f"{accuracies[0]:.1f} to {accuracies[-1]:.1f}",
            )
        )
    return table(("family", "variants", "million parameters", "top-1 %"), lines)


def variants():
    """What the published configurations cost, counted from the models themselves."""
    import keras_vit
    from keras_vit.models.vit import VIT

    rows = []
    for name, arguments in CONFIGURATIONS:
        model = getattr(keras_vit, name)(**arguments)
        row, cost = VIT.rows[name] | arguments, keras_vit.complexity(model)
        rows.append(
            (
                f"`{name}({', '.join(f'{k}={v}' for k, v in arguments.items())})`",
                f"{row['width']} / {row['depth']} / {row['num_heads']}",
                f"{cost.image_size[0]} / {row['patch_size']}",
                f"{cost.parameters:,}",
                "" if arguments else PUBLISHED.get(name, ""),
                f"{cost.macs / 1e9:,.2f}",
                f"{cost.activation_bytes / 2**20:,.0f}",
            )
        )
    header = ("model", "width / depth / heads", "image / patch", "parameters", "published")
    return table((*header, "GMACs", "activations, MiB an image"), rows)


def scaling():
    """What eight devices hold and send in a training step under each strategy, on paper."""
    import keras_vit
    from keras_vit.layers import TransformerBlock

    devices, images = 8, 16
    rows = []
    for name in ("ViTBase", "ViTLarge", "ViTHuge", "ViTGigantic"):
        model = getattr(keras_vit, name)()
        cost = keras_vit.complexity(model)
        blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
        weights = 4 * cost.parameters  # bytes
        block = 4 * blocks[0].count_params()
        activations = images * cost.activation_bytes // 2  # in bfloat16
        tokens = blocks[0].output.shape[1] * blocks[0].output.shape[2]
        remat = 2 * images * tokens * len(blocks) + activations // len(blocks)
        for strategy, states, sent in (
            ("data", 4 * weights, 2 * weights),
            ("model", 4 * weights / devices + 2 * block, 3 * weights),
        ):
            rows.append(
                (
                    f"`{name}` / {model.patch_size[0]}",
                    strategy,
                    f"{states / 2**30:.1f}",
                    f"{activations / 2**30:.1f}",
                    f"{remat / 2**30:.1f}",
                    f"{(states + activations) / 2**30:.1f}",
                    f"{(states + remat) / 2**30:.1f}",
                    f"{sent * (devices - 1) / devices / 2**30:.1f}",
                )
            )
    header = ("", "strategy", "weights and optimizer, GiB", "activations, GiB", "with `remat`")
    return table((*header, "in all", "in all with `remat`", "sent in a step, GiB"), rows)


def learning(rows):
    """Test accuracy of every seed and its mean, recipe and plain training beside each other."""
    lines = []
    for training in dict.fromkeys(r["training"] for r in rows):
        found = [r for r in rows if r["training"] == training]
        accuracies = [float(r["test_accuracy"]) for r in found]
        minutes = sum(float(r["cpu_s"]) for r in found) / len(found) / 60
        lines.append(
            (
                f"`{training}`" if training in RECIPES else training,
                " / ".join(f"{accuracy:.2f}" for accuracy in accuracies),
                f"{sum(accuracies) / len(accuracies):.2f}",
                found[0]["steps"],
                f"{minutes:.0f}",
            )
        )
    header = ("", "test accuracy of the seeds, %", "mean, %", "steps", "CPU minutes a run")
    return table(header, lines)


def finetuning(rows):
    """The recipe beside plain training: accuracy of every seed, minutes and memory of a run."""
    lines = []
    for photos, training in dict.fromkeys((r["photos"], r["training"]) for r in rows):
        found = [r for r in rows if (r["photos"], r["training"]) == (photos, training)]

        def mean(column, found=found):
            return sum(float(r[column]) for r in found) / len(found)

        lines.append(
            (
                photos,
                f"`{training}`" if training in RECIPES else training,
                " / ".join(f"{float(r['test_accuracy']):.1f}" for r in found),
                f"{mean('test_accuracy'):.1f}",
                f"{mean('first_train_accuracy'):.0f} to {mean('train_accuracy'):.0f}",
                f"{mean('cpu_s') / 60:.1f}",
                f"{mean('memory_mb'):.0f}",
            )
        )
    header = ("photographs", "", "test accuracy of the seeds, %", "mean, %")
    header += ("on training images, first to last epoch, %", "CPU minutes a run", "memory, MB")
    return table(header, lines)


def distillation(rows):
    """The same of the teacher, and of its student with it and without."""
    return learning(rows)


def speed(rows):
    """Seconds and speed relative to timm; those that took turns stand together."""
    lines = []
    found = {(r["beside"], r["library"], r["step"], r["batch"], r["dtype"]): r for r in rows}
    settings = dict.fromkeys(key[2:] for key in found)
    for beside, library in dict.fromkeys(key[:2] for key in found):
        measured = [found.get((beside, library, *setting)) for setting in settings]
        cells = [f"{r['wall_s']} s, {r['speed']}" if r else "not measured" for r in measured]
        name = f"**{library}**" if library == "keras_vit" else library.replace("_hub", "-hub")
        lines.append((f"beside {beside}" if library == "timm" else "", name, *cells))
    names = [f"{STEPS[s]}, batch {b}" + f", {d}" * (d != "float32") for s, b, d in settings]
    return table(("", "", *names), lines)


def peers():
    """The speed of each library relative to timm, and the memory for loading, for the README.

    From the results of `speed`, in float32 and batches of 8, and of `loading`, on a CPU.
    """
    speeds = {
        (r["library"], r["step"], r["beside"]): r["speed"]
        for path in sorted(RESULTS.glob("speed_*cores.csv"))
        for r in read_rows(path)
        if (r["dtype"], r["batch"]) == ("float32", "8")
    }
    memory = {}
    for path in sorted(RESULTS.glob("loading_*cores.csv")):
        for r in read_rows(path):
            memory.setdefault(r["library"], []).append(r["over_model"])
    lines = []
    for library in dict.fromkeys(key[0] for key in speeds):
        cells = ["**keras_vit**" if library == "keras_vit" else library.replace("_hub", "-hub")]
        for step in STEPS:
            cells.append(" / ".join(speeds.get((library, step, x), "-") for x in BACKENDS))
        found = memory.get(library, [""])
        lines.append((*cells, " to ".join(sorted({min(found), max(found)}))))
    names = [f"{name} on {' / '.join(BACKENDS)}" for name in STEPS.values()]
    return table(("speed relative to timm", *names, "memory to load ViT-H/14 / its size"), lines)


def gpu(rows):
    """Milliseconds of each step, MFU, speed relative to timm, launches and memory, or an error."""
    found = {(r["model"], r["step"], r["contestant"]): r for r in rows}
    lines = []
    for model, step in itertools.product(dict.fromkeys(r["model"] for r in rows), GPU_STEPS):
        reference = found.get((model, step, "timm"))
        for name in CONTESTANTS:
            row = found.get((model, step, name))
            shown = f"**{name}**" if name.startswith("keras") else name
            if row is None or row["error"]:
                said = row["error"].replace("|", "\\|") if row else "not measured"
                lines.append((f"`{model}`, {GPU_STEPS[step]}", shown, said, *[""] * 7))
                continue
            timm = float(reference["ms"]) if reference and reference["ms"] else None
            lines.append(
                (
                    f"`{model}`, {GPU_STEPS[step]}",
                    shown,
                    f"{row['ms']} ({row['q1_ms']} to {row['q3_ms']})",
                    f"{timm / float(row['ms']):.2f}" if timm else "",
                    f"{float(row['mfu']):.1f}",
                    row["images_per_s"],
                    row["launch_ms"],
                    f"{row['kernel_ms']} in {row['kernels']}" if row["kernels"] else "",
                    row["device_mb"],
                    row["first_s"],
                )
            )
    header = ("", "", "ms (quartiles)", "speed", "MFU, %", "images / s", "launched after, ms")
    header += ("kernels, ms", "peak, MB", "first call, s")
    names = {"commit": "commit {}", "batch": "batch {}", "peak_tflops": "peak {} TFLOP/s"}
    names["product_tflops"] = "a product of two matrices reached {} TFLOP/s"
    said = [
        text.format(" and ".join(dict.fromkeys(r[column] for r in rows if r[column])))
        for column, text in names.items()
    ]
    return f"{table(header, lines)}\n{', '.join(said)}\n"


def family_speed(rows):
    """CPU seconds of a training step and of a forward pass; the peers' beside ours."""
    found = {(r["model"], r["beside"], r["library"], r["step"]): r for r in rows}
    lines = []
    for model, beside in dict.fromkeys(key[:2] for key in found):
        cells = []
        for step in STEPS:
            for library in ("keras_vit", "timm", "keras_hub"):
                row = found.get((model, beside, library, step))
                cells.append(row["cpu_s"] if row else "")
        lines.append((f"`{model}`", beside, *cells))
    libraries = ("**keras_vit**", "timm", "keras-hub")
    return table(
        ("", "beside", *(f"{STEPS[s]}, {name}" for s in STEPS for name in libraries)), lines
    )


def resolution(rows):
    """GMACs and CPU seconds of a forward pass, by size; in brackets what a megapixel costs."""
    sizes = dict.fromkeys(r["image_size"] for r in rows)
    found = {(r["model"], r["backend"], r["image_size"]): r for r in rows}
    lines = []
    for model in dict.fromkeys(key[0] for key in found):
        backends = [key[1] for key in found if key[0] == model]
        first = [found[model, backends[0], size] for size in sizes]
        cells = [f"{r['gmacs']} ({r['gmacs_a_megapixel']})" for r in first]
        lines.append((f"`{model}`", "GMACs", *cells))
        for backend in dict.fromkeys(backends):
            own = [found[model, backend, size] for size in sizes]
            cells = [f"{r['cpu_s']} ({r['cpu_s_a_megapixel']})" for r in own]
            lines.append(("", f"CPU seconds, {backend}", *cells))
    return table(("", "", *(f"{size} pixels" for size in sizes)), lines)


def jit_compile(rows):
    """CPU seconds of a step without and with `jit_compile`, and what the first one takes."""
    lines = []
    for off, on in zip(rows[::2], rows[1::2], strict=True):
        saved = float(off["step_cpu_s"]) - float(on["step_cpu_s"])
        cost = max(float(on["first_s"]) - float(off["first_s"]), 0)
        lines.append(
            (
                on["backend"],
                f"{on['model']}, batch {on['batch']}",
                f"{off['step_cpu_s']} s, first {off['first_s']} s",
                f"{on['step_cpu_s']} s, first {on['first_s']} s",
                f"{cost / saved:,.0f} steps" if saved > 0 else "never",
            )
        )
    header = ("backend", "training step of", "`jit_compile=False`", "`jit_compile=True`")
    return table((*header, "it pays after"), lines)


def remat_memory(rows):
    """Peak memory and seconds of a training step, plain and with `remat=True`."""
    lines = []
    for plain, remat in zip(rows[::2], rows[1::2], strict=True):
        lines.append(
            (
                plain["backend"],
                f"{plain['model']}, {plain['image_size']} px, batch {plain['batch']}",
                f"{plain['peak_mb']} MB, {plain['step_s']} s",
                f"{remat['peak_mb']} MB, {remat['step_s']} s",
            )
        )
    return table(("backend", "training step of", "plain", "`remat=True`"), lines)


def counts(rows):
    """Python calls on PyTorch; bytes and products of a training step on JAX."""
    names = {"python_calls": "forward: Python functions", "all_calls": "with functions in C"}
    names |= {"update_calls": "AdamW, both", "layerwise_calls": "AdamW by layer, both"}
    names |= {"mib": "MiB", "float32_products": "products in float32"}
    lines = [
        (f"`{r['contestant']}`", r["backend"], *(r[column] for column in names))
        for r in sorted(rows, key=lambda r: r["backend"], reverse=True)
    ]
    said = " and ".join(dict.fromkeys(r["commit"] for r in rows))
    return f"{table(('', 'backend', *names.values()), lines)}\ncommit {said}\n"


def import_time(rows):
    """Seconds of both imports, one after the other."""
    lines = [
        (row["backend"], row["keras_s"], row["keras_vit_s"], f"{100 * float(row['added']):+.1f} %")
        for row in rows
    ]
    return table(("backend", "`import keras`, s", "then `import keras_vit`, s", "added"), lines)


def patch_embedding(rows):
    """Seconds of both ways to embed patches."""
    lines = [
        (row["backend"], row["step"], row["matmul_s"], row["conv_s"], row["speed"]) for row in rows
    ]
    return table(("backend", "step", "reshape + matmul, s", "convolution, s", "speed"), lines)


def loading(rows):
    """Seconds and memory, the peers first."""
    lines = [
        (
            f"**{r['library']}**, {r['backend']}" if r["library"] == "keras_vit" else r["library"],
            r["seconds"],
            f"{int(r['peak_mb']):,}",
            r["over_model"],
        )
        for r in rows
    ]
    return table(("", "seconds", "peak, MB", "peak / size of the weights"), lines)


def parity(rows):
    """The largest differences: by precision in all, and every one folded away below."""
    worst = {}
    for row in rows:
        found = worst.setdefault(row["precision"], [])
        found.append((float(row["difference"]), float(row["largest_output"])))
    lines = [
        (precision, str(len(found)), f"{max(found)[0]:.1e}", f"{max(x[1] for x in found):.1f}")
        for precision, found in worst.items()
    ]
    text = table(("precision", "comparisons", "largest difference", "largest output"), lines)
    cells = {}
    for row in rows:
        cell = cells.setdefault((row["source"], row["image_size"]), {})
        cell.setdefault(row["backend"], []).append(row["difference"])
        cell["largest_output"] = [row["largest_output"]]
    columns = (*BACKENDS, "largest_output")
    lines = [(*key, *(" / ".join(c.get(x, ())) for x in columns)) for key, c in cells.items()]
    header = ("source", "pixels", *BACKENDS, "largest output")
    return (
        f"{text}\n<details><summary>All of them: float32 / bfloat16 / float16</summary>\n\n"
        f"{table(header, lines)}\n</details>\n"
    )


def data_speed(rows):
    """Images a second of the library's process, and of its CPU time."""
    names = {"randaugment": "crop, flip, RandAugment", "crop_flip": "crop, flip"}
    lines = [
        (
            f"**{r['library']}**" if r["library"] == "keras_vit" else r["library"],
            names[r["work"]],
            r["images_per_s"],
            r["images_per_cpu_s"],
        )
        for r in rows
    ]
    return table(("", "work", "images / s", "images / CPU second"), lines)


def exports(rows):
    """Differences on TensorFlow, JAX and PyTorch, or why there are none; formats go down."""
    names = {"saved_model": "SavedModel", "onnx": "ONNX", "litert": "LiteRT"}
    names |= {"openvino": "OpenVINO", "torch": "ExportedProgram"}
    cells, reasons = {}, {}
    for row in rows:
        size = "" if row["image_size"] != "any" else ", any size"
        cell = cells.setdefault((row["family"] + size), {}).setdefault(row["format"], {})
        cell[row["backend"]] = f"{float(row['difference']):.0e}" if row["difference"] else "no"
        if row["reason"]:  # what the writer said, without what the call adds around it
            said = re.split(r"It said: |Its error: |nothing was kept\. ", row["reason"])[-1]
            said = said.removeprefix("ValueError: ").partition(" Received:")[0]
            reasons.setdefault(said, []).append((row["family"] + size, names[row["format"]]))
    lines = [
        (family, *(" / ".join(found[x][b] for b in BACKENDS) for x in names))
        for family, found in cells.items()
    ]
    text = table(("family", *names.values()), lines)
    for said, where in reasons.items():
        families = ", ".join(dict.fromkeys(f for f, _ in where))
        formats = ", ".join(dict.fromkeys(f for _, f in where))
        text += f'\n"no" of {families} in {formats}: {said}\n'
    return text


def shipped_speed(rows):
    """Milliseconds of one image and of a batch, and the file's size; the reference first."""
    found = {(r["contestant"], r["batch"]): r for r in rows}
    batches = dict.fromkeys(r["batch"] for r in rows)
    lines = []
    for name in dict.fromkeys(r["contestant"] for r in rows):
        own = [found[name, batch] for batch in batches]
        cells = [f"{1000 * float(r['wall_s']):.0f}" for r in own]
        lines.append((name, *cells, f"{float(own[0]['mib']):.0f}"))
    header = (rows[0]["model"], *(f"batch {batch}, ms" for batch in batches), "MiB")
    return table(header, lines)


def table(header, rows):
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def timed(render):
    """A function that renders every results file of the benchmark that `render` is named after."""

    def sections():
        text = ""
        for path in sorted(RESULTS.glob(f"{render.__name__}_*.csv")):
            rows = read_rows(path)
            seen = dict.fromkeys(v for row in rows for v in row["versions"].split(" + "))
            hardware = ", ".join(dict.fromkeys(row["hardware"] for row in rows))
            text += f"{hardware}; {', '.join(sorted(seen))}\n\n{render(rows)}\n"
        return text or "not measured\n"

    return sections


RENDERERS = (
    parity,
    loading,
    exports,
    shipped_speed,
    data_speed,
    learning,
    finetuning,
    speed,
    gpu,
    family_speed,
    resolution,
    jit_compile,
    distillation,
    remat_memory,
    import_time,
    counts,
    patch_embedding,
)
COUNTED = {"models": models, "families": families, "variants": variants, "scaling": scaling}
TIMED = {render.__name__: timed(render) for render in RENDERERS} | {"peers": peers}

if __name__ == "__main__":
    main()
