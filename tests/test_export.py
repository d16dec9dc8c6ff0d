"""What is shipped gives the model's numbers, in runtimes that do not know Keras.

Tests with `in_this_process` run exports in the runtime alone; the others in the real process, which
cannot import Keras: for each format images, pictures (`picture_export`), or files.
"""

import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.export.formats import FORMATS, PRECISIONS
from keras_vit.export.samples import noise_pictures
from keras_vit.models.base import KERAS_CANNOT_EXPORT
from tests.exports import (
    EXPORT,
    NAMES,
    WRITTEN_HERE,
    build,
    picture_model,
    plain,
    where_written,
)
from tests.helpers import (
    backends,
    images,
    once,
    randomize,
    run,
    tiny_cait,
    tiny_hybrid,
    tiny_pvt,
    tiny_swin,
    tiny_vit,
)

ONE_PIXEL = 1e-3  # rounded to its neighbour, as PIL and a matrix of floats sometimes disagree


def pictures():
    """Upright, wide, small."""
    rng = np.random.default_rng(0)
    sizes = [(90, 41), (30, 70), (11, 13)]
    return [rng.integers(0, 256, (*size, 3)).astype("uint8") for size in sizes]


def probabilities(model, picture):
    """Of every class, in order, by the library's own way."""
    ((*found,),) = model.predict_images([picture], top=len(NAMES))
    return [dict(found)[name] for name in NAMES]


# From JAX a process of the other backend writes: one format of each.
ALSO_FROM_JAX = ("saved_model", "onnx")


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(name, marks=backends(x.backend, *["jax"] * (name in ALSO_FROM_JAX)))
        for name, x in FORMATS.items()
    ],
)
def test_every_format_gives_the_models_logits(format, tmp_path):
    model = tiny_vit(num_registers=1, remat=True)
    randomize(model)
    path = tmp_path / "folder" / f"vit{FORMATS[format].suffix}"
    report = keras_vit.export(model, path, samples=images(batch=5))
    assert report.format == format and report.max_difference < 1e-5 and report.top1_agreement == 1
    assert report.path == path and 10_000 < report.size_bytes < 2_000_000
    assert report.latency_s > 0 and report.model_latency_s > 0
    assert 0 <= report.difference <= report.limit < 1e-2 * report.spread
    assert report.decided > 10 and report.decided_agreement == 1
    for text in (format, str(path), report.runtime, "largest difference", "decided"):
        assert text in str(report)
    run_it = plain(report)
    for batch in (1, 4):
        pixels = images(batch=batch, seed=batch)
        (name,), (logits,) = zip(*run_it(pixels).items(), strict=True)
        assert name == "logits"
        np.testing.assert_allclose(logits, run(model, pixels), atol=1e-5)
    beside = {"vit.bin", "vit.xml"} if format == "openvino" else {path.name}
    assert {x.name for x in path.parent.iterdir()} == beside  # nothing left over

    with pytest.raises(ValueError, match="must not exist yet.*Received: .*vit"):
        keras_vit.export(model, path, format)


@pytest.mark.parametrize("format", where_written(FORMATS, "saved_model", "onnx"))
def test_any_image_size(format, tmp_path, in_this_process):
    model = tiny_vit(image_size=None)
    randomize(model)
    path = tmp_path / f"vit{FORMATS[format].suffix}"
    run_it = plain(keras_vit.export(model, path, format, samples=images(batch=2)))
    for size, batch in [((24, 16), 1), ((16, 40), 3)]:
        pixels = images(size, batch)
        np.testing.assert_allclose(run_it(pixels)["logits"], run(model, pixels), atol=1e-5)
    if format == "saved_model":
        with pytest.raises(Exception, match="reshape|multiple"):
            run_it(images((25, 16)))


@pytest.mark.parametrize("format", where_written(FORMATS, "litert", "openvino", "onnx", "torch"))
def test_pixels_of_any_size_to_probabilities(format, picture_export):
    model, report = picture_export(format)
    path = report.path
    assert report.max_difference < ONE_PIXEL
    run_it = plain(report)
    for picture in pictures():
        found = run_it(picture[None])["probabilities"]
        np.testing.assert_allclose(found[0], probabilities(model, picture), atol=ONE_PIXEL)
    strip = np.random.default_rng(0).integers(0, 256, (2, 20000, 3)).astype("uint8")
    found = run_it(strip[None])["probabilities"]  # in no more memory than its middle takes
    middle = strip[:, 9800:10200]
    np.testing.assert_allclose(found[0], probabilities(model, middle), atol=ONE_PIXEL)
    labels = path / "assets.extra/labels.json" if path.is_dir() else path.parent / "vit.labels.json"
    assert json.loads(labels.read_text()) == NAMES


