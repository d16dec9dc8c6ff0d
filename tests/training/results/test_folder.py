import pytest

from tests.helpers import once
from training.results.folder import RunFolder, choose

pytestmark = once  # files and their names


@pytest.fixture
def base(tmp_path):
    return tmp_path / "runs" / "digits"


def start(path):
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text("")
    return path


def finish(path):
    (path / "result.json").write_text("{}")


def test_a_run_is_never_overwritten(base):
    assert choose(base, resume=False, new=False).path == base
    start(base)
    with pytest.raises(ValueError, match=r"is unfinished; .*--resume.*--new.*Received"):
        choose(base, resume=False, new=False)
    finish(base)
    with pytest.raises(ValueError, match=r"is finished; .*--resume.*--new.*Received"):
        choose(base, resume=False, new=False)
    assert choose(base, resume=False, new=True).path.name == "digits-2"


def test_new_takes_the_next_number_and_resume_the_last(base):
    with pytest.raises(ValueError, match="no run to resume"):
        choose(base, resume=True, new=False)
    assert choose(base, resume=False, new=True).path == base
    start(base)
    for name in ("digits-2", "digits-10", "digits-x", "digits-02"):
        start(base.with_name(name))
    assert choose(base, resume=True, new=False).path.name == "digits-10"
    assert choose(base, resume=False, new=True).path.name == "digits-11"


def test_other_files_are_left_alone(base):
    base.mkdir(parents=True)
    assert choose(base, resume=False, new=False).state == "free"
    (base / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="other files"):
        choose(base, resume=False, new=False)
    assert choose(base, resume=False, new=True).path.name == "digits-2"


def test_a_folder_that_cannot_be_written(base):
    base.parent.mkdir(parents=True)
    base.write_text("a file")
    for folder in (RunFolder(base / "below" / "a" / "file"), RunFolder(base)):
        with pytest.raises(ValueError, match="must be writable.*--run-dir.*Received"):
            folder.create()


def test_a_file_is_replaced_as_a_whole(base):
    folder = RunFolder(base)
    folder.create()
    folder.write_result({"test_accuracy": 0.5})
    folder.write_result({"test_accuracy": 0.75})
    assert folder.read_result() == {"test_accuracy": 0.75}
    assert [path.name for path in base.iterdir()] == ["result.json"]


def test_what_a_killed_run_left_before_it_began_is_no_hindrance(tmp_path):
    (tmp_path / "run").mkdir()
    for name in (".writing-probe", ".writing-recipe.toml"):
        (tmp_path / "run" / name).write_text("")
    assert choose(tmp_path / "run", resume=False, new=False).state == "free"
    (tmp_path / "run" / "mine").write_text("")
    assert RunFolder(tmp_path / "run").state == "foreign"
