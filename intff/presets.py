"""Named presets: predefined specs whose fields can be overridden."""

from __future__ import annotations

from typing import Any

from intff.errors import SpecError, shown

_LABEL_IN_THE_IMAGE: dict[str, Any] = {
    "kind": "intff",
    "label_encoding": {"kind": "overlay", "value": 5.0},
    "negatives": {"kind": "wrong_label", "count": 3},
    "loss": "softplus_logsumexp",
    "normalization": "rms",
}
"""The paper's label overlay for positive and negative data, with the settings that performed best for it."""

_NOISY = {"noise": "paper_mixture"}
# An epoch of a convolutional network takes half a minute to a minute on one core, and a few epochs suffice.
_CONVOLVED = {"epochs": 6, "batch_size": 128}
_ATTENTIVE = {"epochs": 4, "batch_size": 128}
_PLAINLY_CONVOLVED = {"epochs": 3, "batch_size": 128}
_CONVOLUTION = "784,(32C5/2,32C3,P2,64C3),(64C3,80C3,P2)"
_ATTENTION = "784,(32C5/2,32C3,P2),(64C3,A4,80C1),(A4,80C1)"

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast": (
        "98 % on MNIST in the least training time",
        {"architecture": "784,(200,200,200),(50,50)", "algorithm": "intff", "training": {"epochs": 4}},
    ),
    "digits": (
        "scikit-learn's bundled 8x8 digits, for a machine without internet",
        {
            "dataset": "digits",
            # Convolutions, because the writers of the test set differ from those of the training set: on 360 training
            # images held out by writer, convolutions reach 99 %, dense layers 98 %.
            "architecture": "64,(32C3,32C3,P2),(64C3,64C3)",
            "algorithm": "intff",
            "training": {"epochs": 40, "batch_size": 32},
        },
    ),
    "author": (
        "the author's experiments, hours on a CPU; at their learning rate of 0.03 nothing is learned, at 0.01 it is",
        {
            "architecture": {"units": "784,(200,200,200),(50,50)", "activation": "relu"},
            "algorithm": {
                "kind": "intff",
                "label_encoding": {"kind": "overlay", "value": 1.0},
                "negatives": {"kind": "random_label", "count": 1},
                "loss": "softplus",
                "goodness": "mean_square",
                "normalization": "l2",
            },
            "training": {
                "epochs": 100,
                "batch_size": 60_000,
                "learning_rate": 0.03,
                "schedule": "constant",
                "jitter": 0,
                "unit_order": "one_by_one",
                "steps_per_unit": 50,
            },
        },
    ),
    "table1_intff_small": ("Table 1, row 1", {"architecture": "784,(100,50),(30,10)", "algorithm": "intff"}),
    "table1_ff_small": ("Table 1, row 2", {"architecture": "784,100,50,30,10", "algorithm": "ff"}),
    "table1_bp_small": ("Table 1, row 3", {"architecture": "784,100,50,30,10,10", "algorithm": "bp"}),
    "table1_intff_large": ("Table 1, row 4", {"architecture": "784,(200,200,200),(50,50)", "algorithm": "intff"}),
    "table1_ff_large": ("Table 1, row 5", {"architecture": "784,200,200,200,50,50", "algorithm": "ff"}),
    "table1_bp_large": ("Table 1, row 6", {"architecture": "784,200,200,200,50,50,10", "algorithm": "bp"}),
    "table1_bp_conv": (
        "Table 1, row 7",
        # Without batch normalisation and padding, as in the author's framework.
        {"architecture": "784,32C(3,3)vp,64C(3,3)vp,128,48,10", "algorithm": "bp", "training": _PLAINLY_CONVOLVED},
    ),
    "table1_intff_small_overlay": (
        "Table 1, row 1, with the label in the image as in the paper",
        {
            "architecture": {"units": "784,(100,50),(30,10)", "activation": "relu"},
            "algorithm": _LABEL_IN_THE_IMAGE,
        },
    ),
    "table1_intff_large_overlay": (
        "Table 1, row 4, with the label in the image as in the paper",
        {
            "architecture": {"units": "784,(200,200,200),(50,50)", "activation": "relu"},
            "algorithm": _LABEL_IN_THE_IMAGE,
        },
    ),
    "table2_intff": (
        "Table 2, row 1",
        {"architecture": "784,(100,100),(100,100)", "algorithm": "intff", **_NOISY},
    ),
    "table2_ff": ("Table 2, row 2", {"architecture": "784,100,100,100,100", "algorithm": "ff", **_NOISY}),
    "table2_bp": ("Table 2, row 3", {"architecture": "784,100,100,100,100,10", "algorithm": "bp", **_NOISY}),
    "table2_intff_softmax": (
        "Table 2, row 4, with a softmax layer on the units' activations",
        {"architecture": "784,(100,100),(100,100),10", "algorithm": "intff", **_NOISY},
    ),
    "table2_intff_overlay": (
        "Table 2, row 1, with the label in the image as in the paper",
        {
            "architecture": {"units": "784,(100,100),(100,100)", "activation": "relu"},
            "algorithm": _LABEL_IN_THE_IMAGE,
            **_NOISY,
        },
    ),
    "intff_conv": (
        "IntFF with convolutions in two hidden units",
        # The learning rate was chosen by validation accuracy (docs/results.md).
        {"architecture": _CONVOLUTION, "algorithm": "intff", "training": {**_CONVOLVED, "learning_rate": 0.01}},
    ),
    "bp_conv": (
        "backpropagation through the same convolutions",
        {"architecture": f"{_CONVOLUTION},10", "algorithm": "bp", "training": _CONVOLVED},
    ),
    "intff_attention": (
        "IntFF with attention in two of three hidden units",
        {"architecture": _ATTENTION, "algorithm": "intff", "training": _ATTENTIVE},
    ),
    "bp_attention": (
        "backpropagation through the same attention",
        {"architecture": f"{_ATTENTION},10", "algorithm": "bp", "training": _ATTENTIVE},
    ),
}
"""Maps each name to a description and the fields of the spec that it sets. Sizes and noise are the paper's;
the schedule is the project's default unless the preset sets it."""


