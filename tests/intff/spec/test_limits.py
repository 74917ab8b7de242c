import pytest

from intff.build import build_network
from intff.errors import SpecError
from intff.spec import Limits, read_spec, require_within, size_of

# Worked out by hand for digits: 64 pixels, 10 classes.
SIZES = [
    ("64,(20,10),(5)", "intff", 64 * 20 + 20 + 20 * 10 + 10 + 10 * 5 + 5),
    ("64,(20),(6),10", "intff", 64 * 20 + 20 + 20 * 6 + 6 + (20 + 6 + 1) * 10),
    ("64,20,6", "ff", 64 * 20 + 20 + 20 * 6 + 6),
    ("64,20,6,10", "bp", 64 * 20 + 20 + 20 * 6 + 6 + 7 * 10),
]


@pytest.mark.parametrize(("architecture", "algorithm", "parameters"), SIZES)
def test_the_number_of_parameters_is_exact(architecture: str, algorithm: str, parameters: int) -> None:
    spec = read_spec({"dataset": "digits", "architecture": architecture, "algorithm": algorithm})
    assert size_of(spec).parameters == parameters
    assert sum(weight.numel() for weight in build_network(spec).parameters()) == parameters


def test_a_billion_neurons_are_refused_by_their_parameters() -> None:
    spec = read_spec({"architecture": "784,(1000000000)"})
    with pytest.raises(SpecError, match="785,000,000,000 parameters; at most 50,000,000 are allowed") as caught:
        require_within(spec, Limits())
    assert caught.value.field == "architecture.units"


def test_a_batch_that_fills_the_memory_is_refused() -> None:
    spec = read_spec({"architecture": "784,(20000)", "training": {"batch_size": 100_000}})
    with pytest.raises(SpecError, match=r"GiB; at most 8\.0 GiB are allowed; make the batch") as caught:
        require_within(spec, Limits())
    assert caught.value.field == "training.batch_size"


def test_the_defaults_and_the_limit_itself_are_within() -> None:
    require_within(read_spec({}), Limits())
    spec = read_spec({"dataset": "digits", "architecture": "64,(1)"})
    require_within(spec, Limits(max_parameters=65))
    with pytest.raises(SpecError):
        require_within(spec, Limits(max_parameters=64))


def test_the_memory_of_scoring_counts_however_small_the_batch_is() -> None:
    one = size_of(read_spec({"architecture": "784,(1000)", "training": {"batch_size": 1}}))
    assert one.memory_bytes > 1000 * 10 * 1000 * 4  # a thousand images, ten labels, a thousand neurons
