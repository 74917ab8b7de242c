"""How large a run would be, told from its spec alone, and the refusal of one that is too large."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from intff.errors import SpecError
from intff.spec.algorithm import BP
from intff.spec.train import TrainSpec

_BYTES = 4  # float32
SCORED_AT_ONCE = 1000
"""Images of which every label is tried at once, to measure accuracy."""
_COPIES = 4  # weights, their gradients, and Adam's two moments


@dataclass(frozen=True)
class Limits:
    """What one run may take; the defaults fit the smallest machine the project is meant for."""

    max_parameters: int = 50_000_000
    max_memory_bytes: int = 8 * 2**30


@dataclass(frozen=True)
class Size:
    """What a run would take: parameters, and bytes at the peak of training."""

    parameters: int
    memory_bytes: int


def size_of(spec: TrainSpec) -> Size:
    """Estimate a run's size without allocating anything; the memory is rounded up, not exact."""
    classes = len(spec.dataset.labels)
    widths = [spec.architecture.input_size, *(width for unit in spec.architecture.units for width in unit)]
    parameters = sum(below * above + above for below, above in pairwise(widths))
    if isinstance(spec.algorithm, BP):
        parameters += (widths[-1] + 1) * classes
        variants = 1
    else:
        outputs = sum(unit[-1] for unit in spec.architecture.units)
        parameters += (outputs + 1) * classes if spec.algorithm.classifier == "softmax" else 0
        variants = max(1 + spec.algorithm.negatives.count, classes)  # scoring tries every label
    # Each layer's output is kept before and after the activation, and has a gradient.
    at_once = max(min(spec.training.batch_size, spec.dataset.train_images), SCORED_AT_ONCE)
    activations = 3 * variants * sum(widths) * at_once
    images = 2 * spec.dataset.train_images * spec.architecture.input_size
    return Size(parameters, _BYTES * (_COPIES * parameters + activations + images))


def require_within(spec: TrainSpec, limits: Limits) -> None:
    """Refuse a spec that is larger than allowed.

    Raises:
        SpecError: it has too many parameters, or would need too much memory.
    """
    size = size_of(spec)
    if size.parameters > limits.max_parameters:
        msg = f"the network would have {size.parameters:,} parameters; at most {limits.max_parameters:,} are allowed"
        raise SpecError(msg, field="architecture.units")
    if size.memory_bytes > limits.max_memory_bytes:
        msg = (
            f"training would need about {size.memory_bytes / 2**30:,.1f} GiB; at most "
            f"{limits.max_memory_bytes / 2**30:,.1f} GiB are allowed; make the batch or the network smaller"
        )
        raise SpecError(msg, field="training.batch_size")
