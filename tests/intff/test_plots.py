"""Figures: what is drawn where, for runs of every kind, and that equal runs give equal bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from intff import plots, read_spec
from intff.errors import MissingExtra
from intff.plots import Curve, accuracy_against_noise, figure3

SVG = "{http://www.w3.org/2000/svg}"
BLUE, VERMILLION, GRID = "#0072b2", "#d55e00", "#e4e4e4"


def epoch(
    number: int, losses: list[Any], positive: list[Any], negative: list[Any], accuracy: float | None = 0.5
) -> dict[str, Any]:
    return {
        "epoch": number,
        "seconds": 1.0,
        "loss": 0.0,
        "unit_losses": losses,
        "unit_goodness_positive": positive,
        "unit_goodness_negative": negative,
        "validation_accuracy": accuracy,
        "learning_rate": 0.003,
        "samples_per_second": 1.0,
    }


TWO_UNITS = [epoch(1, [0.4, 0.3], [2.0, 1.5], [1.0, 0.5], 0.5), epoch(2, [0.2, 0.1], [3.0, 2.5], [0.5, 0.0], 0.7)]
BACKPROP = [epoch(1, [2.0], [], []), epoch(2, [1.0], [], [])]


def spec_of(**parts: Any) -> dict[str, Any]:
    return read_spec(parts).model_dump(mode="json")


def texts(svg: bytes) -> list[str]:
    """What is written in a figure: each text is drawn as shapes, with its letters in a comment."""
    return re.findall(r"<!-- (.*) -->", svg.decode())


def panels(svg: bytes) -> list[ET.Element]:
    root = ET.fromstring(svg)
    return [group for group in root.iter(f"{SVG}g") if (group.get("id") or "").startswith("axes_")]


def points(path: ET.Element) -> NDArray[np.float64]:
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path.get("d", "")), dtype=float).reshape(-1, 2)


def lines(panel: ET.Element, colour: str, *, dashed: bool = False) -> list[NDArray[np.float64]]:
    """The data lines of a colour, [points, 2], as shares of the panel's width and height from its lower left."""
    (left, bottom), _, (right, top), _ = points(panel[0][0])  # its background
    found = []
    for path in panel.iter(f"{SVG}path"):
        style = path.get("style", "")
        if (
            path.get("clip-path")
            and path.get("d")
            and f"stroke: {colour}" in style
            and ("dasharray" in style) is dashed
        ):
            found.append((points(path) - (left, bottom)) / (right - left, top - bottom))
    return found


def test_losses_are_where_they_belong() -> None:
    """Epochs 1 and 2 with a margin of 1/25 on both sides; losses from 0 to 1.05 times the largest, 0.42."""
    loss_panel, *_ = panels(figure3(TWO_UNITS))
    (first,), (second,) = lines(loss_panel, BLUE), lines(loss_panel, VERMILLION)
    assert first == pytest.approx(np.array([[0.04 / 1.08, 0.4 / 0.42], [1.04 / 1.08, 0.2 / 0.42]]), abs=1e-4)
    assert second[:, 1] == pytest.approx(np.array([0.3 / 0.42, 0.1 / 0.42]), abs=1e-4)


def test_each_unit_has_its_goodness_of_both_kinds_of_data() -> None:
    _, goodness, accuracy = panels(figure3(TWO_UNITS))
    for colour, positive, negative in ((BLUE, (2, 3), (1, 0.5)), (VERMILLION, (1.5, 2.5), (0.5, 0))):
        (up,), (down,) = lines(goodness, colour), lines(goodness, colour, dashed=True)
        # From 0 to 3 with matplotlib's margin of a twentieth.
        assert up[:, 1] == pytest.approx((np.array(positive) + 0.15) / 3.3, abs=1e-4)
        assert down[:, 1] == pytest.approx((np.array(negative) + 0.15) / 3.3, abs=1e-4)
    (curve,) = lines(accuracy, "#000000")
    assert curve[:, 1] == pytest.approx(np.array([1 / 22, 21 / 22]), abs=1e-4)  # 50 % and 70 %


