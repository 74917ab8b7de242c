import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intff.errors import SpecError
from intff.spec import (
    Gaussian,
    LabelNoise,
    MissingRows,
    Mixture,
    NoNoise,
    PaperMixture,
    Proportions,
    PureNoise,
    read_spec,
)

NAN, INFINITY = float("nan"), float("inf")


def _noise(written: object, dataset: str = "mnist") -> Any:
    return read_spec({"noise": written, "dataset": dataset, "architecture": {"units": [[5]]}}).noise


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("none", NoNoise()),
        ({}, NoNoise()),
        ("paper_mixture", PaperMixture()),
        ("gaussian", Gaussian(share=0.25, sigma=0.1)),
        ("missing_rows", MissingRows(share=0.25, max_rows=None)),
        ("pure_noise", PureNoise(share=0.25, sigma=0.1)),
        ("label_noise", LabelNoise(share=0.25, flips="uniform")),
        (
            "mixture",
            Mixture(
                share=0.75,
                proportions=Proportions(gaussian=1, missing_rows=1, pure_noise=1, label_noise=0),
                gaussian_sigma=0.1,
                max_rows=None,
                pure_noise_sigma=0.1,
                flips="uniform",
            ),
        ),
    ],
)
def test_a_bare_name_stands_for_the_papers_strength(written: object, read: object) -> None:
    assert _noise(written) == read


def test_a_kind_that_is_left_out_of_the_proportions_gets_none() -> None:
    noise = _noise({"kind": "mixture", "share": 0.5, "proportions": {"label_noise": 2, "gaussian": 3}})
    assert noise.counts(1000) == (300, 0, 0, 200)


def test_only_the_ratios_of_proportions_matter() -> None:
    one = Mixture(share=0.6, proportions=Proportions(gaussian=0.1, missing_rows=0.2, label_noise=0.3))
    other = Mixture(share=0.6, proportions=Proportions(gaussian=1, missing_rows=2, label_noise=3))
    assert one.counts(600) == other.counts(600) == (60, 120, 0, 180)


@pytest.mark.parametrize(
    ("share", "images"), [(0, 55_000), (0.25, 60_000), (0.5, 66_000), (0.75, 73_333), (0.9, 78_571)]
)
def test_a_sweep_of_the_papers_mixture_grows_with_its_share(share: float, images: int) -> None:
    """A third of the share is pure noise: 55,000 / (1 - share / 3) in all."""
    counts = Mixture(share=share).counts(55_000)
    assert 55_000 + counts.pure_noise == images
    assert counts.gaussian == counts.missing_rows == counts.pure_noise
    assert sum(counts) == pytest.approx(share * images, abs=3)


