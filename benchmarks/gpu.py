"""Training on a GPU: single runs, stacked runs, the time to 98 %, and a comparison with the limits of the device.

    python benchmarks/gpu.py [--rounds 3] [--device cpu]

Uses MNIST from INTFF_DATA_DIR, or downloads it. With `--device cpu` it only compares single runs with stacked runs of
a small network on the bundled digits, or with `--mnist` of the default network on 5,000 images of MNIST.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch

from intff import Trainer, TrainSpec, read_spec, train
from intff.presets import merge
from intff.progress import EpochEnd, Event
from intff.stacked import StackedTrainer, train_together

RUNS = (1, 4, 16)
BATCH = 256
WIDTHS = (784, 200, 200, 200, 50, 50)
_BYTES_OF_A_WEIGHT = 4 * 8  # the gradient is written and read; the weight and Adam's two moments are read and written


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--mnist", action="store_true", help="with --device cpu: 5,000 images of MNIST, not the digits")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is available: nothing is measured (--device cpu compares single and stacked runs)")
        return
    if arguments.device == "cpu":
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {arguments.rounds} rounds\n")
        fields = {"dataset": {"kind": "mnist", "train_size": 5000}} if arguments.mnist else _DIGITS
        _many_runs({**fields, "training": {"epochs": 3, "device": "cpu"}}, arguments.rounds, settled=1)
        return
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, medians of {arguments.rounds} rounds\n")
    seconds = _many_runs({"training": {"epochs": 10, "device": "cuda"}}, arguments.rounds, settled=5)
    _floor(seconds)
    _time_to_98(arguments.rounds)


_DIGITS: dict[str, Any] = {"dataset": "digits", "architecture": "64,(50,50),(20)"}


def _many_runs(fields: dict[str, Any], rounds: int, settled: int) -> dict[str, float]:
    """Compare epoch times; the first `settled` epochs of each run, in which steps are recorded, are excluded."""
    rule = read_spec(fields).training.learning_rate
    cases: dict[str, Callable[[], list[float]]] = {
        "IntFF alone": lambda: _alone(_spec(fields)),
        "BP alone": lambda: _alone(_spec(fields, algorithm="bp")),
    }
    for runs in RUNS:
        seeds = [_spec(fields, training={"seed": seed}) for seed in range(runs)]
        rates = [_spec(fields, training={"learning_rate": rule * (1 + number / runs)}) for number in range(runs)]
        cases[f"IntFF, {runs} seeds as one"] = lambda specs=seeds: _together(specs)  # type: ignore[misc]
        cases[f"IntFF, {runs} rates as one"] = lambda specs=rates: _together(specs)  # type: ignore[misc]
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(statistics.median(case()[settled:]))
    print("one epoch                           time  / a single run   / a stack of one")
    alone, as_one = found["IntFF alone"], found["IntFF, 1 seeds as one"]
    for name, taken in found.items():
        ratios = [statistics.median(a / b for a, b in zip(taken, base, strict=True)) for base in (alone, as_one)]
        print(
            f"  {name:26} {statistics.median(taken) * 1000:9.1f} ms"
            f"          x {ratios[0]:5.2f}          x {ratios[1]:5.2f}"
        )
    print()
    return {name: statistics.median(taken) for name, taken in found.items()}


def _floor(seconds: dict[str, float]) -> None:
    """The lower bound on the time of an epoch of 55,000 images, from compute and memory bandwidth."""
    operations, traffic = _products_a_second(), _bytes_a_second()
    products = [below * above for below, above in pairwise(WIDTHS)]
    no_gradient_below = products[0] + products[3]  # the first layers of both units
    weights = sum(products) + sum(WIDTHS[1:])
    images = 55_000
    print(f"lower bound: {operations / 1e12:.1f} T multiply-adds/s in float32 products, {traffic / 1e9:.0f} GB/s")
    for runs in RUNS:
        by_operations = runs * images * (3 * sum(products) - no_gradient_below) / operations
        activations = 4 * BATCH * 6 * sum(WIDTHS)  # pre-activations and activations, read and written, both passes
        by_bytes = runs * images / BATCH * (weights * _BYTES_OF_A_WEIGHT + activations) / traffic
        floor, taken = max(by_operations, by_bytes), seconds[f"IntFF, {runs} seeds as one"]
        print(
            f"  {runs:2} runs: operations {by_operations * 1000:.2f} ms, bytes {by_bytes * 1000:.2f} ms; "
            f"the lower bound is {floor / taken:.1%} of the measured {taken * 1000:.1f} ms"
        )
    print()


def _time_to_98(rounds: int) -> None:
    print("preset fast, seconds of training (the target is 98.00 %)")
    ways: dict[str, Callable[[TrainSpec], Any]] = {"alone": train, "as one": lambda spec: train_together([spec])[0]}
    for name, way in ways.items():
        for seed in range(rounds):
            result = way(read_spec({"preset": "fast", "training": {"seed": seed, "device": "cuda"}})).result
            print(f"  {name:7} seed {seed}: {result.train_seconds:.2f} s, {result.test_accuracy:.2%}")
    print()


def _spec(fields: dict[str, Any], **changes: object) -> TrainSpec:
    return read_spec(merge(fields, dict(changes)))


def _alone(spec: TrainSpec) -> list[float]:
    return _seconds(list(Trainer(spec).run()))


def _together(specs: Sequence[TrainSpec]) -> list[float]:
    return _seconds([event for number, event in StackedTrainer(specs).run() if number == 0])


def _seconds(events: Sequence[Event]) -> list[float]:
    return [event.metrics.seconds for event in events if isinstance(event, EpochEnd)]


def _products_a_second(size: int = 8192, times: int = 10) -> float:
    """Multiply-adds per second of a large float32 matrix product, in the precision used in training."""
    square = torch.rand((size, size), device="cuda")
    taken = _timed(lambda: square @ square, times)
    return float(size**3 / taken)


def _bytes_a_second(size: int = 2**30, times: int = 10) -> float:
    """Bytes read and written per second by a copy within the device."""
    source = torch.empty(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / _timed(lambda: target.copy_(source), times)


def _timed(work: Callable[[], object], times: int) -> float:
    work()
    torch.cuda.synchronize()
    began = perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (perf_counter() - began) / times


if __name__ == "__main__":
    main()
