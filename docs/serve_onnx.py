"""HTTP server for an ONNX file that takes pixels. It returns the five most probable classes.

    pip install onnxruntime numpy pillow
    python serve_onnx.py vit.onnx --port 8000
    curl --data-binary @cat.jpg http://localhost:8000

vit.onnx is written by keras_vit.export(model, "vit.onnx", "onnx", inputs="pixels"), with the class
names in vit.labels.json beside it.
"""

import argparse
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MAX_BYTES = 20 * 2**20  # of the body of a request
MAX_PIXELS = 50_000_000  # of a picture; a small file may contain a huge one
MAX_RATIO = 200  # of the longer to the shorter side, as in keras_vit


def decode(body):
    """Decodes a picture file to uint8 pixels (H, W, 3), turned by its EXIF orientation."""
    image = Image.open(io.BytesIO(body))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"at most {MAX_PIXELS} pixels")
    if max(image.size) > MAX_RATIO * min(image.size):
        raise ValueError(f"one side at most {MAX_RATIO} times the other")
    if image.mode == "F" or image.mode == "I" and image.format != "PPM":
        raise ValueError("8 or 16 bits, not 32")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which PIL would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    return np.asarray(image.convert("RGB"))


class Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds without data from the client

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self.answer(411, {"error": "Content-Length is missing"})
        if int(length) > MAX_BYTES:
            return self.answer(413, {"error": f"at most {MAX_BYTES} bytes"})
        try:
            pixels = decode(self.rfile.read(int(length)))
        except Exception as error:  # Pillow raises what its decoders raise
            return self.answer(400, {"error": f"no picture: {error}"})
        ((probabilities,),) = self.session.run(["probabilities"], {"images": pixels[None]})
        best = np.argsort(-probabilities)[:5]
        found = [
            {"label": self.labels[i] if self.labels else int(i), "probability": float(p)}
            for i, p in zip(best, probabilities[best], strict=True)
        ]
        self.answer(200, {"predictions": found})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all network interfaces")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free port")
    arguments = parser.parse_args()
    labels = arguments.model.with_suffix(".labels.json")
    Handler.labels = json.loads(labels.read_text(encoding="utf-8")) if labels.exists() else None
    Handler.session = onnxruntime.InferenceSession(
        arguments.model, providers=["CPUExecutionProvider"]
    )
    with ThreadingHTTPServer((arguments.host, arguments.port), Handler) as server:
        print(f"listening on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
