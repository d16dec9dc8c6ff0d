"""`from_pretrained` of a `.keras` file with a SETR: checked before it is built."""

import json
import zipfile

import numpy as np
import pytest

import keras_vit
from keras_vit.models import registry
from tests.helpers import images, once, randomize, run, tiny
from tests.tasks.setr.helpers import tiny_setr

pytestmark = once


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_any_encoder(family, tmp_path):
    model = tiny_setr("mla", tiny(family), class_names=list("abcde"), short_side=33)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras_vit.from_pretrained(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert len(loaded.load_report.used) > 20
    pixels = images(tuple(model.input.shape[1:3]))
    np.testing.assert_array_equal(run(loaded, pixels), run(model, pixels))
    changed = keras_vit.from_pretrained(tmp_path / "model.keras", short_side=44)
    assert changed.get_config()["short_side"] == 44
    with pytest.raises(ValueError, match="are its own.*Received: num_classes"):
        keras_vit.from_pretrained(tmp_path / "model.keras", num_classes=3)


def changed(path, change):
    """The file with another configuration."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"])
    members["config.json"] = json.dumps(config)
    out = path.with_name("changed.keras")
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["encoder"].update(registered_name="os>system"), "one of these as its encoder"),
        (lambda c: c.update(encoder=None), "one of these as its encoder"),
        (lambda c: c["encoder"]["config"].update(depth=10**9), "depth|more weights"),
        (lambda c: c["encoder"]["config"].update(evil=1), "does not know"),
        (lambda c: c.update(evil=1), "does not know"),
        (lambda c: c.update(decoder_width="wide"), "decoder_width must be"),
        (lambda c: c.update(decoder_width=2**19), "more weights than its checkpoint"),
        (lambda c: c.update(layers=[99]), "rising indices"),
        (lambda c: c.update(dtype={"class_name": "Lambda", "config": {}}), "dtype policy"),
        (lambda c: c.update(num_classes=6, class_names=None), "."),
    ],
)
def test_a_file_that_lies_is_refused(change, message, tmp_path):
    model = tiny_setr("pup")
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(changed(tmp_path / "model.keras", change))
