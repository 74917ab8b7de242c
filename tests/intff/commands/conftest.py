"""Running the command as a shell does, but in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from intff.cli import main


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def intff(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `intff` with arguments; no command may ever show a traceback."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["intff", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert isinstance(exited.value.code, int)
        return Done(exited.value.code, out, err)

    return run