def expand_preset(data: dict[str, Any]) -> dict[str, Any]:
    """Replace `"preset": name` with the preset's fields, which the other given fields override.

    Raises:
        SpecError: there is no such preset.
    """
    name = data.get("preset")
    given = {key: value for key, value in data.items() if key != "preset"}
    if name is None:
        return given
    if not isinstance(name, str) or name not in PRESETS:
        msg = f"there is no preset {shown(name)}; choose one of {', '.join(PRESETS)}"
        raise SpecError(msg, field="preset")
    _, fields = PRESETS[name]
    return merge(fields, given)


_DEFAULT_KINDS = {
    "dataset": "mnist",
    "noise": "none",
    "architecture": "layers",
    "algorithm": "intff",
    "negatives": "wrong_label",
    "label_encoding": "overlay",
}
"""What a part is that names no kind; the spec's own types say the same, and need these presets first."""


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge `over` into `under` recursively.

    A part of another kind replaces the whole part; only `intff` and `ff`, which have the same fields, keep them.
    """
    merged = dict(under)
    for key, value in over.items():
        beneath = merged.get(key)
        below, above = _part(key, beneath), _part(key, value)
        if isinstance(beneath, str) and isinstance(value, str):
            merged[key] = value  # one name replaces another, whether of a part or of an option
        elif below is None or above is None or not _have_same_fields(key, below, above):
            merged[key] = value
        else:
            merged[key] = merge(below, above)
    return merged


def _have_same_fields(key: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
    if "kind" not in above:
        return True
    kinds = below.get("kind", _DEFAULT_KINDS.get(key)), above["kind"]  # whatever was written, not only names
    return kinds[0] == kinds[1] or (key == "algorithm" and kinds in (("intff", "ff"), ("ff", "intff")))


def _part(key: str, value: object) -> dict[str, Any] | None:
    """A part in its long form; None if the value is not a part but, for example, a number or a list."""
    if isinstance(value, str) and value.isidentifier():
        return {"kind": value}
    if isinstance(value, str) and key == "architecture":
        return {"kind": "layers", "units": value}
    return value if isinstance(value, dict) else None
