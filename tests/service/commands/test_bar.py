"""A job's bar, from the events as the service tells them."""

from __future__ import annotations

from io import StringIO

from service.client import Event
from service.commands.bar import JobBar


def metrics(epoch: int) -> Event:
    data = {"epoch": epoch, "samples_per_second": 1000.0, "validation_accuracy": epoch / 10}
    return Event("metrics", data, f"{epoch}-0")


def test_epochs_that_are_told_before_any_progress_are_counted_of_the_whole_run() -> None:
    """As when a job is watched that has been running for a while."""
    stream = StringIO()
    with JobBar(4, stream) as bar:
        bar.show(Event("status", {"status": "running"}, "0-0"))
        bar.show(metrics(1))
        bar.show(metrics(2))
        bar.show(Event("progress", {"epoch": 3, "epochs": 4, "fraction": 0.5, "eta_seconds": 2.0}, "2-1"))
        bar.show(metrics(3))
    assert stream.getvalue().splitlines() == [
        "running",
        "epoch 1/4  validation 10.00%  1,000 images/s",
        "epoch 2/4  validation 20.00%  1,000 images/s",
        "epoch 3/4  validation 30.00%  1,000 images/s  0:02 left",
    ]
