"""The plan: the rows of each experiment, with the paper's results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from intff.presets import PRESETS, merge
from intff.spec import TrainSpec, read_spec

RATES = (0.001, 0.003, 0.01)
"""The learning rates that every row chooses from: the default of 0.003 and a factor of about three in both directions,
which is fine enough for Adam."""
TUNING_SEED = 1000
"""Seed of the tuning runs. No reported run uses it, so none is tuned on its own validation split."""
_TUNING_SHARE = 3  # tuning runs last a third of the epochs: tuning three rates costs as much as one more seed

DENSE_SEEDS, HEAVY_SEEDS = 5, 3


@dataclass(frozen=True)
class Row:
    """One row of a table: a spec without its seed and learning rate, and the paper's result."""

    name: str
    group: str
    """Rows of one group are compared with each other, seed by seed."""
    given: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields that override the preset with the row's name; or, if there is none, a spec with its own preset."""
    paper: float | None = None
    """The paper's test accuracy, 0 to 1."""
    seeds: int = DENSE_SEEDS
    corrupted: float | None = None
    """Corrupted share of the training set, 0 to 1, if the experiment varies it."""
    tuned_as: Row | None = None
    """The row whose learning rate this one uses; None if it is tuned itself."""

    @property
    def data(self) -> dict[str, Any]:
        """The spec in short form."""
        return merge({"preset": self.name}, dict(self.given)) if self.name in PRESETS else dict(self.given)

    @property
    def spec(self) -> TrainSpec:
        """The row's spec with the preset's seed and learning rate."""
        return read_spec(self.data)

    def run(self, seed: int, rate: float) -> TrainSpec:
        """The spec of one run; the seed also determines the data split, which is the same for every row."""
        return self._with(seed=seed, learning_rate=rate)

    def tuning(self, rate: float) -> TrainSpec:
        """The spec of a shortened run that evaluates a learning rate on validation images."""
        epochs = max(1, self.spec.training.epochs // _TUNING_SHARE)
        return self._with(seed=TUNING_SEED, learning_rate=rate, epochs=epochs)

    def _with(self, **training: float) -> TrainSpec:
        return read_spec(merge(self.data, {"training": training}))


@dataclass(frozen=True)
class Experiment:
    """Rows that are reported together."""

    title: str
    rows: tuple[Row, ...]
    note: str = ""
    """What the page of results says of these runs beside the rules for all."""


_TABLE1 = (
    Row("table1_intff_small", "small", paper=0.9404),
    Row("table1_ff_small", "small", paper=0.9464),
    Row("table1_bp_small", "small", paper=0.9607),
    Row("table1_intff_large", "large", paper=0.9800),
    Row("table1_ff_large", "large", paper=0.9448),
    Row("table1_bp_large", "large", paper=0.9727),
    Row("table1_intff_small_overlay", "small", paper=0.9404),
    Row("table1_intff_large_overlay", "large", paper=0.9800),
    Row("table1_bp_conv", "the paper's convolution", paper=0.9771, seeds=HEAVY_SEEDS),
    Row("intff_conv", "convolution", seeds=HEAVY_SEEDS),
    Row("bp_conv", "convolution", seeds=HEAVY_SEEDS),
    Row("intff_attention", "attention", seeds=HEAVY_SEEDS),
    Row("bp_attention", "attention", seeds=HEAVY_SEEDS),
)

_PLAIN_UNITS = (("small", (100, 50, 30, 10)), ("large", (200, 200, 200, 50, 50)))
_RELU = tuple(
    Row(
        f"bp_{size}_relu",
        size,
        {"preset": f"table1_bp_{size}", "architecture": {"units": [list(units)], "activation": "relu"}},
    )
    for size, units in _PLAIN_UNITS
)
"""Backpropagation with the paper's activation, so that it is not at a disadvantage from one chosen for local losses."""

_THIRD_UNIT = {"preset": "table2_intff", "architecture": "784,(100,100),(100,100),(10)"}

_TABLE2 = (
    Row("table2_intff", "noisy", paper=0.9438),
    Row("table2_ff", "noisy", paper=0.9078),
    Row("table2_bp", "noisy", paper=0.9383),
    Row(
        "bp_noisy_relu",
        "noisy",
        {"preset": "table2_bp", "architecture": {"units": [[100] * 4], "activation": "relu"}},
    ),
    # The paper's text describes a softmax layer here; its published script has a third unit of ten neurons.
    Row("table2_intff_softmax", "noisy", paper=0.9412),
    Row("table2_intff_third_unit", "noisy", _THIRD_UNIT, paper=0.9412),
    Row("table2_intff_overlay", "noisy", paper=0.9438),
)

_SHARES = (0.0, 0.5, 0.75, 0.9)


def _sweep() -> tuple[Row, ...]:
    """Table 2's networks at several shares of corrupted data, 0.75 being the paper's."""
    bases = {row.name: row for row in _TABLE2}
    return tuple(
        Row(
            f"sweep_{kind}_{round(100 * share)}",
            f"{round(100 * share)} % corrupted",
            {"preset": f"table2_{kind}", "noise": _noise(share)},
            corrupted=share,
            tuned_as=bases[f"table2_{kind}"],
        )
        for share in _SHARES
        for kind in ("intff", "ff", "bp")
    )


def _noise(share: float) -> object:
    """The paper's mixture at another share, with the same three corruptions in equal parts."""
    return {0.0: "none", 0.75: "paper_mixture"}.get(share, {"kind": "mixture", "share": share})


EXPERIMENTS = {
    "table1": Experiment("Table 1: clean MNIST", _TABLE1 + _RELU),
    "table2": Experiment("Table 2: corrupted training set, clean test set", _TABLE2),
    "figure3": Experiment(
        "Figure 3: the local loss of each hidden unit",
        tuple(row for row in _TABLE1 if row.name in ("table1_intff_small", "table1_intff_large")),
        "The runs are Table 1's.",
    ),
    "noise-sweep": Experiment(
        "Accuracy against the share of corrupted training data",
        _sweep(),
        "Each algorithm trains at every share with the learning rate that it chose for Table 2.",
    ),
}
"""Experiments by their name on the command line."""