@pytest.mark.parametrize("kind", ["gaussian", "missing_rows", "pure_noise", "label_noise", "mixture"])
def test_a_share_of_zero_corrupts_nothing(kind: str) -> None:
    assert _noise({"kind": kind, "share": 0}).as_mixture().counts(60_000) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("written", "field", "says"),
    [
        ({"kind": "gaussian", "share": NAN}, "share", "finite number, got nan"),
        ({"kind": "gaussian", "share": 1.5}, "share", r"less than or equal to 1, got 1\.5"),
        ({"kind": "pure_noise", "share": 0.95}, "share", r"less than or equal to 0\.9, got 0\.95"),
        ({"kind": "label_noise", "flips": "some"}, "flips", "'uniform' or 'pair', got 'some'"),
        ({"kind": "mixture", "proportions": {"gaussian": -1}}, "proportions.gaussian", "got -1"),
        ({"kind": "mixture", "proportions": {"gaussian": 0}}, "proportions", "at least one of gaussian"),
        ({"kind": "mixture", "share": 1.0, "proportions": {"pure_noise": 1}}, "share", r"0\.9 of the training images"),
        ({"kind": "gaussian", "share": -0.1}, "share", r"greater than or equal to 0, got -0\.1"),
        ({"kind": "gaussian", "share": "0.5"}, "share", "valid number, got '0.5'"),
        ({"kind": "gaussian", "sigma": INFINITY}, "sigma", "finite number, got inf"),
        ({"kind": "gaussian", "sigma": 11}, "sigma", "less than or equal to 10, got 11"),
        ({"kind": "gaussian", "max_rows": 5}, "max_rows", "no such field, got 5"),
        ({"kind": "missing_rows", "max_rows": 0}, "max_rows", "greater than or equal to 1, got 0"),
        ({"kind": "missing_rows", "max_rows": 2.5}, "max_rows", r"valid integer, got 2\.5"),
        ({"kind": "mixture", "max_rows": 28}, "max_rows", "have 28 rows.*max_rows is at most 27, got 28"),
        ({"kind": "mixture", "proportions": {}}, "proportions", "at least one of gaussian, .* greater than 0"),
        ({"kind": "mixture", "proportions": {"gaussian": NAN}}, "proportions.gaussian", "finite number, got nan"),
        ({"kind": "mixture", "proportions": {"clean": 1}}, "proportions.clean", "no such field, got 1"),
        (
            {"kind": "mixture", "proportions": {"gaussian": 1e7}},
            "proportions.gaussian",
            "less than or equal to 1000000",
        ),
        (
            {"kind": "mixture", "share": 0.96, "proportions": {"gaussian": 1, "pure_noise": 19}},
            "share",
            r"at most 0\.9 of the training images .* 0\.96 makes it 0\.912: lower share or proportions\.pure_noise",
        ),
        ({"share": 0.5}, "share", r"no such field, got 0\.5; .*'none' has no settings; gaussian, .*mixture"),
        ({"kind": "paper_mixture", "share": 0.5}, "share", r"got 0\.5; .*'paper_mixture' has no settings; .*mixture"),
    ],
)
def test_the_field_what_arrived_and_what_would_do_are_told(written: object, field: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        _noise(written)
    assert caught.value.field == f"noise.{field}"


def test_the_rows_that_can_be_lost_are_the_data_sets() -> None:
    assert _noise({"kind": "missing_rows", "max_rows": 7}, "digits").max_rows == 7
    with pytest.raises(SpecError, match=r"have 8 rows.*max_rows is at most 7, got 8"):
        _noise({"kind": "missing_rows", "max_rows": 8}, "digits")


SHARES, SIGMAS = st.floats(0, 0.9), st.floats(0, 10)
ROWS, FLIPS = st.none() | st.integers(1, 27), st.sampled_from(["uniform", "pair"])
NAMES = ("gaussian", "missing_rows", "pure_noise", "label_noise")
PROPORTIONS = st.dictionaries(st.sampled_from(NAMES), st.floats(0.001, 10**6), min_size=1)
KINDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "gaussian": {"share": SHARES, "sigma": SIGMAS},
    "missing_rows": {"share": SHARES, "max_rows": ROWS},
    "pure_noise": {"share": SHARES, "sigma": SIGMAS},
    "label_noise": {"share": SHARES, "flips": FLIPS},
    "mixture": {
        "share": SHARES,
        "proportions": PROPORTIONS,
        "gaussian_sigma": SIGMAS,
        "max_rows": ROWS,
        "pure_noise_sigma": SIGMAS,
        "flips": FLIPS,
    },
}
WRITTEN = st.one_of(
    *(st.fixed_dictionaries({"kind": st.just(kind)}, optional=fields) for kind, fields in KINDS.items())
)


@given(WRITTEN)
def test_what_comes_back_is_whole_and_means_the_same(written: dict[str, Any]) -> None:
    noise = _noise(written)
    returned = json.loads(noise.model_dump_json())
    assert set(returned) == {"kind", *KINDS[written["kind"]]}
    assert written.items() <= {**returned, "proportions": written.get("proportions")}.items()
    assert _noise(returned) == noise


@given(WRITTEN, st.integers(0, 100_000))
def test_the_share_is_kept_to_within_an_image_for_each_kind(written: dict[str, Any], images: int) -> None:
    noise = _noise(written)
    counts = noise.as_mixture().counts(images)
    assert min(counts) >= 0
    assert sum(counts) - counts.pure_noise <= images
    exact = noise.share * (images + counts.pure_noise)
    assert exact - 4 <= sum(counts) <= exact + 1
