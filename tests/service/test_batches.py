"""Requests of one moment are run together, and each gets its own answers."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from service.batches import Batches
from service.prediction import ServedModel


class Session:
    """Scores each label by one pixel, and remembers how many images came at once."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, _outputs: None, feeds: dict[str, Any]) -> list[Any]:
        images = feeds["images"]
        self.runs.append(len(images))
        if np.isnan(images).any():
            msg = "a number is missing"
            raise ValueError(msg)
        return [images.reshape(len(images), -1)[:, :2]]


def served(session: Session, name: str = "mdl_1") -> ServedModel:
    return ServedModel(name, "", ["a", "b"], (1, 1, 2), session, ("goodness",), 0.0)


def images(*pixels: list[float]) -> Any:
    return np.array(pixels, np.float32).reshape(-1, 1, 1, 2)


async def together(*asked: Any) -> list[Any]:
    return await asyncio.gather(*asked, return_exceptions=True)


def gathering() -> Batches:
    """Batches that have just seen two requests in one turn of the loop, and so gather what comes."""
    batches, model = Batches(), served(Session())
    asyncio.run(together(batches.predict(model, images([1, 0])), batches.predict(model, images([1, 0]))))
    return batches


def test_what_arrives_together_is_one_run_and_everyone_gets_their_own() -> None:
    session, batches = Session(), gathering()
    model = served(session)
    first, second = asyncio.run(
        together(batches.predict(model, images([1, 0])), batches.predict(model, images([0, 1], [3, 1])))
    )
    assert session.runs == [3]
    assert [each.label for each in first] == ["a"]
    assert [(each.label, each.margin) for each in second] == [("b", 1.0), ("a", 2.0)]


def test_models_are_run_apart() -> None:
    one, other, batches = Session(), Session(), gathering()
    asyncio.run(
        together(batches.predict(served(one), images([1, 0])), batches.predict(served(other, "mdl_2"), images([1, 0])))
    )
    assert (one.runs, other.runs) == ([1], [1])


def test_what_comes_later_is_another_run() -> None:
    session, batches = Session(), Batches()

    async def one_after_the_other() -> None:
        await batches.predict(served(session), images([1, 0]))
        await batches.predict(served(session), images([0, 1]))

    asyncio.run(one_after_the_other())
    assert session.runs == [1, 1]


def test_the_first_of_a_crowd_runs_at_once_and_the_crowd_after_it_together() -> None:
    session, batches = Session(), Batches()
    model = served(session)

    async def crowds() -> None:
        for _ in range(2):
            await together(*(batches.predict(model, images([1, 0])) for _ in range(4)))

    asyncio.run(crowds())
    assert session.runs == [1, 3, 4]


def test_when_the_crowd_has_gone_one_alone_runs_at_once_again() -> None:
    session, batches = Session(), gathering()
    model = served(session)

    async def one_by_one() -> list[bool]:
        at_once = []
        for _ in range(100):
            before = len(session.runs)
            asked = batches.predict(model, images([1, 0]))
            try:
                asked.send(None)  # the first step of a task
            except StopIteration:
                at_once.append(True)
                await asyncio.sleep(0)
            else:
                asked.close()
                at_once.append(False)
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(session.runs) == before + 1
        return at_once

    at_once = asyncio.run(one_by_one())
    assert not at_once[0]
    assert all(at_once[50:])


def test_a_run_that_fails_fails_for_everyone_in_it() -> None:
    batches, model = gathering(), served(Session())
    found = asyncio.run(
        together(batches.predict(model, images([1, 0])), batches.predict(model, images([float("nan"), 0])))
    )
    assert [type(each) for each in found] == [ValueError, ValueError]


def test_one_who_has_left_disturbs_nobody() -> None:
    batches, model = gathering(), served(Session())

    async def leave_early() -> Any:
        leaving = asyncio.ensure_future(batches.predict(model, images([1, 0])))
        staying = asyncio.ensure_future(batches.predict(model, images([0, 1])))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    assert [each.label for each in asyncio.run(leave_early())] == ["b"]
