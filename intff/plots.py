"""Figures of training runs as SVG or PNG bytes: the paper's Figure 3, and curves with confidence bands."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from math import ceil, prod
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from intff.errors import MissingExtra
from intff.notation import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = Literal["svg", "png"]
Floats = NDArray[np.float64]
Metrics = Mapping[str, Any]
"""One finished epoch, with the fields of `intff.progress.EpochMetrics`."""

MOST_POINTS = 500
"""Maximum number of epochs drawn; a panel is about 600 dots wide in print and cannot show more."""

NO_EPOCH = "no epoch has finished"

_PANEL, _HEIGHT, _LINE = 2.4, 2.3, 0.16  # inches: three panels span the text width of a page
_DOTS_PER_INCH = 200
_TITLE_SIZE = 8  # points, as are the sizes below
_SCALE = "viridis"
_GREY = "#555555"
_DASHES = (0, (3, 1.5))  # the length of a dash and of a gap, in line widths
_ONE_ROW = 6  # maximum number of legend entries in one row
_LARGEST = 1e30  # larger values are not drawn; matplotlib's internal sums would overflow far above it
_FEW = 25  # up to this many points get markers: a line of one point would be invisible
_LONGEST_LINE = 400  # characters of a title that are measured; far more than fit
_LONGEST_UNIT = 22  # characters of a unit's layers in the legend

# The colour-blind-safe palette of Okabe and Ito, without yellow, which is too faint on paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_ALGORITHMS = {"intff": "IntFF", "ff": "FF", "bp": "BP"}

# DejaVu ships with matplotlib and covers most alphabets, so that a figure looks the same everywhere.
_FONT = "DejaVu Sans"
_STYLE: dict[str, Any] = {
    "font.family": _FONT,
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 2.5,
    "figure.constrained_layout.w_pad": 0.08,
    "text.parse_math": False,  # a job may be called $x$
    "svg.fonttype": "path",  # the same glyphs even if DejaVu is not installed
    "svg.hashsalt": "intff",  # ids inside an SVG would otherwise be random
}

_lock = Lock()  # matplotlib's settings are global to the process


@dataclass(frozen=True)
class Curve:
    """One line of a figure, with a band around it if `low` and `high` are given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    """Bounds of the band, as long as `x`; for example, a confidence interval over seeds."""


def require_matplotlib() -> None:
    """Check, before a long run, that its figure can be drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        msg = "figures need matplotlib; install it with: pip install 'intff[train]' (or 'intff[service]')"
        raise MissingExtra(msg)


def figure3(
    metrics: Sequence[Metrics],
    *,
    spec: Mapping[str, Any] | None = None,
    name: str | None = None,
    note: str | None = None,
    image: Image = "svg",
) -> bytes:
    """Draw the losses of a run as in the paper's Figure 3, next to the units' goodness and the accuracy.

    Equal arguments give equal bytes, in any thread. A run of many epochs is thinned to `MOST_POINTS`.

    Args:
        metrics: the finished epochs in order; without any, the figure says so.
        spec: the run's complete spec as JSON, for the title, the unit names and theta.
        name: the name of the run, for the title.
        note: another line of the title, such as the progress of the run.
        image: the format.

    Returns:
        The image file's bytes.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    drawn = _thinned(metrics)
    epochs = np.array([each["epoch"] for each in drawn], dtype=float)
    losses, positive, negative = (
        _numbers([each[f"unit_{part}"] for each in drawn])  # [epochs, units]
        for part in ("losses", "goodness_positive", "goodness_negative")
    )
    accuracy = _numbers([[each["validation_accuracy"]] for each in drawn])
    theta = _theta(spec["algorithm"]) if spec else None
    is_local = positive.size > 0
    width = _PANEL * (3 if is_local or not drawn else 2)
    with _figure(width, [name or "", _about(spec) if spec else "", note or ""]) as (figure, save):
        if not drawn:
            figure.text(0.5, 0.45, NO_EPOCH, ha="center", va="center", fontsize=9, color=_GREY)
            return save(image)
        panels = figure.subplots(1, 3 if is_local else 2)
        loss_panel, accuracy_panel = panels[0], panels[-1]
        colours = _colours(losses.shape[1])
        _lines(loss_panel, epochs, losses, colours if is_local else ["black"])
        shown = losses[np.isfinite(losses)]
        if shown.size and shown.min() >= 0 < shown.max():
            loss_panel.set_ylim(0, 1.05 * shown.max())
        loss_panel.set_title("Local loss of each hidden unit" if is_local else "Cross-entropy of the network")
        loss_panel.set_ylabel("local loss" if is_local else "loss")
        if is_local:
            _lines(panels[1], epochs, positive, colours)
            _lines(panels[1], epochs, negative, colours, dashed=True)
            panels[1].set_title("Goodness of each hidden unit")
            panels[1].set_ylabel("goodness")
            if theta is not None:
                panels[1].axhline(theta, color=_GREY, linestyle=":", label=f"θ = {theta:g}")
            _legend(figure, panels, _unit_names(spec, losses.shape[1]), colours)
        _lines(accuracy_panel, epochs, 100 * accuracy, ["black"])
        accuracy_panel.set_title("Accuracy on the validation split")
        accuracy_panel.set_ylabel("accuracy (%)")
        for panel in panels:
            _count_epochs(panel, epochs)
        return save(image)


