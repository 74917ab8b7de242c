"""Draws a job's events on the same progress bar as `intff train`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TextIO

from intff.commands.progress_bar import TrainingBar
from service.client import Event


class JobBar:
    """One job's progress; use it as a context manager around the events.

    Args:
        epochs: of the whole run; the first metrics events arrive before the first progress event.
        stream: where to draw; standard error unless told otherwise.
    """

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        self._bar = TrainingBar(stream)
        self._epochs = epochs
        self._speed: float | None = None
        self._said = ""

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def show(self, event: Event) -> None:
        """Display one event."""
        match event.kind:
            case "status":
                self._say(str(event.data["status"]))
            case "progress":
                self._show_progress(event.data)
            case "metrics":
                self._show_metrics(event.data)

    def _show_progress(self, data: dict[str, Any]) -> None:
        if data.get("waiting"):
            self._say(str(data["waiting"]))
        self._bar.update(
            epoch=data.get("epoch") or 1,
            epochs=self._epochs,
            fraction=data.get("fraction") or 0.0,
            samples_per_second=self._speed,
            eta_seconds=data.get("eta_seconds"),
        )

    def _show_metrics(self, data: dict[str, Any]) -> None:
        epoch = int(data["epoch"])
        self._speed = data["samples_per_second"]  # known for whole epochs only; progress events do not include it
        self._bar.update(
            epoch=epoch,
            epochs=self._epochs,
            fraction=epoch / self._epochs,
            samples_per_second=self._speed,
            validation_accuracy=data["validation_accuracy"],
        )

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._bar.say(sentence)
        self._said = sentence
