"""Trains several runs of one architecture at once, with stacked weights: each step is a step of every run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from intff import training_data
from intff.adam import Adam
from intff.batches import Batch, Epoch, Movable, draw_epoch
from intff.build import build_network, build_objective, choose_device, draw_negatives
from intff.errors import SpecError
from intff.memory import named_memory_errors
from intff.model import Model
from intff.networks import Network
from intff.objectives import Objective, StepLosses
from intff.progress import Event, Finished
from intff.recorded import Recorded, Take, plainly
from intff.runs import REPORT_SECONDS, Run, added, clear, make_repeatable, on_cpu
from intff.spec import TrainSpec, read_spec


def train_together(
    specs: Sequence[TrainSpec | Mapping[str, Any]],
    *,
    on_event: Callable[[int, Event], None] | None = None,
    data_dir: Path | None = None,
) -> list[Model]:
    """Train runs that differ only in seed or learning rate; each equals what `train` does, up to rounding.

    This pays off on a GPU, which a single small network leaves mostly idle; on a CPU it takes as long as training the
    runs one after the other.

    Args:
        specs: at least one; each is a complete spec, or only the fields that differ from the defaults.
        on_event: called with the index of a run in `specs` and each of its progress events; the seconds reported for
            a run are those of all runs together.
        data_dir: where to look for the data set first.

    Returns:
        The models, in the order of `specs`.

    Raises:
        SpecError: the specs differ in other fields, or have unit_order "one_by_one".
        IntffError: as in `train`, if any of the runs fails.
    """
    read = [read_spec(spec) for spec in specs]
    trainer = StackedTrainer(read, data_dir=data_dir)
    models: dict[int, Model] = {}
    for number, event in trainer.run():
        if on_event is not None:
            on_event(number, event)
        if isinstance(event, Finished):
            models[number] = Model(trainer.runs[number].spec, trainer.runs[number].network, event.result)
    return [models[number] for number in range(len(specs))]


class StackedTrainer:
    """The training loop of several runs at once; `Trainer` is that of one. It cannot be resumed.

    Args:
        specs: at least one; they may differ only in seed and learning rate.
        data_dir: where to look for the data set first; None means INTFF_DATA_DIR.

    Raises:
        SpecError: the specs differ in other fields, or have unit_order "one_by_one".
        DatasetError: the data set is unavailable or damaged.
        DeviceUnavailable: the specs request a device that is not available.
        OutOfMemory: the data or the networks do not fit.
    """

    def __init__(self, specs: Sequence[TrainSpec], *, data_dir: Path | None = None) -> None:
        _require_alike(specs)
        first = specs[0].training
        self.device = choose_device(first.device)
        make_repeatable(self.device)
        leaders = {spec.training.seed: spec for spec in specs}
        with named_memory_errors():
            data = {seed: training_data.load(spec, self.device, data_dir=data_dir) for seed, spec in leaders.items()}
            images = [each.train_images for each in data.values()]
            self._images = Movable(torch.cat(images) if len(images) > 1 else images[0], first.jitter)
            self.runs = [Run(spec, data[spec.training.seed], build_network(spec).to(self.device)) for spec in specs]
            self._stack = Stack([run.network for run in self.runs], build_objective(specs[0], self.runs[0].network))
            # Adam has one learning rate, so it updates a tensor of zeros at the schedule's factor; each run then adds
            # this update to its weights, multiplied by its own learning rate.
            self._moves = nn.Parameter(torch.zeros_like(self._stack.weights))
            self._rates = torch.tensor([[spec.training.learning_rate] for spec in specs], device=self.device)
            self._optimizer = Adam([self._moves])
        self._seeds = list(data)
        self._sums: StepLosses | None = None
        self._take: Take = Recorded() if self.device.type == "cuda" else plainly

    def run(self) -> Iterator[tuple[int, Event]]:
        """Train, and yield progress events: the index of a run in the specs, and an event as of `Trainer.run`.

        Raises:
            Diverged: a loss or a goodness of one of the runs became NaN or infinite.
            OutOfMemory: the device ran out of memory.
        """
        with named_memory_errors():
            yield from ((number, run.started()) for number, run in enumerate(self.runs))
            epoch = 1
            while any(not run.is_over for run in self.runs):
                yield from self._epoch(epoch)
                epoch += 1
            self._stack.part()
            for number, run in enumerate(self.runs):
                yield number, run.finish()

    def _epoch(self, epoch: int) -> Generator[tuple[int, Event]]:
        going_on = [(number, run) for number, run in enumerate(self.runs) if not run.is_over]
        images, batch_size = self.runs[0].images, self.runs[0].spec.training.batch_size
        clear(self._sums)
        seconds, resumed = 0.0, perf_counter()
        reported = resumed
        starts, labels, negatives = self._draw(epoch)
        for begin in range(0, images, batch_size):
            self._optimizer.rate.fill_(self.runs[0].scheduled(epoch, begin))
            part = slice(begin, begin + batch_size)
            drawn = (starts[..., part], labels[..., part], negatives[part] if self._shares else negatives[:, part])
            self._take(self._learn, *drawn)
            seen = min(begin + batch_size, images)
            if perf_counter() - reported > REPORT_SECONDS:
                seconds += perf_counter() - resumed
                yield from ((number, run.step(epoch, seen, seconds)) for number, run in going_on)
                resumed = reported = perf_counter()
        sums = on_cpu(self._sums)  # waits for the device
        seconds += perf_counter() - resumed
        for number, run in going_on:
            yield number, run.end_epoch(epoch, seconds, StepLosses(*(total[number] for total in sums)))

    @property
    def _shares(self) -> bool:
        """Whether all runs use the same batches."""
        return len(self._seeds) == 1

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """The image offsets, labels and negatives of an epoch, [runs, images, ...], or [images, ...] if shared."""
        drawn: dict[int, Epoch] = {}
        for run in self.runs:
            seed = run.spec.training.seed
            if seed not in drawn:
                drawn[seed] = draw_epoch(
                    self._images,
                    run.data.train_labels,
                    seed=seed,
                    epoch=epoch,
                    draw_negatives=lambda shifted, labels, generator, spec=run.spec: draw_negatives(  # type: ignore[misc]
                        spec, shifted, labels, generator
                    ),
                    first=self._seeds.index(seed) * run.images,
                )
        each = [drawn[run.spec.training.seed] for run in (self.runs[:1] if self._shares else self.runs)]
        columns = ([it.images.starts for it in each], [it.labels for it in each], [it.negatives for it in each])
        starts, labels, negatives = (column[0] if self._shares else torch.stack(column) for column in columns)
        return starts, labels, negatives

    @torch.enable_grad()
    def _learn(self, starts: Tensor, labels: Tensor, negatives: Tensor) -> None:
        """Take a step of every run, and add its losses to the epoch's sums."""
        losses = self._stack.losses(self._images.batch(starts, labels, negatives), shared=self._shares)
        weights = self._stack.weights
        (self._moves.grad,) = torch.autograd.grad(losses.total.sum(), weights)
        self._optimizer.step()
        with torch.no_grad():
            weights.addcmul_(self._moves, self._rates)
            self._moves.zero_()
        self._sums = added(self._sums, losses, weight=labels.shape[-1])