@backends("tensorflow")  # which writes it
def test_openvino_is_right_the_first_time(tmp_path, in_this_process):
    model = tiny_vit(  # the smallest with which its `If` was not
        image_size=32,
        width=128,
        num_heads=4,
        mlp_dim=512,
        pooling="gap",
        preprocessor=keras_vit.Preprocessor(32),
        num_classes=len(NAMES),
        class_names=NAMES,
    )
    report = keras_vit.export(model, tmp_path / "vit.xml", "openvino", inputs="pixels")
    for picture in pictures():
        found = plain(report)(picture[None])["probabilities"]  # compiled anew
        np.testing.assert_allclose(found[0], probabilities(model, picture), atol=ONE_PIXEL)


@backends("tensorflow")  # which writes it
def test_files_to_probabilities(tmp_path):
    model = picture_model()
    files = []
    for picture, kind in zip(pictures(), ("jpeg", "png", "jpeg"), strict=True):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 5 + len(files)  # turned and mirrored, each in another way
        Image.fromarray(picture).save(file, kind, exif=exif)
        files.append(file.getvalue())
    (tmp_path / "photo.jpg").write_bytes(files[0])
    samples = [tmp_path / "photo.jpg", *files[1:], pictures()[1]]
    report = keras_vit.export(model, tmp_path / "vit", inputs="jpeg", samples=samples)
    found = plain(report)(np.array(files, object))["probabilities"]
    np.testing.assert_allclose(found, [probabilities(model, x) for x in files], atol=ONE_PIXEL)


@backends("tensorflow", "torch")  # from JAX a process writes the same
def test_models_with_several_outputs(tmp_path, in_this_process):
    format = (WRITTEN_HERE or ["saved_model"])[0]
    model = tiny_swin().pyramid_model()
    randomize(model)
    path = tmp_path / f"pyramid{FORMATS[format].suffix}"
    report = keras_vit.export(model, path, format, samples=images((32, 32), 2))
    pixels = images((32, 32), 3, seed=1)
    expected, found = model.predict(pixels, verbose=0), plain(report)(pixels)
    assert set(found) == {"stage0", "stage1"}
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


@pytest.mark.parametrize(
    "what",
    where_written(
        [f"{f} {p}" for f in FORMATS for p in PRECISIONS[1:] if p not in FORMATS[f].lacks],
        "litert int8_static",  # with a calibration
        "onnx int8_dynamic",  # without
    ),
)
def test_other_precisions(what, tmp_path, in_this_process):
    format, precision = what.split()
    model = tiny_vit(width=128, mlp_dim=2048)  # large enough for weights to count
    randomize(model, scale=0.1)
    path, suffix = tmp_path, FORMATS[format].suffix
    x = images(batch=24)
    whole = keras_vit.export(model, path / f"whole{suffix}", format, samples=x)
    calibration = x if precision == "int8_static" else None  # some dozens
    report = keras_vit.export(
        model, path / f"small{suffix}", format, precision=precision, samples=x,
        calibration=calibration,
    )  # fmt: skip
    assert report.precision == precision
    assert whole.max_difference < report.max_difference  # something was rounded
    assert report.top1_agreement >= 0.9
    assert report.size_bytes < 0.8 * whole.size_bytes


@pytest.mark.parametrize(
    "what",
    where_written(
        [f"{f} {p}" for f in FORMATS for p in PRECISIONS if p not in FORMATS[f].lacks],
        "litert float32",
        "onnx float32",
    ),
)
def test_models_of_mixed_precision(what, tmp_path, in_this_process):
    """As training leaves them; every other precision begins with their float32 weights."""
    format, precision = what.split()
    model = tiny_vit(width=128, mlp_dim=512, dtype="mixed_bfloat16")
    randomize(model, scale=0.1)
    path, x = tmp_path / f"model{FORMATS[format].suffix}", images(batch=12)
    calibration = x if precision == "int8_static" else None
    report = keras_vit.export(
        model, path, format, precision=precision, samples=x, calibration=calibration
    )
    if precision == "float32":
        whole = tiny_vit(width=128, mlp_dim=512)
        whole.set_weights(model.get_weights())
        np.testing.assert_allclose(plain(report)(x)["logits"], run(whole, x), atol=1e-5)


@pytest.mark.parametrize("format", where_written(["onnx", "openvino"], "onnx", "openvino"))
def test_kernels_on_the_left_are_quantised_too(format, tmp_path, in_this_process):
    """CaiT's talking heads, which NNCF took for a node without an input."""
    model = tiny_cait()
    randomize(model)
    x, path = images(batch=24), tmp_path / f"cait{FORMATS[format].suffix}"
    report = keras_vit.export(
        model, path, format, precision="int8_static", samples=x, calibration=x
    )
    assert 0.01 * report.spread < report.difference < 0.3 * report.spread


