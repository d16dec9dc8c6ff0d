import keras
import numpy as np
import pytest

from tests.helpers import once
from tests.training.helpers import AskedToStop, check_resumed, rows, weights, write_small
from training.loop import fit, run
from training.loop.callbacks import StopOnNaN
from training.loop.checkpoint import Checkpoint
from training.loop.checkpoint_file import describe, position
from training.loop.stopping import Diverged, Stopped


class StoppedBeforeCheckpoint(Checkpoint):
    """Ctrl-C after the third epoch was trained and logged, before it was saved."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        super().on_epoch_end(epoch, logs)


AVERAGE = ["optimizer.ema=0.9", "optimizer.layer_decay=0.8", "optimizer.accumulate=2"]
PLANS = [pytest.param([], id="plain"), pytest.param(AVERAGE, id="average", marks=once)]


@pytest.fixture(scope="module", params=PLANS)
def whole(request, tmp_path_factory):
    """A run that was not stopped, and what it has set."""
    path = tmp_path_factory.mktemp("whole")
    job = run.prepare(str(write_small(path)), request.param, path / "run")
    untrained = weights(job)
    run.fit(job)
    for start, one in zip(untrained, weights(job), strict=True):
        assert start.dtype != np.float32 or np.abs(start - one).max() > 0  # it did train
    return job, request.param


def test_a_stopped_run_ends_like_one_that_was_not(small, whole, monkeypatch):
    job, overrides = whole
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Checkpoint", StoppedBeforeCheckpoint)
        with pytest.raises(KeyboardInterrupt):
            run.fit(run.prepare(small, overrides, "stopped"))
    check_resumed(job, "stopped", {"epochs": 2, "step": 0})


def test_a_run_goes_on_within_an_epoch(small, whole, monkeypatch):
    job, overrides = whole
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Checkpoint", AskedToStop)
        with pytest.raises(Stopped):
            run.fit(run.prepare(small, overrides, "stopped"))
    assert describe("stopped/model.keras").endswith("keeps 1 epoch and 3 steps of epoch 2")
    check_resumed(job, "stopped", {"epochs": 1, "step": 3})


def test_the_file_holds_the_average_and_what_training_goes_on_with(small):
    job = run.prepare(small, ["optimizer.ema=0.9", "train.epochs=2"], "run")
    run.fit(job)
    averages = weights(job)  # fit leaves them in the model
    loaded = keras.models.load_model(job.folder.checkpoint)
    again = run.prepare(small, ["train.epochs=3"], "run", resume=True)
    apart = 0.0
    for own, average, file in zip(weights(again), averages, loaded.weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(file), average, atol=1e-6)
        apart = max(apart, np.abs(own - average).max()) if own.dtype == np.float32 else apart
    assert apart > 1e-4


def test_the_best_epoch_is_kept_across_a_resume(small):
    job = run.prepare(small, run_dir="run")
    checkpoint = Checkpoint(job.folder.checkpoint, job.folder.best)
    checkpoint.set_model(job.model)
    job.folder.create()
    job.model.optimizer.build(job.model.trainable_variables)
    kept = []
    for epoch, accuracy in enumerate([0.3, 0.5, 0.4, 0.45, 0.6]):
        if epoch == 3:
            checkpoint = Checkpoint(job.folder.checkpoint, job.folder.best)
            checkpoint.set_model(job.model)
        checkpoint.on_epoch_end(epoch, {"val_accuracy": accuracy})
        kept.append(position(job.folder.best))
    assert [x["epochs"] for x in kept] == [1, 2, 2, 2, 5]
    assert position(job.folder.checkpoint) == {"epochs": 5, "step": 0, "best": 0.6}
    keras.models.load_model(job.folder.best)


def test_loss_scaling_survives(small):
    job = run.prepare(small, ["train.precision=mixed_float16", "train.epochs=1"], "run")
    run.fit(job)
    again = run.prepare(small, run_dir="run", resume=True)
    assert again.done["epochs"] == 1
    assert again.model.optimizer.dynamic_scale is not None
    saved, restored = job.model.optimizer.variables, again.model.optimizer.variables
    assert len(saved) > 2 * len(job.model.trainable_variables)
    for one, other in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), err_msg=one.path
        )


@once  # files and recipes are the same on every backend
def test_a_checkpoint_is_written_whole_or_not_at_all(small, monkeypatch):
    job = run.prepare(small, ["train.epochs=1", "optimizer.warmup_steps=0"], "run")
    run.fit(job)
    before = job.folder.checkpoint.read_bytes()

    def full_disk(path):
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(job.model, "save", full_disk)
    callback = Checkpoint(job.folder.checkpoint, job.folder.best)
    callback.set_model(job.model)
    with pytest.raises(OSError, match="No space"):
        callback.on_epoch_end(1)
    assert job.folder.checkpoint.read_bytes() == before
    assert not list(job.folder.path.glob(".writing-*"))
    keras.models.load_model(job.folder.checkpoint)


def test_a_loss_that_is_no_number_stops_the_run(small):
    job = run.prepare(small, ["optimizer.clip_norm=0", "train.epochs=2"], "run")
    kernel = job.model.get_layer("head").trainable_variables[0]
    kernel.assign(kernel * np.nan)
    with pytest.raises(Diverged, match=r"loss=nan in epoch 1, step 1, at a learning rate of"):
        run.fit(job)
    assert not job.folder.checkpoint.exists()


def test_weights_that_are_no_numbers_are_not_kept(small):
    """The update of an epoch's last step may spoil them without a loss that tells."""
    job = run.prepare(small, ["train.epochs=1", "optimizer.warmup_steps=0"], "run")
    run.fit(job)
    before = job.folder.checkpoint.read_bytes()
    kernel = job.model.get_layer("head").trainable_variables[0]
    kernel.assign(kernel * np.nan)
    callback = Checkpoint(job.folder.checkpoint, job.folder.best)
    callback.set_model(job.model)
    with pytest.raises(Diverged, match="keeps 1 epoch. .*head/dense/kernel in epoch"):
        callback.on_epoch_end(1, {"val_accuracy": 0.9})
    assert job.folder.checkpoint.read_bytes() == before