def accuracy_against_noise(curves: Sequence[Curve], *, title: str = "", image: Image = "svg") -> bytes:
    """Draw test accuracy against the share of corrupted training data, with one curve per algorithm.

    Args:
        curves: `x` is the corrupted share and `y` the accuracy, both 0 to 1.
        title: above the figure.
        image: the format.

    Returns:
        The image file's bytes.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with _figure(1.5 * _PANEL, [title]) as (figure, save):
        panel = figure.subplots()
        _draw_curves(panel, curves)
        panel.set_xlabel("corrupted training images (%)")
        panel.set_ylabel("test accuracy (%)")
        return save(image)


@contextmanager
def _figure(width: float, titles: Sequence[str]) -> Iterator[tuple[Figure, Callable[[Image], bytes]]]:
    """Yield an empty figure with titles, and a function that saves it to bytes; one at a time per process."""
    require_matplotlib()
    import matplotlib as mpl  # noqa: PLC0415 -- takes half a second and 40 MB, so only for drawing
    from matplotlib.figure import Figure  # noqa: PLC0415

    with _lock, mpl.rc_context():
        mpl.rcdefaults()  # ignores the user's matplotlib configuration
        mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]  # its stubs list every setting's name
        lines = [_fitted(line, 72 * width - 10) for line in titles if line]
        figure = Figure(figsize=(width, _HEIGHT + _LINE * len(lines)), layout="constrained")
        figure.suptitle("\n".join(lines), fontsize=_TITLE_SIZE, linespacing=1.35)

        def save(image: Image) -> bytes:
            file = BytesIO()
            # Neither date nor program version, so that the same run gives the same bytes.
            about = {"Title": "; ".join(lines), "Date": None, "Creator": None} if image == "svg" else {"Software": None}
            figure.savefig(file, format=image, dpi=_DOTS_PER_INCH, metadata=about)
            return file.getvalue()

        yield figure, save


def _thinned(metrics: Sequence[Metrics]) -> list[Metrics]:
    """Every epoch, or every n-th one counted back from the last."""
    every = max(1, ceil(len(metrics) / MOST_POINTS))
    return list(metrics[(len(metrics) - 1) % every :: every])


def _numbers(rows: Sequence[Sequence[float | None]]) -> Floats:
    """Convert to floats; missing, NaN and too large values become NaN, which leaves a gap."""
    values = np.array(rows, dtype=float)
    values[~(np.abs(values) < _LARGEST)] = np.nan
    return values


def _about(spec: Mapping[str, Any]) -> str:
    """A run's title, in the paper's notation: `IntFF (784,(200,200,200),(50,50)) on mnist, noise: paper_mixture`."""
    kind, noise = spec["algorithm"]["kind"], spec["noise"]["kind"]
    size = prod(spec["architecture"]["input_shape"])
    layers = ",".join([str(size), *_unit_layers(spec)])
    with_noise = "" if noise == "none" else f", noise: {noise}"
    return f"{_ALGORITHMS.get(kind, kind)} ({layers}) on {spec['dataset']['kind']}{with_noise}"


def _theta(algorithm: Mapping[str, Any]) -> float | None:
    """The threshold, if the loss has one."""
    theta: float | None = algorithm["theta"] if str(algorithm.get("loss", "")).startswith("softplus") else None
    return theta


def _unit_layers(spec: Mapping[str, Any]) -> list[str]:
    """The layers of each unit in the paper's notation; except for IntFF, each layer alone, without parentheses."""
    units = spec["architecture"]["units"]
    if spec["algorithm"]["kind"] == "intff":
        return [_layers(unit) for unit in units]
    return [_layers([layer])[1:-1] for unit in units for layer in unit]


def _layers(unit: Sequence[Any]) -> str:
    return write(1, [unit]).partition(",")[2]