@backends("tensorflow")
@pytest.mark.parametrize(
    "name, format, most", [("deit 4", "litert", 0.1), ("swin 0", "openvino", 0.2)]
)
def test_static_ranges_and_heads(name, format, most, tmp_path, in_this_process):
    """LiteRT's own mean of ranges is off by 0.37 of the spread, OpenVINO's 8-bit head by 0.68."""
    model, x = build(name), noise_pictures([(24, 16)] * 32, seed=1)
    x = np.stack([a / 127.5 - 1 for a in x])
    path = tmp_path / f"static{FORMATS[format].suffix}"
    report = keras_vit.export(model, path, format, precision="int8_static", calibration=x)
    assert report.difference < most * report.spread


@backends("torch")
def test_kernels_of_convolutions_are_stored_in_8_bits(tmp_path, in_this_process):
    """Their scales have the shape that onnxruntime reads."""
    model, path = build("pvt_v2 0"), tmp_path / "pvt.onnx"
    report = keras_vit.export(model, path, "onnx", precision="int8_weights")
    assert 0.001 * report.spread < report.difference < 0.1 * report.spread


@backends("tensorflow")
def test_strided_shortcuts_with_weights_in_8_bits(tmp_path, in_this_process):
    """OpenVINO forgets the stride of a 1x1 convolution whose weights are compressed."""
    model, path = build("hybrid 0"), tmp_path / "hybrid.xml"
    report = keras_vit.export(model, path, "openvino", precision="int8_weights")
    assert 0.001 * report.spread < report.difference < 0.1 * report.spread


WITH_ANY_SIZE = {  # where the family can
    "deit": lambda: tiny_vit(distillation_token=True),
    "swin": lambda: tiny_swin(image_size=None),
    "pvt": lambda: tiny_pvt(1),
    "pvt_v2": lambda: tiny_pvt(2, image_size=None),
    "hybrid": lambda: tiny_hybrid(image_size=None),
    "cait": lambda: tiny_cait(),
}


# What a backend writes itself; of the families one by default, the one that is least like a ViT.
@pytest.mark.parametrize(
    "format", [x for x in where_written(FORMATS, "litert", "onnx") if x.values[0] in WRITTEN_HERE]
)
@pytest.mark.parametrize(
    "family", [pytest.param(x, marks=[pytest.mark.slow] * (x != "swin")) for x in WITH_ANY_SIZE]
)
def test_every_family_exports_to_the_same_numbers(family, format, tmp_path, in_this_process):
    model = WITH_ANY_SIZE[family]()
    if family == "swin" and FORMATS[format].backend == "torch":
        model = tiny_swin()
    randomize(model)
    size = model.input.shape[1:3] if model.input.shape[1] else (32, 64)
    path = tmp_path / f"model{FORMATS[format].suffix}"
    report = keras_vit.export(model, path, format, samples=images(size, batch=2))
    pixels = images(size, batch=3, seed=1)
    expected = model.predict(pixels, verbose=0)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(plain(report)(pixels)["logits"], expected, atol=1e-4)


