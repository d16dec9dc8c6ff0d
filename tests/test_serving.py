"""What docs/serving.md says works, as far as packages go."""

import base64
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.picture_files import MAX_RATIO, load_image
from tests.exports import picture_model, where_written
from tests.helpers import backends, once

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/serving.md").read_text(encoding="utf-8")


def code(name):
    """The block of Python on the page that is marked with that name."""
    return re.search(rf"<!-- {name} -->\n```python\n(.*?)```", PAGE, re.S)[1]


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 41, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "cat.jpg")
    return tmp_path / "cat.jpg"


def png(pixels, kind="png", mode=None, **options):
    """The bytes of a file of pixels."""
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def post(url, body):
    """(status, JSON) of the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


PIXELS = ("onnx", "litert", "openvino", "torch")


@pytest.mark.parametrize("format", where_written(PIXELS, *PIXELS))
def test_code_of_the_page(format, picture_export, photo, tmp_path, monkeypatch):
    model, report = picture_export(format)
    shutil.copytree(report.path.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (first,) = re.findall(r"```python\n(import numpy as np\n.*?)```", PAGE, re.S)
    found = {}
    exec(first + code(format), found)
    expected = model.image_probabilities([photo])
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-3)


@once  # where ONNX is written
def test_the_onnx_server(picture_export, photo):
    model, report = picture_export("onnx")
    server = subprocess.Popen(
        [sys.executable, ROOT / "docs/serve_onnx.py", report.path, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().split()[-1]}"
        status, answer = post(url, photo.read_bytes())
        assert status == 200
        (expected,) = model.predict_images([photo], top=5)
        found = [(x["label"], x["probability"]) for x in answer["predictions"]]
        assert [x for x, _ in found] == [x for x, _ in expected]
        np.testing.assert_allclose([x for _, x in found], [x for _, x in expected], atol=1e-3)

        for junk in (b"junk", b"", photo.read_bytes()[:200], png(np.zeros((1, 10000), "uint8"))):
            status, answer = post(url, junk)
            assert status == 400 and "no picture" in answer["error"]
        huge = urllib.request.Request(url, b"", {"Content-Length": str(2**40)})
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(huge, timeout=30)
        assert post(url, photo.read_bytes())[0] == 200  # and it goes on
    finally:
        server.terminate()
        server.wait(timeout=10)
        server.stdout.close()


@once
def test_the_server_reads_pictures_as_the_library_does():
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("serve_onnx", ROOT / "docs/serve_onnx.py")
    serve_onnx = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve_onnx)
    assert serve_onnx.MAX_RATIO == MAX_RATIO
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for pixels in (
        rng.integers(0, 256, (20, 30, 3), np.uint8),
        rng.integers(0, 256, (20, 30, 4), np.uint8),
        rng.integers(0, 65536, (20, 30)).astype("uint16"),
        np.zeros((1, MAX_RATIO), "uint8"),
    ):
        for options in ({}, {"exif": exif}):
            file = png(pixels, **options)
            np.testing.assert_array_equal(serve_onnx.decode(file), load_image(file))
    for refused in (png(np.zeros((2, 2 * MAX_RATIO + 1), "uint8")), png(pixels, "tiff", "F")):
        for reader in (serve_onnx.decode, load_image):
            with pytest.raises(ValueError):
                reader(refused)


@backends("tensorflow")  # which writes it
def test_the_client_for_tensorflow_serving(photo, tmp_path, in_this_process):
    import tensorflow as tf

    model = picture_model()
    keras_vit.export(model, tmp_path / "models/vit/1", inputs="jpeg")
    serve = tf.saved_model.load(tmp_path / "models/vit/1").signatures["serving_default"]
    assert set(serve.structured_input_signature[1]) == {"files"}
    assert set(serve.structured_outputs) == {"probabilities"}

    class StandIn(BaseHTTPRequestHandler):
        """By the rules of TensorFlow Serving's REST API, which it is not."""

        def do_POST(self):
            assert self.path == "/v1/models/vit:predict"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            files = [base64.b64decode(x["b64"]) for x in request["instances"]]
            found = serve(files=tf.constant(files))["probabilities"].numpy().tolist()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"predictions": found}).encode())

        def log_message(self, *arguments):
            pass

    found = {}
    exec(code("client"), found)
    with HTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1/models/vit:predict"
            answer = found["predict"]([photo, photo], url)
        finally:
            server.shutdown()
    expected = model.image_probabilities([photo, photo])
    np.testing.assert_allclose(answer, expected, atol=1e-3)
