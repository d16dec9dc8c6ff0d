"""keras-vit list."""

import json

import keras_vit
from tests.cli.helpers import run
from tests.helpers import once

pytestmark = once  # a table of names that is printed


def test_list_shows_what_the_pattern_asks_for():
    everything = run("list").output
    assert "deit3_base_patch16_224.fb_in1k" in everything
    found = run("list", "vit_base*augreg2*")
    assert found.exit_code == 0
    assert "vit_base_patch16_224.augreg2_in21k_ft_in1k" in found.output
    assert "deit3" not in found.output


def test_list_of_a_variant_s_checkpoints():
    found = json.loads(run("list", "vittiny", "--json").stdout)
    assert len(found) == 4 and {entry["variant"] for entry in found} == {"ViTTiny"}


def test_list_of_models():
    found = run("list", "swin*", "--models")
    assert found.exit_code == 0
    assert found.output.strip() == str(keras_vit.list_models("swin*"))


def test_json_is_one_document_with_all_that_is_known():
    (entry,) = json.loads(run("list", "deit_tiny_patch16_224.fb_in1k", "--json").stdout)
    assert entry["name"] == "deit_tiny_patch16_224.fb_in1k" and entry["variant"] == "ViTTiny"
    assert entry["accuracy"] == 72.19 and entry["source"].startswith("timm/")
    rows = json.loads(run("list", "--models", "--json").stdout)
    assert len(rows) == len(keras_vit.list_models())
    (base,) = [row for row in rows if row["variant"] == "ViTBase"]
    assert base["parameters"] == 86_567_656 and base["gmacs"] == 17.56 and base["pixels"] == 224
    (giant,) = [row for row in rows if row["variant"] == "ViTGiant"]
    assert giant["accuracy"] is None and giant["checkpoint"] is None


def test_nothing_found_is_a_wrong_call():
    for kind, arguments in [("checkpoint", ()), ("model", ("--models",))]:
        nothing = run("list", "alexnet", *arguments)
        assert nothing.exit_code == 2 and nothing.stdout == ""
        assert nothing.stderr.startswith(f"error: No {kind} is named like")
        assert nothing.stderr.endswith("Received: 'alexnet'\n")