def _unit_names(spec: Mapping[str, Any] | None, count: int) -> list[str]:
    """Names of the units: their numbers, with their layers if these are known and short."""
    layers = _unit_layers(spec) if spec else []
    if len(layers) != count or max(map(len, layers)) > _LONGEST_UNIT:
        return [f"unit {number}" for number in range(1, count + 1)]
    return [f"unit {number}: {each}" for number, each in enumerate(layers, start=1)]


def _colours(count: int) -> list[Any]:
    """A colour for each unit: distinct ones for a few units, a colour scale for many."""
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    from matplotlib import colormaps  # noqa: PLC0415 -- see _figure

    return list(colormaps[_SCALE](np.linspace(0, 0.92, count)))


def _lines(panel: Axes, epochs: Floats, values: Floats, colours: Sequence[Any], *, dashed: bool = False) -> None:
    """One line for each column of `values`, [epochs, lines]."""
    marker = "o" if len(epochs) <= _FEW else None
    for column, colour in zip(values.T, colours, strict=True):
        filling = "white" if dashed else colour
        style = _DASHES if dashed else "-"
        panel.plot(epochs, column, color=colour, linestyle=style, marker=marker, markerfacecolor=filling)


def _legend(figure: Figure, panels: Sequence[Axes], names: Sequence[str], colours: Sequence[Any]) -> None:
    """Add a legend below the panels; for many units, a colour bar beside them shows the units."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 -- see _figure

    units = [Line2D([], [], color=colour, label=name) for colour, name in zip(colours, names, strict=True)]
    lines = [
        Line2D([], [], color=_GREY, label="positive data"),
        Line2D([], [], color=_GREY, label="negative data", linestyle=_DASHES),
        *(line for line in panels[1].lines if str(line.get_label()).startswith("θ")),
    ]
    few = len(names) <= len(_COLOURS)
    handles = [*units, *lines] if few else lines
    # Two rows if one is not enough; matplotlib fills a legend column by column.
    columns = len(handles) if len(handles) <= _ONE_ROW else ceil(len(handles) / 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.5)
    if not few:
        _scale(figure, panels, colours)


def _scale(figure: Figure, panels: Sequence[Axes], colours: Sequence[Any]) -> None:
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415 -- see _figure
    from matplotlib.colors import BoundaryNorm, ListedColormap  # noqa: PLC0415

    count = len(colours)
    norm = BoundaryNorm(np.arange(count + 1) + 0.5, count)
    shown = ScalarMappable(norm, ListedColormap(list(colours)))
    bar = figure.colorbar(shown, ax=list(panels), label="hidden unit", fraction=0.03, pad=0.01)
    bar.set_ticks(np.unique(np.linspace(1, count, 8).round()).tolist())
    bar.minorticks_off()


def _count_epochs(panel: Axes, epochs: Sequence[float] | Floats) -> None:
    """Set up the horizontal axis, with whole epochs."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 -- see _figure

    panel.set_xlabel("epoch")
    first, last = min(epochs, default=1), max(epochs, default=1)
    margin = (last - first) / 25 or 1
    panel.set_xlim(first - margin, last + margin)
    most = 8 if last < 1000 else 4  # noqa: PLR2004 -- longer numbers need more room
    panel.xaxis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True))


def _draw_curves(panel: Axes, curves: Sequence[Curve]) -> None:
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        marker = _MARKERS[number % len(_MARKERS)]
        x, y, low, high = (100 * _numbers([part])[0] for part in (curve.x, curve.y, curve.low, curve.high))
        panel.plot(x, y, color=colour, marker=marker, markersize=3.5, label=curve.name)
        if low.size and high.size:
            panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    if len(curves) > 0:
        panel.legend(loc="best")


def _fitted(text: str, points: float) -> str:
    """Fit a text into one line of at most this width, replacing characters that the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415 -- see _figure
    from matplotlib.textpath import text_to_path  # noqa: PLC0415

    font = FontProperties(family=_FONT, size=_TITLE_SIZE)
    known = get_font(findfont(font)).get_charmap()
    words = " ".join(text.split())[:_LONGEST_LINE]
    line = "".join(letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}" for letter in words)

    def is_short(shown: str) -> bool:
        width, _, _ = text_to_path.get_text_width_height_descent(shown, font, ismath=False)
        return bool(width <= points)

    if is_short(line):
        return line
    kept = bisect_left(range(len(line)), x=True, key=lambda length: not is_short(line[:length] + "…"))
    return line[: kept - 1].rstrip() + "…"
