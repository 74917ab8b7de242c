"""Training and scoring, compared with plain PyTorch backpropagation through the same layers, interleaved in one run.

    python benchmarks/training.py [--rounds 15] [--threads 2]

For 784,(200,200,200),(50,50) and batches of 256, prints the time of an IntFF epoch relative to an epoch of a simple BP
loop (ReLU, fused Adam, data gathered once), and of scoring 10,000 images for ten labels relative to BP's forward pass.
"operations" is the ratio of the multiply-adds of the matrix products to BP's, a lower bound for the ratio of times.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from intff.batches import Movable, draw_epoch
from intff.build import build_network, draw_negatives
from intff.inference import score
from intff.learning import Learner
from intff.objectives import StepLosses
from intff.runs import added
from intff.spec import TrainSpec, read_spec

WIDTHS = (784, 200, 200, 200, 50, 50, 10)
IMAGES = 256 * 40  # in one shortened epoch; 60,000 would only take longer
BATCH = 256


def main() -> None:
    """Measure, and print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # Without it, Adam's moments become denormal in the plain loop once these random labels are memorised; not in ours.
    torch.set_flush_denormal(True)
    images = torch.randint(256, (IMAGES, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (IMAGES,))
    plain = _plain_network()
    groups = read_spec({"training": {"jitter": 0}})
    one = _overlay(negatives=1)
    overlaid, grouped = build_network(one), build_network(groups)
    scored = torch.randint(256, (10_000, 1, 28, 28), dtype=torch.uint8)
    print(f"torch {torch.__version__}, {arguments.threads} threads, medians of {arguments.rounds} rounds\n")
    _compare(
        f"training, {IMAGES} images",
        arguments.rounds,
        {
            "BP, a plain loop": (1.0, _plain_epoch(plain, images, labels)),
            "BP, intff": (1.0, _epoch(read_spec({"algorithm": "bp", "training": {"jitter": 0}}), images, labels)),
            "IntFF, groups": (_operations(1) / _operations(0), _epoch(groups, images, labels)),
            "IntFF, groups, images shifted": (_operations(1) / _operations(0), _epoch(read_spec({}), images, labels)),
            "IntFF, overlay, one negative": (_operations(2) / _operations(0), _epoch(one, images, labels)),
            "IntFF, overlay, three negatives": (
                _operations(4) / _operations(0),
                _epoch(_overlay(negatives=3), images, labels),
            ),
        },
    )
    forward = sum(below * above for below, above in pairwise(WIDTHS))
    later = forward - WIDTHS[0] * WIDTHS[1]
    _compare(
        "scoring 10,000 images",
        arguments.rounds,
        {
            "BP's forward pass": (1.0, lambda: _plain_scores(plain, scored)),
            "ten labels, groups": (1.0, lambda: score(grouped, scored)),
            "ten labels, overlay": (1 + 9 * later / forward, lambda: score(overlaid, scored)),
            "ten plain passes": (10.0, lambda: _ten_passes(overlaid, scored)),
        },
    )


def _operations(variants: int) -> int:
    """Multiply-adds of the matrix products of a training step, per image.

    Args:
        variants: number of labels that each image is paired with; 0 means backpropagation.
    """
    products = [below * above for below, above in pairwise(WIDTHS)]
    if variants == 0:
        return 3 * sum(products) - products[0]  # forward and both gradients, except the images'
    first, *rest = products[:-1]
    # The image part of the first layer is shared, and no gradient flows from the second unit into the first.
    return 2 * first + variants * (3 * sum(rest) - WIDTHS[3] * WIDTHS[4])


def _overlay(negatives: int) -> TrainSpec:
    """The paper's label overlay, which needs one pass per label."""
    algorithm = {
        "label_encoding": "overlay",
        "negatives": {"kind": "wrong_label", "count": negatives},
        "loss": "softplus_logsumexp",
        "normalization": "rms",
    }
    architecture = {"units": [[200, 200, 200], [50, 50]], "activation": "relu"}
    return read_spec({"architecture": architecture, "algorithm": algorithm, "training": {"jitter": 0}})


def _compare(title: str, rounds: int, cases: dict[str, tuple[float, Callable[[], Any]]]) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (_, case) in cases.items():
            began = perf_counter()
            case()
            seconds[name].append(perf_counter() - began)
    first = next(iter(seconds))
    print(f"{title:44}   time   operations")
    for name, (operations, _) in cases.items():
        # The ratio is taken within each round, so that other load on the machine affects both sides.
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[first], strict=True))
        print(f"  {name:32} {statistics.median(seconds[name]) * 1000:7.1f} ms   x {ratio:.2f}   x {operations:.2f}")
    print()


def _plain_network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for below, above in pairwise(WIDTHS):
        layers += [nn.Linear(below, above), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def _plain_epoch(network: nn.Sequential, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003, fused=True)

    def epoch() -> None:
        order = torch.randperm(len(labels))
        gathered, targets = images.flatten(1).index_select(0, order), labels[order]
        for start in range(0, len(order), BATCH):
            batch = gathered[start : start + BATCH].float().div_(255)
            loss = cross_entropy(network(batch), targets[start : start + BATCH])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()

    return epoch


def _epoch(spec: TrainSpec, images: Tensor, labels: Tensor) -> Callable[[], None]:
    network = build_network(spec)
    learner = Learner(spec, network)
    learner.optimizer.rate.fill_(spec.training.learning_rate)
    movable = Movable(images, spec.training.jitter)

    def epoch() -> None:
        sums: StepLosses | None = None
        drawn = draw_epoch(
            movable,
            labels,
            seed=0,
            epoch=1,
            draw_negatives=lambda shifted, true, generator: draw_negatives(spec, shifted, true, generator),
        )
        for part in drawn.parts(BATCH):
            batch = movable.batch(*part)
            losses = learner.step(batch)
            sums = added(sums, losses, weight=len(batch.labels))

    return epoch


@torch.inference_mode()
def _plain_scores(network: nn.Sequential, images: Tensor) -> Tensor:
    return torch.cat([network(piece.flatten(1).float().div_(255)) for piece in torch.split(images, 1000)])


@torch.inference_mode()
def _ten_passes(network: Any, images: Tensor) -> Tensor:  # noqa: ANN401 -- a GoodnessNetwork
    goodness = []
    for piece in torch.split(images, 1000):
        floats = piece.float().div_(255)
        for label in range(10):
            hidden = network.encoding.apply(floats, torch.full((len(piece), 1), label)).flatten(1)
            total = torch.zeros(len(piece))
            for unit in network.units:
                hidden = unit(hidden)
                total = total + network.goodness(hidden)
            goodness.append(total)
    return torch.stack(goodness)


if __name__ == "__main__":
    main()
