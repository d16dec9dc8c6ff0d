"""keras-vit show."""

from tests.cli.helpers import run


def test_show_has_all_that_the_catalogue_knows():
    found = run("show", "deit_tiny_patch16_224.fb_in1k")
    assert found.exit_code == 0
    for line in ("licence        apache-2.0", "accuracy       72.19", "crop_fraction  0.9"):
        assert line in found.output
    unknown = run("show", "deit_tiny_patch16")
    assert unknown.exit_code == 2
    assert "Near: deit_tiny_patch16_224.fb_in1k" in unknown.stderr
