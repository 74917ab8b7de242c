"""`intff reproduce table1` with a small row on the bundled digits in the place of the paper's; takes its options."""

from __future__ import annotations

import sys

from intff.cli import main
from intff.reproduce.plan import EXPERIMENTS, Experiment, Row

SPEC = {"dataset": "digits", "architecture": "64,(20),(10)", "training": {"epochs": 3, "device": "cpu"}}

if __name__ == "__main__":
    EXPERIMENTS["table1"] = Experiment("Small", (Row("ours", "small", SPEC, paper=0.5, seeds=2),))
    sys.argv = ["intff", "reproduce", "table1", *sys.argv[1:]]
    main()
