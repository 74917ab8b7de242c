import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intff.errors import SpecError
from intff.spec import (
    BP,
    FF,
    Conv,
    Digits,
    Embedding,
    Groups,
    HardLabel,
    Hybrid,
    IntFF,
    Layers,
    MaxPool,
    Mnist,
    Overlay,
    PaperMixture,
    RandomLabel,
    Training,
    TrainSpec,
    WrongLabel,
    read_spec,
)

DEFAULTS = {
    "version": 1,
    "dataset": {"kind": "mnist", "train_size": None, "validation_size": 5000},
    "noise": {"kind": "none"},
    "architecture": {
        "kind": "layers",
        "input_shape": [1, 28, 28],
        "units": [[200, 200, 200], [50, 50]],
        "activation": "silu",
    },
    "algorithm": {
        "kind": "intff",
        "theta": 1.5,
        "goodness": "mean_square",
        "loss": "cross_entropy",
        "negatives": {"kind": "wrong_label", "count": 9},
        "normalization": "layer",
        "label_encoding": {"kind": "groups"},
        "unit_weights": "equal",
        "classifier": "goodness",
    },
    "training": {
        "epochs": 30,
        "batch_size": 256,
        "learning_rate": 0.003,
        "optimizer": "adam",
        "schedule": "cosine",
        "warmup": 0.0,
        "unit_order": "together",
        "steps_per_unit": 1,
        "jitter": 1,
        "early_stopping": None,
        "seed": 0,
        "device": "auto",
        "precision": "float32",
    },
}


def test_an_empty_spec_comes_back_with_every_default() -> None:
    assert read_spec({}).model_dump(mode="json") == DEFAULTS


def test_short_and_long_forms_are_the_same_spec() -> None:
    short = read_spec(
        {
            "dataset": "digits",
            "noise": "paper_mixture",
            "architecture": "64,(20,10)",
            "algorithm": {"negatives": "random_label", "label_encoding": "overlay"},
        }
    )
    long = TrainSpec(
        dataset=Digits(),
        noise=PaperMixture(),
        architecture=Layers(units=((20, 10),)),
        algorithm=IntFF(negatives=RandomLabel(), label_encoding=Overlay()),
    )
    assert short == long


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ({"algorithm": IntFF()}, {}),
        ({"algorithm": FF(theta=2.0)}, {"algorithm": {"kind": "ff", "theta": 2.0}}),
        (
            {"algorithm": IntFF(negatives=HardLabel(), label_encoding=Embedding())},
            {"algorithm": {"negatives": "hard_label", "label_encoding": "embedding"}},
        ),
        (
            {"algorithm": BP(), "architecture": "784,50,10", "training": Training(epochs=2)},
            {"algorithm": "bp", "architecture": "784,50,10", "training": {"epochs": 2}},
        ),
        ({"dataset": Digits(), "architecture": "64,20"}, {"dataset": "digits", "architecture": "64,20"}),
        (
            {"preset": "fast", "architecture": Layers(units=((Conv(channels=12), 20),)), "noise": PaperMixture()},
            {"preset": "fast", "architecture": {"units": [["12C3", 20]]}, "noise": "paper_mixture"},
        ),
    ],
)
def test_parts_as_objects_are_parts_as_words(parts: dict[str, Any], written: dict[str, Any]) -> None:
    assert TrainSpec(**parts) == read_spec(written)


def test_the_parts_of_a_spec_make_the_same_spec_again() -> None:
    """Also one whose units have no room for groups, in a spec where they would have."""
    small = read_spec({"architecture": "784,(30,9)"})
    for spec in (small, read_spec({}), read_spec({"preset": "author"})):
        assert TrainSpec(**{name: getattr(spec, name) for name in TrainSpec.model_fields}) == spec
    assert TrainSpec(architecture="784,(30,20)", algorithm=small.algorithm).algorithm == small.algorithm


def test_a_part_without_a_kind_is_of_the_default_kind() -> None:
    spec = read_spec({"dataset": {"train_size": 100}, "algorithm": {"theta": 2, "negatives": {"count": 5}}})
    assert spec.dataset == Mnist(train_size=100)
    assert isinstance(spec.algorithm, IntFF)
    assert spec.algorithm.theta == 2.0
    assert spec.algorithm.negatives.kind == "wrong_label"
    assert spec.algorithm.negatives.count == 5