@once  # files and recipes are the same on every backend
def test_only_the_epochs_may_change(small):
    job = run.prepare(small, ["train.epochs=1", "optimizer.warmup_steps=0"], "run")
    run.fit(job)
    job.folder.write_result({"test_accuracy": 0.5})
    with pytest.raises(ValueError, match=r"only train\.epochs, .* may change.*train\.seed=3"):
        run.prepare(small, ["train.epochs=3", "train.seed=3"], "run", resume=True)
    same = ["train.epochs=1", "train.seed=0", "optimizer.warmup_steps=0"]
    assert run.prepare(small, same, "run", resume=True).finished  # the same command again
    longer = run.prepare(small, ["train.epochs=3"], "run", resume=True)
    assert not longer.finished and longer.done["epochs"] == 1 and longer.recipe.train.epochs == 3
    assert run.prepare(small, run_dir="run", resume=True).recipe.train.epochs == 3
    with pytest.raises(ValueError, match=r"must exceed the 1 epochs"):
        run.prepare(small, ["train.epochs=1"], "run", resume=True)


@once  # files and recipes are the same on every backend
def test_the_last_epochs_keep_files_of_their_own(small):
    job = run.prepare(small, ["train.keep_epochs=2", "train.epochs=3"], "run")
    run.fit(job)
    files = sorted(job.folder.path.glob("epoch-*.keras"))
    assert [position(file)["epochs"] for file in files] == [2, 3]
    assert [file.name for file in files] == ["epoch-0002.keras", "epoch-0003.keras"]


class SpoilOneStep(StopOnNaN):
    """An input that is no number, by way of the head's bias, in the third step of an epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        bias = self.model.get_layer("head").trainable_variables[1]
        if keras.backend.backend() == "jax" and 2 <= batch <= 3:
            self.model.jax_state_sync()
        if batch == 2:
            self.good = [keras.ops.convert_to_numpy(x).copy() for x in self.model.weights]
            bias.assign(bias * np.nan)
        if batch == 3:
            after = [keras.ops.convert_to_numpy(x) for x in self.model.weights]
            changed = [
                weight.path
                for weight, one, other in zip(self.model.weights, self.good, after, strict=True)
                if not np.array_equal(one, other) and "seed_generator" not in weight.path
            ]
            assert changed == [bias.path]
            bias.assign(self.good[[x.path for x in self.model.weights].index(bias.path)])


def test_a_step_that_is_no_number_is_left_out(small, monkeypatch, capsys):
    monkeypatch.setattr(fit, "StopOnNaN", SpoilOneStep)
    job = run.prepare(small, ["train.skip_nan=1", "train.epochs=1"], "run")
    run.fit(job)
    assert "skipped a step, 1 of at most 1: loss=nan in epoch 1, step 3" in capsys.readouterr().out
    assert np.isfinite([float(value) for value in rows(job)[0].values()]).all()
    with pytest.raises(Diverged, match="in epoch 2, step 3.*after 1 skipped steps"):
        run.fit(run.prepare(small, ["train.epochs=2"], "run", resume=True))
    job = run.prepare(small, ["train.skip_nan=1", "train.epochs=2"], "again")
    with pytest.raises(Diverged, match="in epoch 2, step 3.*after 1 skipped steps"):
        run.fit(job)
