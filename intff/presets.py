"""Named presets: whole specs by name, under whatever is given beside the name."""

from __future__ import annotations

from typing import Any

from intff.errors import SpecError

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast": (
        "98 % on MNIST in the least training time",
        {
            "architecture": "784,(200,200,200),(50,50)",
            "algorithm": {"kind": "intff", "negatives": {"kind": "wrong_label", "count": 1}},
            "training": {"epochs": 12},
        },
    ),
    "digits": (
        "scikit-learn's bundled 8x8 digits, for a machine without a network",
        {
            "dataset": "digits",
            "architecture": "64,(200,200,200),(50,50)",
            # Small images and few of them: a dimmer label pixel, every wrong label, many short epochs.
            "algorithm": {
                "kind": "intff",
                "negatives": {"kind": "wrong_label", "count": 9},
                "label_encoding": {"kind": "overlay", "value": 3.0},
            },
            "training": {"epochs": 200, "batch_size": 32},
        },
    ),
    "table1_intff_small": ("Table 1, row 1", {"architecture": "784,(100,50),(30,10)", "algorithm": "intff"}),
    "table1_ff_small": ("Table 1, row 2", {"architecture": "784,100,50,30,10", "algorithm": "ff"}),
    "table1_bp_small": ("Table 1, row 3", {"architecture": "784,100,50,30,10,10", "algorithm": "bp"}),
    "table1_intff_large": ("Table 1, row 4", {"architecture": "784,(200,200,200),(50,50)", "algorithm": "intff"}),
    "table1_ff_large": ("Table 1, row 5", {"architecture": "784,200,200,200,50,50", "algorithm": "ff"}),
    "table1_bp_large": ("Table 1, row 6", {"architecture": "784,200,200,200,50,50,10", "algorithm": "bp"}),
    "table2_intff": (
        "Table 2, row 1",
        {"architecture": "784,(100,100),(100,100)", "algorithm": "intff", "noise": "paper_mixture"},
    ),
    "table2_ff": (
        "Table 2, row 2",
        {"architecture": "784,100,100,100,100", "algorithm": "ff", "noise": "paper_mixture"},
    ),
    "table2_bp": (
        "Table 2, row 3",
        {"architecture": "784,100,100,100,100,10", "algorithm": "bp", "noise": "paper_mixture"},
    ),
    "table2_intff_softmax": (
        "Table 2, row 4, with a softmax layer on the units' activations",
        {"architecture": "784,(100,100),(100,100),10", "algorithm": "intff", "noise": "paper_mixture"},
    ),
}
"""Name to what it is and the part of a spec that it fills in. Sizes and noise are the paper's;
the schedule is the project's default unless the preset says otherwise."""


def expand_preset(data: dict[str, Any]) -> dict[str, Any]:
    """Replace `"preset": name` by the preset's fields, under those that are given beside it.

    Raises:
        SpecError: there is no such preset.
    """
    if "preset" not in data:
        return data
    name = data["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        msg = f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}"
        raise SpecError(msg, field="preset")
    _, fields = PRESETS[name]
    return merge(fields, {key: value for key, value in data.items() if key != "preset"})


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `under`, part by part; a part of another kind replaces the whole part."""
    merged = dict(under)
    for key, value in over.items():
        beneath = merged.get(key)
        below, above = _part(beneath), _part(value)
        if isinstance(beneath, str) and isinstance(value, str):
            merged[key] = value  # a name on a name, of a part or of a plain choice
        elif below is None or above is None or above.get("kind", below.get("kind")) != below.get("kind"):
            merged[key] = value
        else:
            merged[key] = merge(below, above)
    return merged


def _part(value: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- not validated yet
    """A part in its long form; None for what is no part: a number, a list, an architecture's notation."""
    if isinstance(value, str) and value.isidentifier():
        return {"kind": value}
    return value if isinstance(value, dict) else None
