"""Ends the event streams as soon as the process is told to stop: the server waits for open connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def before_shutdown(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in the running loop when SIGINT or SIGTERM arrives, then run the previous handler.

    The server signals its shutdown to an application only after the last connection has closed, and an
    event stream never closes by itself. Outside the main thread, as in tests, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, previous in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, previous)
