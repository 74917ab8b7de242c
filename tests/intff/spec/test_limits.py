import pytest

from intff.build import build_network
from intff.errors import SpecError
from intff.spec import Limits, read_spec, require_within, size_of

# Worked out by hand for digits: 64 pixels, 10 classes.
EMBEDDING, SOFTMAX = {"label_encoding": "embedding"}, {"classifier": "softmax"}
SIZES: list[tuple[str, object, int]] = [
    ("64,(20,10),(5)", "intff", 64 * 20 + 20 + 20 * 10 + 10 + 10 * 5 + 5),
    ("64,(20),(6),10", "intff", 64 * 20 + 20 + 20 * 6 + 6 + (20 + 6 + 1) * 10),
    ("64,20,6", "ff", 64 * 20 + 20 + 20 * 6 + 6),
    ("64,20,6,10", "bp", 64 * 20 + 20 + 20 * 6 + 6 + 7 * 10),
    # A convolution has its kernels and biases, and a gain for each channel where it is normalised.
    ("64,(12C3p)", "intff", 12 * 9 + 12),
    ("64,(12C3)", "intff", 12 * 9 + 12 + 12),
    ("64,(12C(3,2)p,P2),(20C4/2v,5)", "intff", 12 * 6 + 12 + 20 * 12 * 16 + 20 + 20 + 20 * 5 + 5),
    ("64,12C3p,P2,20", "ff", 12 * 9 + 12 + 12 * 4 * 4 * 20 + 20),
    ("64,12C3/3p,P2,10", "bp", 12 * 9 + 12 + (12 + 1) * 10),
    # Attention: a vector for each of 16 positions; query, key, value and output, each with biases.
    ("64,(12C2/2p,A4)", "intff", 12 * 4 + 12 + 16 * 12 + 4 * (12 * 12 + 12)),
    # A softmax layer sees the mean of each channel.
    ("64,(12C3p),(20)", SOFTMAX, 12 * 9 + 12 + 12 * 64 * 20 + 20 + (12 + 20 + 1) * 10),
    # Ten labels have a vector as wide as each unit's first layer.
    ("64,(20,15),(12)", EMBEDDING, 64 * 20 + 20 + 20 * 15 + 15 + 15 * 12 + 12 + 10 * (20 + 12)),
    ("64,(12C3,15C3p,P2)", EMBEDDING, 12 * 9 + 24 + 15 * 12 * 9 + 15 + 10 * 12),
]


@pytest.mark.parametrize(("architecture", "algorithm", "parameters"), SIZES)
def test_the_number_of_parameters_is_exact(architecture: str, algorithm: object, parameters: int) -> None:
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


def test_groups_are_scored_in_one_pass_for_all_labels() -> None:
    """So a network may be ten times as wide, or its maps as large."""
    architecture = {"architecture": "784,(1000)", "training": {"batch_size": 1}}
    ten = size_of(read_spec({**architecture, "algorithm": {"label_encoding": "overlay"}}))
    one = size_of(read_spec(architecture))
    assert one.parameters == ten.parameters
    assert ten.memory_bytes - one.memory_bytes == 4 * 3 * (784 + 1000) * 1000 * 9


def test_negative_images_pass_beside_the_positive_ones() -> None:
    architecture = {"architecture": "784,(1000)", "training": {"batch_size": 3000}}
    labels = size_of(read_spec({**architecture, "algorithm": {"negatives": "hard_label"}}))
    images = size_of(read_spec({**architecture, "algorithm": {"negatives": "rotated"}}))
    assert images.memory_bytes - labels.memory_bytes == 4 * 3 * (784 + 1000) * 3000


def test_attention_keeps_how_every_position_looks_at_every_other() -> None:
    """A map of 28 by 28 has 784 positions; each of four heads keeps 784 by 784 numbers for each image."""
    with_attention = size_of(read_spec({"architecture": "784,(12C3,A4)"}))
    without = size_of(read_spec({"architecture": "784,(12C3)"}))
    assert with_attention.memory_bytes - without.memory_bytes > 4 * 4 * 784 * 784 * 1000


def test_pure_noise_is_counted_among_the_images() -> None:
    """60,000 given are half of 120,000: 60,000 more images of 784 pixels, twice four bytes for each in the estimate."""
    clean, noisy = (size_of(read_spec({"noise": noise})) for noise in ("none", {"kind": "pure_noise", "share": 0.5}))
    assert noisy.parameters == clean.parameters
    assert noisy.memory_bytes - clean.memory_bytes == 60_000 * 784 * 2 * 4
    assert size_of(read_spec({"noise": {"kind": "gaussian", "share": 1}})) == clean


def test_a_batch_may_be_larger_than_the_clean_set() -> None:
    """Digits has 1,437 images for training, and the largest share of pure noise makes 14,370 of them."""

    def memory(batch_size: int) -> int:
        noise = {"kind": "pure_noise", "share": 0.9}
        training = {"batch_size": batch_size}
        spec = {
            "dataset": "digits",
            "architecture": "64,30,10",
            "algorithm": "bp",
            "noise": noise,
            "training": training,
        }
        return size_of(read_spec(spec)).memory_bytes

    assert memory(1437) < memory(10_000) < memory(14_370) == memory(100_000)


def test_the_remedy_for_too_much_memory_names_pure_noise_where_there_is_some() -> None:
    limits = Limits(max_memory_bytes=2**30)
    with pytest.raises(SpecError, match="or the share of pure noise, which adds 540,000 images"):
        require_within(read_spec({"noise": {"kind": "pure_noise", "share": 0.9}}), limits)
    with pytest.raises(SpecError, match=r"make the batch or the network smaller$"):
        require_within(read_spec({"training": {"batch_size": 100_000}}), limits)