def test_a_spec_cannot_be_changed() -> None:
    spec = read_spec({})
    with pytest.raises(ValueError, match="frozen"):
        spec.version = 1  # type: ignore[misc]  # what is tested
    with pytest.raises(ValueError, match="frozen"):
        spec.training.epochs = 3  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize(
    ("architecture", "algorithm", "units", "classifier"),
    [
        ("784,(100,50),(30,10)", "intff", ((100, 50), (30, 10)), "goodness"),
        ("784,(100,50),(10)", "intff", ((100, 50), (10,)), "goodness"),
        ("784,(100,50),10", "intff", ((100, 50),), "softmax"),
        ("784,(100,50),10", {}, ((100, 50),), "softmax"),
        ("784,(100,50),10", {"classifier": "softmax"}, ((100, 50),), "softmax"),
        ("784,(100,50),20", "intff", ((100, 50), (20,)), "goodness"),
        ("784,100,50,10", "ff", ((100,), (50,), (10,)), "goodness"),
        ("784,(100,50),10", "ff", ((100,), (50,), (10,)), "goodness"),
        ("784,100,50,10", "bp", ((100, 50),), None),
        ("784,(100,50),(10)", "bp", ((100, 50, 10),), None),
        ("784,100,50", "bp", ((100, 50),), None),
    ],
)
def test_a_bare_last_number_of_classes_is_the_softmax_layer_except_under_ff(
    architecture: str, algorithm: object, units: tuple[tuple[int, ...], ...], classifier: str | None
) -> None:
    spec = read_spec({"architecture": architecture, "algorithm": algorithm})
    assert spec.architecture.units == units
    assert (None if isinstance(spec.algorithm, BP) else spec.algorithm.classifier) == classifier


def test_ff_splits_units_and_bp_joins_them_also_in_the_long_form() -> None:
    layers = {"units": [[30, 20], [10]]}
    assert read_spec({"architecture": layers, "algorithm": "ff"}).architecture.units == ((30,), (20,), (10,))
    assert read_spec({"architecture": layers, "algorithm": "bp"}).architecture.units == ((30, 20, 10),)


def test_a_flat_shape_or_one_without_the_channel_becomes_the_data_sets() -> None:
    for shape in ([784], [28, 28], [1, 28, 28]):
        spec = read_spec({"architecture": {"input_shape": shape, "units": [[10]]}})
        assert spec.architecture.input_shape == (1, 28, 28)
        assert spec.architecture.input_size == 784


def test_as_many_wrong_labels_as_there_are_may_be_drawn() -> None:
    spec = read_spec({"algorithm": {"negatives": {"kind": "wrong_label", "count": 9}}})
    assert isinstance(spec.algorithm, IntFF)
    assert spec.algorithm.negatives == WrongLabel(count=9)


@pytest.mark.parametrize(
    ("architecture", "algorithm", "encoding"),
    [
        ("784,(20,10),(10)", "intff", "groups"),
        ("784,(20,10),(9)", "intff", "overlay"),
        ("784,(9,10)", "intff", "groups"),
        ("784,(9,10)", "ff", "overlay"),  # every layer is a unit of its own
        ("784,20,10", "ff", "groups"),
        ("784,(50),(8),10", "intff", "overlay"),
        ("784,(12C3,P2),(10C3,P2)", "intff", "groups"),
        ("784,(8C3,P2)", "intff", "overlay"),
        ("784,(12C3,A4)", "intff", "groups"),
        ("784,(12C3),(A4)", "intff", "groups"),
        ("784,(8C3,A4),(20)", "intff", "overlay"),
        ("784,(A1,12C3)", "intff", "groups"),
        ("784,A1,12C3", "ff", "overlay"),
        ("784,8C3,P2,20", "ff", "overlay"),
        ({"units": [["12C3", "P2"], [20]]}, {}, "groups"),
        ({"units": [["8C3", "P2"], [20]]}, {}, "overlay"),
    ],
)
def test_labels_are_groups_where_every_unit_has_room_for_one_a_class(
    architecture: object, algorithm: object, encoding: str
) -> None:
    """And with them come the loss, the negatives and the normalisation that were best with groups."""
    found = read_spec({"architecture": architecture, "algorithm": algorithm}).algorithm
    assert isinstance(found, IntFF | FF)
    assert found.label_encoding.kind == encoding
    defaults = (found.loss, found.negatives, found.normalization)
    if encoding == "groups":
        assert defaults == ("cross_entropy", WrongLabel(count=9), "layer")
    else:
        assert defaults == ("softplus_logsumexp", WrongLabel(count=3), "rms")


@pytest.mark.parametrize("encoding", ["overlay", "embedding", {"kind": "overlay", "value": 2.0}, {"value": 2.0}])
def test_an_encoding_that_is_given_is_kept_and_has_its_own_defaults(encoding: object) -> None:
    found = read_spec({"algorithm": {"label_encoding": encoding}}).algorithm
    assert isinstance(found, IntFF)
    assert found.label_encoding.kind == (encoding if encoding == "embedding" else "overlay")
    assert (found.loss, found.negatives, found.normalization) == ("softplus_logsumexp", WrongLabel(count=3), "rms")