@once  # where ONNX is written: TensorFlow's formats can
def test_what_cannot_have_any_size_says_so(tmp_path):
    with pytest.raises(ValueError, match="keras_vit.resize.*Received: SwinTransformer with"):
        keras_vit.export(tiny_swin(image_size=None), tmp_path / "swin.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@once
@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_what_does_not_agree_is_not_kept(wrong, tmp_path, monkeypatch):
    model = tiny_vit()

    def lie(written, format, calls, scratch):
        found = {f"{i}/logits": model.predict(x, verbose=0) + wrong for i, x in calls.items()}
        return {**found, "runtime": "a liar", "latency_s": 1.0}

    monkeypatch.setattr(EXPORT, "write", lambda *arguments: arguments[1].mkdir())
    monkeypatch.setattr(EXPORT, "_run", lie)
    with pytest.raises(ValueError, match="nothing was kept.*Received: (1.00e-02|nan)"):
        keras_vit.export(model, tmp_path / "saved_model")
    assert not list(tmp_path.iterdir())


@once
def test_a_failing_process_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise SystemExit('no disk')")
    monkeypatch.setattr(EXPORT.runtimes, "__file__", tmp_path / "broken.py")
    monkeypatch.setattr(EXPORT, "write", lambda *arguments: arguments[1].mkdir())
    with pytest.raises(ValueError, match="run saved_model failed; nothing was kept.*no disk"):
        keras_vit.export(tiny_vit(), tmp_path / "out" / "saved_model")
    assert not list((tmp_path / "out").iterdir())


@once
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"format": "onnxx"}, "format must be one of 'saved_model', 'onnx'.*Received.*'onnxx'"),
        ({"inputs": "png"}, "inputs must be one of 'images', 'pixels', 'jpeg'"),
        ({"precision": "int4"}, "precision must be one of None, 'float32', 'float16'"),
        ({"format": "onnx", "path": "x.pb"}, "must end in .onnx.*Received: .*x.pb"),
        (
            {"path": "x.pb"},
            "must end in .onnx, .tflite, .xml, .pt2, or have no suffix for the folder.*x.pb",
        ),
        ({"format": "onnx", "inputs": "jpeg"}, "onnx decodes no JPEG: send pixels"),
        (
            {"format": "onnx", "path": "x.onnx", "inputs": "pixels", "precision": "int8_static"},
            "onnx quantises activations with .*only.*'pixels', precision='int8_static'",
        ),
        ({"format": "litert", "precision": "bfloat16"}, "litert has no bfloat16"),
        (
            {"dtype": "mixed_bfloat16", "format": "onnx", "path": "x.onnx"},
            "onnx has no bfloat16.*precision='float32'.*Received: .*compute_dtype='bfloat16'",
        ),
        ({"inputs": "pixels"}, "needs a head and preprocessor=.*preprocessor=None"),
        ({"samples": np.zeros((24, 16, 3))}, "samples must be an array of images \\(N, H, W, C\\)"),
        ({"calibration": images()}, "calibration is for precision='int8_static'"),
        (
            {"format": "onnx", "path": "x.onnx", "precision": "int8_static"},
            "needs calibration=\\.\\.\\., a few dozen.*Received: calibration=None",
        ),
        (
            {
                "format": "onnx",
                "path": "x.onnx",
                "precision": "int8_static",
                "calibration": images((32, 32)),
            },
            "calibration must have the shape \\(None, 24, 16, 3\\).*\\(3, 32, 32, 3\\)",
        ),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, dict) else "",
)
def test_bad_input_is_explained(arguments, message, tmp_path):
    arguments = dict(arguments)
    path, dtype = tmp_path / arguments.pop("path", "saved_model"), arguments.pop("dtype", None)
    with pytest.raises(ValueError, match=message):
        keras_vit.export(tiny_vit(dtype=dtype), path, **arguments)
    assert not list(tmp_path.iterdir())


@once
def test_what_is_missing_or_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="a folder that can be written. Received: .*file"):
        keras_vit.export(tiny_vit(), tmp_path / "file" / "saved_model")
    with pytest.raises(ValueError, match="A picture must be.*Received: a file of 3 bytes"):
        keras_vit.export(picture_model(), tmp_path / "x", inputs="pixels", samples=[b"abc"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for format, x in FORMATS.items():
        with pytest.raises(
            ValueError, match=f"pip install 'keras-vision-transformers\\[{x.extra}\\]'. Received"
        ):
            keras_vit.export(tiny_vit(), tmp_path / f"x{x.suffix}", format)


def test_keras_s_own_export_works_or_points_to_ours(tmp_path, monkeypatch):
    model, known = tiny_vit(), KERAS_CANNOT_EXPORT.get(keras.backend.backend(), ())
    called = []
    monkeypatch.setattr(keras.Model, "export", lambda self, *x, **y: called.append((x, y)))
    for format in ("tf_saved_model", "onnx", "openvino", "litert", "torch"):
        called.clear()
        if format in known:
            with pytest.raises(ValueError, match=rf"Use keras_vit.export\(.*format='{format}'"):
                model.export(tmp_path / "x", format)
            assert not called
        else:
            model.export(tmp_path / "x", format=format, opset_version=18)
            assert called == [((tmp_path / "x", format, None, None), {"opset_version": 18})]
    called.clear()
    signature = [
        keras.InputSpec(shape=(1, 24, 16, 3))
    ]  # Keras may know how, without a free batch size
    model.export(tmp_path / "x", "onnx", input_signature=signature)
    assert called == [((tmp_path / "x", "onnx", None, signature), {})]


@pytest.mark.slow
def test_keras_cannot_export_what_is_said_so(tmp_path):
    """If this fails, Keras has learned it."""
    model = tiny_vit()
    run(model, images())
    for format in KERAS_CANNOT_EXPORT.get(keras.backend.backend(), ()):
        with pytest.raises(Exception):  # noqa: B017 - of the other framework
            keras.Model.export(model, str(tmp_path / format), format)


@backends("tensorflow", "torch")
def test_keras_s_own_export_where_it_works(tmp_path):
    format = "torch" if keras.backend.backend() == "torch" else "tf_saved_model"
    tiny_vit().export(str(tmp_path / "x.pt2"), format)
    assert (tmp_path / "x.pt2").exists()
