"""A toy as its other library opens it."""

import json

from keras_vit.checkpoints.writing import arrays_of, values_of, write_safetensors
from tests.models.toy.names import OTHER
from tests.models.toy.read import facts


def _write(model, folder):
    config = model.get_config()
    fields = {"heads": config["num_heads"], "size": list(model.input.shape[1:3])}
    (folder / "config.json").write_text(json.dumps(fields))
    arrays = arrays_of(values_of(model), OTHER, facts({**config, "patch_size": model.patch_size}))
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


WRITERS = {"timm": _write}
