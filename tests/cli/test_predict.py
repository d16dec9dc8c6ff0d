"""keras-vit predict."""

from tests.cli.helpers import run


def test_predict_prints_the_top_five(folder, photo):
    found = run("predict", photo, "--model", folder)
    assert found.exit_code == 0
    first, *lines = found.output.splitlines()
    assert first == str(photo) and len(lines) == 5
    shares = [float(line.split()[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert len(run("predict", photo, "--model", folder, "--top", 2).output.splitlines()) == 3


def test_predict_goes_on_past_a_broken_picture_and_names_it(folder, photo, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:100])
    found = run("predict", broken, photo, "--model", folder)
    assert found.exit_code == 1
    assert "error:" in found.stderr and "broken.jpg" in found.stderr
    assert str(photo) in found.stdout


def test_predict_says_what_is_wrong_with_the_model(photo, tmp_path):
    for model, message in [
        ("vit_base_patch16_224.augreg_in22k", "such as vit_base_patch16_224"),
        (photo, "is no checkpoint that can be read"),
    ]:
        found = run("predict", photo, "--model", model)
        assert found.exit_code == 2
        assert found.stderr.startswith("error: ") and message in found.stderr
