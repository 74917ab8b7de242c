from typing import Any

import pytest

from intff.errors import SpecError
from intff.presets import _DEFAULT_KINDS, PRESETS, expand_preset, merge
from intff.spec import BP, IntFF, Limits, read_spec, require_within


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_spec_within_the_limits(name: str) -> None:
    spec = read_spec({"preset": name})
    require_within(spec, Limits())
    assert read_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("table1_intff_small", ((100, 50), (30, 10))),
        ("table1_ff_small", ((100,), (50,), (30,), (10,))),
        ("table1_bp_small", ((100, 50, 30, 10),)),
        ("table1_bp_large", ((200, 200, 200, 50, 50),)),
        ("table2_intff_softmax", ((100, 100), (100, 100))),
    ],
)
def test_the_tables_networks_are_the_papers(name: str, units: tuple[tuple[int, ...], ...]) -> None:
    assert read_spec({"preset": name}).architecture.units == units


def test_the_tables_softmax_row_has_a_softmax_classifier() -> None:
    algorithm = read_spec({"preset": "table2_intff_softmax"}).algorithm
    assert not isinstance(algorithm, BP)
    assert algorithm.classifier == "softmax"


def test_what_is_given_beside_a_preset_wins_field_by_field() -> None:
    preset = read_spec({"preset": "fast"})
    spec = read_spec({"preset": "fast", "training": {"seed": 7}, "algorithm": {"theta": 2}})
    assert spec.training == preset.training.model_copy(update={"seed": 7})
    assert spec.algorithm == preset.algorithm.model_copy(update={"theta": 2.0})


def test_expanding_takes_the_name_away_and_leaves_the_input_alone() -> None:
    given = {"preset": "table1_ff_small", "noise": "none"}
    assert expand_preset(given) == {"architecture": "784,100,50,30,10", "algorithm": "ff", "noise": "none"}
    assert given == {"preset": "table1_ff_small", "noise": "none"}
    with pytest.raises(SpecError, match="there is no preset 'x'"):
        expand_preset({"preset": "x"})


@pytest.mark.parametrize(
    ("under", "over", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"t": {"x": 1, "y": 2}}, {"t": {"y": 3}}, {"t": {"x": 1, "y": 3}}),
        ({"t": {"x": 1}}, {"t": None}, {"t": None}),
        ({"p": {"kind": "a", "x": 1}}, {"p": {"x": 2}}, {"p": {"kind": "a", "x": 2}}),
        ({"p": {"kind": "a", "x": 1}}, {"p": "a"}, {"p": {"kind": "a", "x": 1}}),
        ({"p": {"kind": "a", "x": 1}}, {"p": "b"}, {"p": "b"}),
        ({"p": {"kind": "a", "x": 1}}, {"p": {"kind": "b", "y": 2}}, {"p": {"kind": "b", "y": 2}}),
        ({"p": "a"}, {"p": "a"}, {"p": "a"}),
        ({"p": {"kind": "a", "choice": "c"}}, {"p": {"choice": "c"}}, {"p": {"kind": "a", "choice": "c"}}),
        ({"p": "a"}, {"p": {"x": 1}}, {"p": {"kind": "a", "x": 1}}),
        # a part that names no kind is of its default kind
        ({"dataset": {"train_size": 3}}, {"dataset": "mnist"}, {"dataset": {"kind": "mnist", "train_size": 3}}),
        ({"dataset": {"train_size": 3}}, {"dataset": "digits"}, {"dataset": "digits"}),
        ({"algorithm": {"theta": 3}}, {"algorithm": "intff"}, {"algorithm": {"kind": "intff", "theta": 3}}),
        (
            {"architecture": {"units": [[5]], "activation": "relu"}},
            {"architecture": "784,10"},
            {"architecture": {"kind": "layers", "units": "784,10", "activation": "relu"}},
        ),
        # both have the same fields
        ({"algorithm": {"theta": 3}}, {"algorithm": "ff"}, {"algorithm": {"kind": "ff", "theta": 3}}),
        ({"algorithm": {"kind": "ff", "theta": 3}}, {"algorithm": "bp"}, {"algorithm": "bp"}),
        (
            {"architecture": "784,(10)"},
            {"architecture": {"units": [[5]]}},
            {"architecture": {"kind": "layers", "units": [[5]]}},
        ),
        (
            {"architecture": {"kind": "layers", "units": [[5]], "activation": "relu"}},
            {"architecture": "784,10"},
            {"architecture": {"kind": "layers", "units": "784,10", "activation": "relu"}},
        ),
    ],
)
def test_a_part_of_the_same_kind_is_merged_and_of_another_replaced(
    under: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge(under, over) == merged


def test_the_default_kinds_are_those_of_the_spec() -> None:
    spec = read_spec({"dataset": {}, "noise": {}, "architecture": {}, "algorithm": {"label_encoding": {}}})
    assert isinstance(spec.algorithm, IntFF)
    parts = {name: getattr(spec, name) for name in ("dataset", "noise", "architecture", "algorithm")}
    parts["label_encoding"] = spec.algorithm.label_encoding
    with_negatives = read_spec({"algorithm": {"negatives": {}}}).algorithm
    assert isinstance(with_negatives, IntFF)
    parts["negatives"] = with_negatives.negatives
    assert {name: part.kind for name, part in parts.items()} == _DEFAULT_KINDS


def test_a_notation_beside_a_preset_keeps_the_rest_of_its_architecture() -> None:
    spec = read_spec({"preset": "author", "architecture": "784,(50,50)"})
    assert spec.architecture.units == ((50, 50),)
    assert spec.architecture.activation == "relu"  # the author's, and not the default


@pytest.mark.parametrize("name", PRESETS)
def test_a_spec_that_is_read_again_is_itself(name: str) -> None:
    spec = read_spec({"preset": name})
    assert read_spec(spec) == spec


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_with_its_own_spec_beside_it_is_itself(name: str) -> None:
    spec = read_spec({"preset": name})
    assert read_spec({"preset": name, **PRESETS[name][1]}) == spec
    assert read_spec({"preset": name, **spec.model_dump(mode="json")}) == spec


def test_an_algorithm_beside_a_preset_may_be_of_another_kind() -> None:
    spec = read_spec({"preset": "fast", "algorithm": "bp"})
    assert isinstance(spec.algorithm, BP)
    assert spec.architecture.units == ((200, 200, 200, 50, 50),)
