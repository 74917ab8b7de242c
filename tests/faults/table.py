"""The table of faults survived, which closes a run of the faults.

The process that spreads a run over others collects no test, so `tests/conftest.py` prints the table, which it loads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FAULT = "fault"
"""The property under which a test notes a fault: what it was, how often it was produced, a figure worth knowing."""


def print_faults(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults, also of a run that was spread over processes."""
    rows = []
    for result in ("passed", "failed"):
        attacks: dict[str, list[float]] = {}
        for report in terminalreporter.getreports(result):
            if report.when != "call" or "faults" not in report.keywords:
                continue
            found = [value for name, value in report.user_properties if name == FAULT]
            rows += [(fault, times, result, report.duration, figure) for fault, times, figure in found]
            if result == "failed":
                rows.append((report.nodeid.rpartition("::")[2], 0, result, report.duration, ""))
            elif not found:
                attacks.setdefault(Path(report.location[0]).stem.removeprefix("test_attacks_"), []).append(
                    report.duration
                )
        rows += [(f"attacks: {file}", len(spent), result, sum(spent), "") for file, spent in attacks.items()]
    if not rows:
        return
    terminalreporter.section("faults survived")
    width = max(len(row[0]) for row in rows)
    terminalreporter.write_line(f"{'fault':{width}}  times  result  seconds")
    for fault, times, result, seconds, figure in sorted(rows):
        terminalreporter.write_line(f"{fault:{width}}  {times:5d}  {result:6}  {seconds:7.1f}  {figure}".rstrip())
    produced = sum(times for _, times, *_ in rows)
    terminalreporter.write_line(f"{len(rows)} kinds of fault, produced {produced} times")