def test_a_figure_says_what_it_shows() -> None:
    spec = spec_of(architecture="784,(100,50),(30,10)", noise="paper_mixture", algorithm={"loss": "softplus"})
    written = texts(figure3(TWO_UNITS, spec=spec, name="mine", note="running, epoch 2 of 9"))
    assert "Local loss of each hidden unit" in written
    assert "Goodness of each hidden unit" in written
    assert "Accuracy on the validation split" in written
    assert {"epoch", "local loss", "goodness", "accuracy (%)"} <= set(written)
    assert written[-5:] == ["unit 1: (100,50)", "unit 2: (30,10)", "positive data", "negative data", "θ = 1.5"]
    svg = figure3(TWO_UNITS, spec=spec, name="mine", note="running, epoch 2 of 9").decode()
    assert "mine; IntFF (784,(100,50),(30,10)) on mnist, noise: paper_mixture; running, epoch 2 of 9" in svg


@pytest.mark.parametrize(
    ("algorithm", "title"),
    [
        ("intff", "IntFF (64,(100,50),(30,10)) on digits"),
        ("ff", "FF (64,100,50,30,10) on digits"),
        ("bp", "BP (64,100,50,30,10) on digits"),
    ],
)
def test_the_title_is_in_the_papers_notation(algorithm: str, title: str) -> None:
    grouped = "64,100,50,30,10" if algorithm == "ff" else "64,(100,50),(30,10)"
    spec = spec_of(dataset="digits", architecture=grouped, algorithm=algorithm)
    assert f"<dc:title>{title}</dc:title>" in figure3([], spec=spec).decode()


def test_backpropagation_has_one_loss_and_no_goodness() -> None:
    svg = figure3(BACKPROP, spec=spec_of(algorithm="bp"))
    loss_panel, _ = panels(svg)
    (curve,) = lines(loss_panel, "#000000")
    assert curve[:, 1] == pytest.approx(np.array([2 / 2.1, 1 / 2.1]), abs=1e-4)
    assert "Cross-entropy of the network" in texts(svg)
    assert not [text for text in texts(svg) if "unit" in text or "goodness" in text or "θ" in text]


def test_a_run_without_an_epoch_says_so() -> None:
    svg = figure3([], spec=spec_of(), note="queued")
    assert panels(svg) == []
    assert "no epoch has finished" in texts(svg)


def test_one_epoch_is_a_mark() -> None:
    loss_panel, *_ = panels(figure3(TWO_UNITS[:1]))
    marks = [mark for mark in loss_panel.iter(f"{SVG}use") if f"fill: {BLUE}" in mark.get("style", "")]
    assert len(marks) == 1
    assert "1" in texts(figure3(TWO_UNITS[:1]))


def test_many_units_have_a_scale_of_colours_for_a_legend() -> None:
    units = 64
    run = [epoch(number, [1.0 / number] * units, [2.0] * units, [1.0] * units) for number in range(1, 30)]
    svg = figure3(run, spec=spec_of(architecture="784," + ",".join(["(20,10)"] * units)))
    drawn = [path.get("style", "") for path in panels(svg)[0].iter(f"{SVG}path") if path.get("clip-path")]
    assert len({stroke for style in drawn for stroke in re.findall("stroke: (#\\w+)", style)} - {GRID}) == units
    assert {"hidden unit", "1", "64"} <= set(texts(svg))
    assert not [text for text in texts(svg) if text.startswith("unit ")]


def test_a_long_run_is_thinned_and_keeps_its_last_epoch() -> None:
    """100,000 epochs of 500 are every 200th: 200, 400, ... 100,000."""
    run = [epoch(number, [number % 7.0], [2.0], [1.0]) for number in range(1, 100_001)]
    svg = figure3(run)
    (curve,) = lines(panels(svg)[0], BLUE)
    assert 400 < len(curve) <= 500
    assert curve[[0, -1], 0] == pytest.approx(np.array([0.04 / 1.08, 1.04 / 1.08]), abs=1e-4)
    assert len(svg) < 200_000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, 1e308])
