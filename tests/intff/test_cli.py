"""The command as people run it: a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

INTFF = str(Path(sys.executable).parent / "intff")
SMALL = ["train", "--dataset", "digits", "--architecture", "64,(12,8),(6)", "--device", "cpu", "--batch-size", "64"]


def _intff(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [INTFF, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def test_help_names_every_command_and_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['intff', '--help']\n"
        "from intff.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("train", "predict", "evaluate", "serve", "jobs", "models"):
        assert f"\n  {command} " in done.stdout
    assert done.stderr == "False\n"


def test_help_is_there_at_once() -> None:
    """Well under the seconds that loading torch takes; the best of three, since machines are busy."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert _intff("--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 2


@pytest.mark.parametrize("command", ["train", "predict", "evaluate"])
def test_each_command_explains_itself(command: str) -> None:
    done = _intff(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: intff {command}")


def test_a_command_that_is_not_there_is_2() -> None:
    done = _intff("dance")
    assert done.returncode == 2
    assert "No such command 'dance'" in done.stderr


def test_train_reports_json_alone_on_standard_output_and_publishes_the_model(tmp_path: Path) -> None:
    done = _intff(*SMALL, "--epochs", 2, "--json", "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "epoch", "epoch", "finished"]
    finished = events[-1]
    assert finished["model"] == str(tmp_path / "model")
    assert finished["epochs"] == 2
    assert 0 < finished["test_accuracy"] <= 1
    assert finished["train_seconds"] > 0
    assert "epoch 2/2  validation" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "manifest.json",
        "model.onnx",
        "spec.json",
        "weights.safetensors",
    ]
    again = _intff("evaluate", "--model", tmp_path / "model", "--json")
    assert json.loads(again.stdout)["test_accuracy"] == finished["test_accuracy"]


def test_train_from_a_spec_on_standard_input_tells_people_the_accuracy() -> None:
    spec = {"dataset": "digits", "architecture": "64,(8)", "training": {"epochs": 5}}
    done = _intff("train", "--spec", "-", "--epochs", 1, input=json.dumps(spec))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("test accuracy ")
    assert "epoch 1/1" in done.stderr


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    done = _intff("predict", "--model", tmp_path / "nowhere", tmp_path / "x.png")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_control_c_stops_a_run_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    command = [INTFF, *SMALL, "--epochs", "100000", "--json", "--out", str(tmp_path / "model")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while json.loads(running.stdout.readline())["event"] != "epoch":
            pass
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_without_torch_a_command_says_what_to_install(tmp_path: Path) -> None:
    """As in the API's image: the package is hidden from a fresh interpreter."""
    hidden = tmp_path / "hidden.py"
    hidden.write_text(
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "sys.argv = ['intff', 'train', '--dataset', 'digits', '--architecture', '64,(8)']\n"
        "from intff.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, hidden], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: this command needs the package torch; install it with: pip install 'intff[train]'"
    )
    assert "Traceback" not in done.stderr