@pytest.mark.parametrize("encoding", [{}, {"label_encoding": "groups"}, {"label_encoding": {"kind": "groups"}}])
def test_what_is_given_beside_groups_is_kept_field_by_field(encoding: dict[str, Any]) -> None:
    given = {"loss": "swish", "negatives": {"count": 4}, "normalization": "l2", "theta": 2.0, **encoding}
    found = read_spec({"algorithm": given}).algorithm
    assert isinstance(found, IntFF)
    assert found.label_encoding == Groups()
    assert (found.loss, found.negatives, found.normalization) == ("swish", WrongLabel(count=4), "l2")
    hybrids = read_spec({"algorithm": {"negatives": "hybrid", **encoding}}).algorithm
    assert isinstance(hybrids, IntFF)
    assert (hybrids.negatives, hybrids.loss) == (Hybrid(), "cross_entropy")


def test_a_layer_whose_fields_all_have_defaults_may_be_its_kind() -> None:
    written = read_spec({"architecture": {"units": [["12C3", "max_pool"], ["attention", "20"]]}})
    assert written == read_spec({"architecture": "784,(12C3,P2),(A4,20)"})
    with pytest.raises(SpecError, match="a layer looks like"):
        read_spec({"architecture": {"units": [["conv"]]}})


def test_under_ff_pooling_that_comes_first_goes_to_the_first_layer() -> None:
    units = read_spec({"architecture": "784,P2,P2,20,12", "algorithm": "ff"}).architecture.units
    assert units == ((MaxPool(), MaxPool(), 20), (12,))


def test_a_layer_may_be_written_in_notation_inside_json() -> None:
    written = read_spec({"architecture": {"units": [["12C(5,3)/2vp", "P2"], ["A4", 20, "15"]]}})
    told = read_spec(
        {
            "architecture": {
                "units": [
                    [
                        {
                            "kind": "conv",
                            "channels": 12,
                            "kernel": [5, 3],
                            "stride": 2,
                            "padding": "valid",
                            "batch_norm": False,
                        },
                        {"kind": "max_pool"},
                    ],
                    [{"kind": "attention", "heads": 4}, 20, 15],
                ]
            }
        }
    )
    assert written == told == read_spec({"architecture": "784,(12C(5,3)/2vp,P2),(A4,20,15)"})
    units = written.model_dump(mode="json")["architecture"]["units"]
    assert units[0][1] == {"kind": "max_pool", "size": 2}
    assert units[1] == [{"kind": "attention", "heads": 4}, 20, 15]


def test_a_kernel_may_be_one_number() -> None:
    layers = [[{"kind": "conv", "channels": 12, "kernel": 5}]]
    assert read_spec({"architecture": {"units": layers}}).architecture.units == ((Conv(channels=12, kernel=(5, 5)),),)


def test_under_ff_pooling_stays_with_the_layer_before_it() -> None:
    first, second = Conv(channels=12), Conv(channels=16)
    for architecture in ("784,12C3,P2,16C3,P2,20", "784,(12C3,P2,16C3,P2,20)", "784,(12C3),(P2,16C3,P2),20"):
        spec = read_spec({"architecture": architecture, "algorithm": "ff"})
        assert spec.architecture.units == ((first, MaxPool()), (second, MaxPool()), (20,))
    assert read_spec({"architecture": "784,(12C3),(P2,16C3)", "algorithm": "bp"}).architecture.units == (
        (first, MaxPool(), second),
    )


def test_units_count_as_the_spec_says() -> None:
    found = read_spec({"algorithm": {"unit_weights": [1, 0]}}).algorithm
    assert isinstance(found, IntFF)
    assert found.unit_weights == (1.0, 0.0)
    for name in ("equal", "calibrated"):
        named = read_spec({"algorithm": {"unit_weights": name}}).algorithm
        assert isinstance(named, IntFF)
        assert named.unit_weights == name


def test_several_steps_on_a_batch_go_with_one_unit_after_the_other() -> None:
    training = read_spec({"training": {"unit_order": "one_by_one", "steps_per_unit": 60}}).training
    assert (training.unit_order, training.steps_per_unit) == ("one_by_one", 60)


