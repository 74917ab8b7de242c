"""Models in memory, ready to answer: found by id or alias, verified, and run on ONNX Runtime."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from threading import Lock
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray

from intff.predictions import Outputs, Prediction, predictions
from service.errors import ModelCorrupt
from service.model_files import GRAPH, read_graph
from service.single_flight import SingleFlight
from store import queries
from store.artifacts import Artifacts
from store.database import Sessions
from store.ids import is_id

log = structlog.get_logger("intff.prediction")

Floats = NDArray[np.float32]

_MOST_MODELS = 32  # in memory; a model within the default limits takes at most 200 MB, a typical one 1 MB
_ALIAS_SECONDS = 0.1  # how long another process's change of an alias may go unseen
_BATCH = 128  # images in one run: each label's variant of each image is in memory at once


@dataclass(frozen=True)
class ServedModel:
    """A verified model, loaded; safe to use from several threads."""

    id: str
    owner: str
    labels: list[str]
    image_shape: tuple[int, int, int]
    session: Any  # ONNX Runtime ships no types
    outputs: tuple[str, ...]
    seconds_per_image: float
    """Measured when it was loaded; decides whether an answer may be computed in the event loop."""

    def predict(self, images: Floats) -> list[Prediction]:
        """Classify images, [N, C, H, W], from 0 to 1."""
        found: list[Prediction] = []
        for start in range(0, len(images), _BATCH):
            values = self.session.run(self.outputs, {"images": images[start : start + _BATCH]})
            found += predictions(Outputs(**dict(zip(self.outputs, values, strict=True))), self.labels)
        return found


class Predictor:
    """The models of one API process.

    All methods but `forget_aliases` and `heard_of` must be called in the event loop.
    """

    def __init__(self, sessions: Sessions, artifacts: Artifacts, most_models: int = _MOST_MODELS) -> None:
        self._sessions = sessions
        self._artifacts = artifacts
        self._most_models = most_models
        self._models: OrderedDict[str, ServedModel] = OrderedDict()
        self._aliases: dict[tuple[str, str], tuple[str, float]] = {}
        self._alias_generation = 0
        self._newest = ""
        self._resolving = SingleFlight()
        self._loading = SingleFlight()
        self._alias_lock = Lock()

    async def find(self, name: str, owner: str) -> ServedModel:
        """A model by its id or an alias; one in memory is found without the database.

        Raises:
            NotFound: there is none, or it is another owner's.
            ModelCorrupt: its stored graph is not the one that was published.
        """
        model = self.at_hand(name, owner)
        if model is not None:
            return model
        model_id = name if is_id(name, "model") else self._known_alias(name, owner)
        if model_id is None:
            # A lookup that starts after an alias has changed must not share the result of one that started before.
            key = (owner, name, self._alias_generation)
            model_id = await self._resolving.ask(key, partial(asyncio.to_thread, self._resolve, name, owner))
        model = self._models.get(model_id)
        if model is None or model.owner != owner:
            # The owner is part of the key: for another owner there is no such model. The database decides, since the
            # first API key takes over the models that were made without one.
            model = await self._loading.ask((model_id, owner), partial(self._load_and_keep, model_id, owner))
        return model

    def at_hand(self, name: str, owner: str) -> ServedModel | None:
        """The same model if it is in memory and belongs to the owner, else None; never waits."""
        model_id = name if name in self._models else self._known_alias(name, owner)
        model = self._models.get(model_id) if model_id else None
        if model is None or model.owner != owner:
            return None
        self._models.move_to_end(model.id)
        return model

    def forget_aliases(self) -> None:
        """Drop all cached aliases; called after one has changed, from any thread."""
        with self._alias_lock:
            self._alias_generation += 1
            self._aliases.clear()

    def heard_of(self, model_id: str | None) -> None:
        """Note that a client is about to be told of a model: if it is the newest, `latest` must point at it."""
        if model_id is not None and model_id > self._newest:  # ids rise with time
            self._newest = model_id
            self.forget_aliases()

    def _known_alias(self, name: str, owner: str) -> str | None:
        known = self._aliases.get((owner, name))
        return known[0] if known and monotonic() < known[1] else None

    def _resolve(self, name: str, owner: str) -> str:
        generation, began = self._alias_generation, monotonic()
        with self._sessions() as session:
            model_id = queries.get_model(session, name, owner=owner).id
        with self._alias_lock:
            # Do not cache the old target of an alias that has changed since the lookup.
            if generation == self._alias_generation:
                if len(self._aliases) >= 1000:  # noqa: PLR2004 -- far more than are in use; most have expired
                    self._aliases.clear()
                self._aliases[owner, name] = (model_id, began + _ALIAS_SECONDS)
        return model_id

    async def _load_and_keep(self, model_id: str, owner: str) -> ServedModel:
        model = await asyncio.to_thread(self._load, model_id, owner)
        self._models[model_id] = model
        while len(self._models) > self._most_models:
            self._models.popitem(last=False)
        return model

    def _load(self, model_id: str, owner: str) -> ServedModel:
        with self._sessions() as session:
            row = queries.get_model(session, model_id, owner=owner)
        began = perf_counter()
        graph = read_graph(self._artifacts, row)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # requests run in parallel; more threads per run would compete for cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            loaded = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has its own class for each way a graph can be invalid
            msg = f"{GRAPH} of {row.id!r} cannot be loaded: {error}"
            raise ModelCorrupt(msg) from error
        shape = tuple(row.manifest["image_shape"])
        served = ServedModel(
            id=row.id,
            owner=row.owner,
            labels=row.manifest["labels"],
            image_shape=shape,
            session=loaded,
            outputs=tuple(output.name for output in loaded.get_outputs()),
            seconds_per_image=_measure(loaded, shape),
        )
        log.info("model_loaded", model=row.id, seconds=round(perf_counter() - began, 3))
        return served


def _measure(session: Any, shape: tuple[int, ...]) -> float:  # noqa: ANN401 -- ONNX Runtime ships no types
    image = np.zeros((1, *shape), np.float32)
    seconds = []
    for _ in range(6):
        began = perf_counter()
        session.run(None, {"images": image})
        seconds.append(perf_counter() - began)
    return min(seconds)  # the first run also allocates, and a busy machine interrupts some