class Stack:
    """Networks of one architecture with stacked weights; the parameters of each network become views of its row.

    Args:
        networks: with the same layers.
        objective: of the first network.
    """

    def __init__(self, networks: Sequence[Network], objective: Objective) -> None:
        self._networks = networks
        self._first = _Losses(objective)
        named = list(self._first.named_parameters())
        self._shapes = {name: weight.shape for name, weight in named}
        self._sizes = [weight.numel() for _, weight in named]
        with torch.no_grad():
            self.weights = torch.stack([parameters_to_vector(network.parameters()) for network in networks])
        self.weights.requires_grad_()
        """[networks, parameters]"""
        every = [dict(network.named_buffers(prefix="network")) for network in networks]
        self._buffers = {name: torch.stack([buffers[name] for buffers in every]) for name in every[0]}
        self._place(self.weights.detach(), self._buffers)

    def losses(self, batch: Batch, *, shared: bool) -> StepLosses:
        """The losses of every network, [networks, ...].

        Args:
            batch: tensors of [networks, batch, ...], or of [batch, ...] if shared.
            shared: whether all networks use the same batch.
        """
        # The fused attention kernels do not support vmap.
        with sdpa_kernel(SDPBackend.MATH):
            found: StepLosses = vmap(self._of_one, in_dims=(0, 0, None if shared else 0))(
                self.weights, self._buffers, batch
            )
        return found

    def part(self) -> None:
        """Unstack the weights: give each network its own memory."""
        buffers = {name: [row.clone() for row in stacked] for name, stacked in self._buffers.items()}
        self._place([row.clone() for row in self.weights.detach()], buffers)

    def _of_one(self, row: Tensor, buffers: dict[str, Tensor], batch: Batch) -> StepLosses:
        parts = zip(self._shapes.items(), torch.split(row, self._sizes), strict=True)
        weights = {name: part.view(shape) for (name, shape), part in parts}
        losses: StepLosses = functional_call(self._first, weights | buffers, tuple(batch))
        return losses

    def _place(self, rows: Sequence[Tensor] | Tensor, buffers: Mapping[str, Sequence[Tensor] | Tensor]) -> None:
        for number, network in enumerate(self._networks):
            vector_to_parameters(rows[number], network.parameters())
            for name, buffer in network.named_buffers(prefix="network"):
                buffer.data = buffers[name][number]


class _Losses(nn.Module):
    """An objective as a module, so that it can be called with weights other than those of its network."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.network = objective.network
        self._objective = objective

    def forward(self, images: Tensor, labels: Tensor, negatives: Tensor) -> StepLosses:
        return self._objective(images, labels, negatives)


def _require_alike(specs: Sequence[TrainSpec]) -> None:
    rule = "runs that train together may differ only in seed and learning rate"
    if not specs:
        msg = f"{rule}, and there must be at least one; got none"
        raise SpecError(msg)
    first, *others = [spec.model_dump(exclude={"training": {"seed", "learning_rate"}}) for spec in specs]
    for number, other in enumerate(others, start=1):
        parts = [part for part in first if other[part] != first[part]]
        if parts:
            msg = f"{rule}; the {parts[0]} of run {number} differs from that of run 0"
            raise SpecError(msg, field=parts[0])
    if specs[0].training.unit_order == "one_by_one":
        msg = 'runs can train together only with unit_order "together", got "one_by_one"; train them separately'
        raise SpecError(msg, field="training.unit_order")
