import io

from rich.console import Console

from tests.helpers import once
from training.loop.progress import ProgressOfRun
from training.terminal import clock

pytestmark = once  # what is printed of numbers that are given

LOGS = {"loss": 0.5, "accuracy": 0.25}


def run(console):
    progress = ProgressOfRun(3, first_epoch=1, steps=2, batch_size=8, console=console)
    progress.on_train_begin()
    for epoch in (1, 2):
        progress.on_epoch_begin(epoch)
        for batch in range(2):
            progress.on_train_batch_end(batch, LOGS)
        progress.on_epoch_end(epoch, {**LOGS, "val_accuracy": 0.75})
    progress.on_train_end()
    return progress


def test_one_line_an_epoch_where_there_is_no_terminal():
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    run(console)
    lines = console.file.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 2/3", "epoch 3/3"]
    assert "loss 0.500  accuracy 25.0 %  val 75.0 %" in lines[0]
    assert "images/s" in lines[0] and lines[1].endswith("0:00 left")


def test_one_bar_for_the_whole_run_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    progress = run(console)
    assert progress.bar.tasks[0].completed == progress.bar.tasks[0].total == 6
    shown = console.file.getvalue()
    assert "epoch 3/3" in shown and "100 %" in shown and "val 75.0 %" in shown


def test_clock():
    assert [clock(seconds) for seconds in (0.4, 75, 3675)] == ["0:00", "1:15", "1:01:15"]