def test_what_is_no_number_is_a_gap(value: Any) -> None:
    run = [epoch(number, [value if number == 2 else 0.5], [value], [value], None) for number in (1, 2, 3)]
    loss_panel, goodness, accuracy = panels(figure3(run))
    (curve,) = lines(loss_panel, BLUE)
    assert curve[:, 1] == pytest.approx(0.5 / 0.525, abs=1e-4)
    assert len(curve) == 2
    assert lines(goodness, BLUE) == []
    assert lines(accuracy, "#000000") == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$x^{$", "$x^{$"),
        ("a\nb\tc", "a b c"),
        ("<script>&amp;</script> ]]> -- -->", None),
        ("\x01\x7f \ud800 日", "\ufffd\ufffd \ufffd \ufffd"),
        ("Größe λ Привет", "Größe λ Привет"),
    ],
)
def test_any_name_makes_a_figure(name: str, shown: str | None) -> None:
    svg = figure3(TWO_UNITS, name=name)
    assert len(panels(svg)) == 3  # it is XML
    assert ET.fromstring(svg).find(f".//{SVG}script") is None
    if shown is not None:
        assert shown in texts(svg)
    assert figure3(TWO_UNITS, name=name, image="png")


def test_a_name_that_does_not_fit_is_cut() -> None:
    narrow, wide = (figure3(run, name="W" * 200) for run in (BACKPROP, TWO_UNITS))
    for svg, fewest, most in ((narrow, 30, 45), (wide, 45, 70)):
        (title,) = re.findall(r"<dc:title>(W+)…</dc:title>", svg.decode())
        assert fewest < len(title) < most


@pytest.mark.parametrize("image", ["svg", "png"])
def test_equal_runs_give_equal_bytes_in_any_thread(image: plots.Image) -> None:
    def draw(_: int) -> bytes:
        return figure3(TWO_UNITS, spec=spec_of(architecture="784,(100,50),(30,10)"), name="a", image=image)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(8)))) == 1
    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 20.0}):  # the user's, for other figures
        amid_others = draw(0)
        assert (mpl.rcParams["lines.linewidth"], mpl.rcParams["font.size"]) == (9.0, 20.0)
    assert amid_others == draw(0)


def test_a_png_is_as_wide_as_a_page_at_200_dots_an_inch() -> None:
    picture = Image.open(BytesIO(figure3(TWO_UNITS, image="png")))
    assert (picture.format, picture.width) == ("PNG", 1440)
    assert set(picture.info) == {"dpi"}


def test_accuracy_against_noise_is_in_percent_with_bands() -> None:
    curves = [
        Curve("IntFF", [0.0, 0.75], [0.98, 0.96], low=[0.97, 0.95], high=[0.99, 0.97]),
        Curve("BP", [0.0, 0.75], [0.98, 0.90]),
    ]
    svg = accuracy_against_noise(curves, title="784,(100,100),(100,100)")
    (panel,) = panels(svg)
    (band,) = [group for group in panel.iter(f"{SVG}g") if (group.get("id") or "").startswith("FillBetween")]
    (edge,) = band.iter(f"{SVG}path")
    assert len(set(map(tuple, points(edge)))) == 4
    (intff,), (backprop,) = lines(panel, BLUE), lines(panel, VERMILLION)
    # 90 to 99 % with a margin of a twentieth on both sides.
    assert intff[:, 1] == pytest.approx(np.array([8.45 / 9.9, 6.45 / 9.9]), abs=1e-4)
    assert backprop[:, 1] == pytest.approx(np.array([8.45 / 9.9, 0.45 / 9.9]), abs=1e-4)
    assert {"IntFF", "BP", "corrupted training images (%)", "test accuracy (%)"} <= set(texts(svg))


def test_no_curves_are_an_empty_figure() -> None:
    assert len(panels(accuracy_against_noise([]))) == 1


def test_without_matplotlib_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'intff\[train\]'"):
        figure3(TWO_UNITS)


def test_the_module_loads_neither_matplotlib_nor_torch_and_drawing_no_pyplot() -> None:
    program = (
        "import sys; from intff.plots import figure3; print(sorted({'torch', 'matplotlib'} & set(sys.modules)));"
        "figure3([]); print(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n[]\n"