def _algorithms() -> st.SearchStrategy[dict[str, Any] | str]:
    local = st.fixed_dictionaries(
        {"kind": st.sampled_from(["intff", "ff"])},
        optional={
            "theta": st.floats(0.01, 100),
            "goodness": st.sampled_from(["mean_square", "sum_square"]),
            "loss": st.sampled_from(["softplus", "softplus_logsumexp", "symba", "swish", "cross_entropy"]),
            "normalization": st.sampled_from(["l2", "rms", "layer"]),
            "unit_weights": st.sampled_from(["equal", "calibrated"]),
            "classifier": st.just("softmax"),
            "negatives": st.one_of(
                st.sampled_from(["random_label", "wrong_label", "hard_label", "hybrid", "rotated", "gaussian_noise"]),
                st.fixed_dictionaries({"kind": st.just("noisy_copy"), "sigma": st.floats(0.01, 10)}),
                st.fixed_dictionaries({"kind": st.just("hard_label"), "count": st.integers(1, 9)}),
                st.fixed_dictionaries({"kind": st.just("wrong_label"), "count": st.integers(1, 9)}),
                st.fixed_dictionaries({"kind": st.just("random_label"), "count": st.integers(1, 64)}),
            ),
            "label_encoding": st.one_of(
                st.fixed_dictionaries({"value": st.floats(0.1, 1000)}), st.sampled_from(["overlay", "embedding"])
            ),
        },
    )
    backpropagation = st.fixed_dictionaries(
        {"kind": st.just("bp")}, optional={"normalization": st.sampled_from(["none", "l2", "rms", "layer"])}
    )
    return st.one_of(st.sampled_from(["intff", "ff", "bp"]), local, backpropagation)


def _architectures() -> st.SearchStrategy[dict[str, Any] | str]:
    units = st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=3), min_size=1, max_size=3)
    dense = ["784,(20,10)", "784,(20),10", "784,20,10,10", "(784,(7),(5,5))"]
    convolutional = ["784,32C3,P2,64C(5,3)/2v,10", "(784,(9C3p,P2),(5))", "784,12C4/4,12C1,12"]
    activation = st.sampled_from(["relu", "leaky_relu", "gelu", "silu", "tanh"])
    told = st.fixed_dictionaries({"units": units}, optional={"activation": activation})
    return st.one_of(told, st.sampled_from([*dense, *convolutional]))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "dataset": st.sampled_from(["mnist", "fashion_mnist", "kmnist", {"train_size": 77}]),
            "noise": st.sampled_from(["none", "paper_mixture"]),
            "architecture": _architectures(),
            "algorithm": _algorithms(),
            "training": st.fixed_dictionaries(
                {},
                optional={
                    "epochs": st.integers(1, 100_000),
                    "learning_rate": st.floats(1e-9, 10),
                    "schedule": st.sampled_from(["constant", "cosine", "hold_then_decay"]),
                    "warmup": st.floats(0, 0.5),
                    "unit_order": st.sampled_from(["together", "one_by_one"]),
                    "early_stopping": st.fixed_dictionaries({}, optional={"patience": st.integers(1, 9)}),
                    "seed": st.integers(0, 2**53 - 1),
                },
            ),
        },
    )
)
def test_what_a_job_returns_repeats_it_exactly_when_posted_again(data: dict[str, Any]) -> None:
    spec = read_spec(data)
    returned = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert read_spec(returned) == spec
    assert read_spec(returned).model_dump(mode="json") == returned


def test_a_returned_spec_of_ff_keeps_an_ordinary_last_unit() -> None:
    returned = read_spec({"architecture": "784,20,10", "algorithm": "ff"}).model_dump(mode="json")
    spec = read_spec(returned)
    assert isinstance(spec.algorithm, FF)
    assert spec.architecture.units == ((20,), (10,))


def test_a_spec_error_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="no such field") as caught:
        read_spec({"foo": 1})
    assert isinstance(caught.value, SpecError)
    assert caught.value.code == "invalid_spec"


def test_a_changed_copy_is_read_as_if_it_had_been_written_so() -> None:
    spec = read_spec({"dataset": "digits", "architecture": "64,(40,30),(25,20)"})
    assert read_spec(spec.model_copy(update={"algorithm": FF()})) == read_spec(
        {"dataset": "digits", "architecture": "64,40,30,25,20", "algorithm": "ff"}
    )
    with pytest.raises(SpecError, match="digits has 1437 training images"):
        read_spec(spec.model_copy(update={"dataset": spec.dataset.model_copy(update={"train_size": 5000})}))
    shorter = read_spec(spec.model_copy(update={"training": {"epochs": 2}}))
    assert shorter.training == Training(epochs=2)


def test_numpys_numbers_are_numbers() -> None:
    given = {"architecture": {"units": [[np.int64(50)]]}, "training": {"seed": np.int64(3), "epochs": np.arange(3)[2]}}
    spec = read_spec(given)
    assert (spec.architecture.units, spec.training.seed, spec.training.epochs) == (((50,),), 3, 2)
    with pytest.raises(SpecError, match=r"training\.seed: .*valid integer.*, got 1\.5"):
        read_spec({"training": {"seed": np.float64(1.5)}})
