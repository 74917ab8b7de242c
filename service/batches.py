"""Batches predictions that arrive at the same moment, so that a model reads its weights once for all of them."""

from __future__ import annotations

import asyncio

import numpy as np

from intff.predictions import Prediction
from service.image_bodies import Floats
from service.prediction import ServedModel

_TURNS = 32  # event loop iterations for which requests are batched after two arrived in the same one

_Waiting = tuple[Floats, asyncio.Future[list[Prediction]]]


class Batches:
    """Micro-batching in one event loop; it never waits for a request that has not arrived yet.

    The loop handles everything that has arrived before it runs callbacks scheduled meanwhile, so a
    run scheduled with `call_soon` finds all of these requests waiting, and no others. While requests
    come one at a time, even that extra iteration is skipped.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[_Waiting]] = {}
        self._turn_has_one = False
        self._turns_together = 0

    async def predict(self, model: ServedModel, images: Floats) -> list[Prediction]:
        """Classify images, in one batch with other requests for the same model."""
        loop = asyncio.get_running_loop()
        if self._turn_has_one:
            self._turns_together = _TURNS
        else:
            self._turn_has_one = True
            loop.call_soon(self._end_turn)
        if not self._turns_together:
            return model.predict(images)
        answer: asyncio.Future[list[Prediction]] = loop.create_future()
        waiting = self._waiting.get(model.id)
        if waiting is None:
            self._waiting[model.id] = waiting = []
            loop.call_soon(self._run, model)
        waiting.append((images, answer))
        return await answer

    def _end_turn(self) -> None:
        self._turn_has_one = False
        self._turns_together = max(0, self._turns_together - 1)

    def _run(self, model: ServedModel) -> None:
        waiting = self._waiting.pop(model.id)
        try:
            together = waiting[0][0] if len(waiting) == 1 else np.concatenate([images for images, _ in waiting])
            found = model.predict(together)
        except Exception as error:  # noqa: BLE001 -- passed on to every waiting request
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        start = 0
        for images, answer in waiting:
            if not answer.done():
                answer.set_result(found[start : start + len(images)])
            start += len(images)
