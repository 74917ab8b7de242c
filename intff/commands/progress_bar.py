"""The progress bar of a training run: epoch, validation accuracy, speed and time remaining."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

_LINE = 0.05  # fraction of the run between two plain lines


class TrainingBar:
    """A live bar on a terminal; elsewhere occasional plain lines, at most twenty per run.

    Args:
        stream: where to draw; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._accuracy, self._speed, self._left = "-", "", ""
        self._printed = 0.0
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("validation {task.fields[accuracy]}"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=1.0, epoch="-", accuracy="-", speed="", left="", visible=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:  # stopping a bar that was never started would print an empty line
            self._progress.stop()

    def say(self, sentence: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(sentence), soft_wrap=True)

    def update(
        self,
        *,
        epoch: int,
        epochs: int,
        fraction: float,
        samples_per_second: float | None = None,
        eta_seconds: float | None = None,
        validation_accuracy: float | None = None,
    ) -> None:
        """Show the progress of the run.

        Args:
            epoch: the current or just finished epoch, from 1.
            epochs: number of epochs of the run.
            fraction: completed fraction of the run, 0 to 1.
            samples_per_second: training images per second.
            eta_seconds: estimated seconds remaining.
            validation_accuracy: 0 to 1, if an epoch has just finished.
        """
        # Fields that an event lacks keep their previous values, or the line would flicker.
        if validation_accuracy is not None:
            self._accuracy = f"{validation_accuracy:.2%}"
        if samples_per_second is not None:
            self._speed = f"{samples_per_second:,.0f} images/s"
        if eta_seconds is not None:
            self._left = f"{_duration(eta_seconds)} left"
        accuracy, speed, left = self._accuracy, self._speed, self._left
        if self._console.is_terminal:
            self._progress.update(
                self._task,
                completed=fraction,
                epoch=f"{epoch}/{epochs}",
                accuracy=accuracy,
                speed=speed,
                left=left,
                visible=True,
            )
        elif validation_accuracy is not None and (fraction >= self._printed + _LINE or self._printed < fraction == 1):
            self._printed = fraction
            self.say("  ".join(filter(None, [f"epoch {epoch}/{epochs}", f"validation {accuracy}", speed, left])))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
