"""Finding a model: many who ask at once are one question to the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session

from service.prediction import Predictor
from store import queries, tables
from store.artifacts import Artifacts
from store.database import Sessions, connect, read_sessions
from store.settings import Settings
from store.tables import NO_OWNER

# Which database there is makes no difference to any of this.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Door:
    """Stands behind the database's answer about a model; while it is shut, who has asked does not hear it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.someone_waits = threading.Event()
        self.open = threading.Event()
        self._get_model = queries.get_model

    def get_model(self, session: Session, name: str, *, owner: str) -> tables.Model:
        self.asked.append(name)
        try:
            return self._get_model(session, name, owner=owner)
        finally:
            if not self.open.is_set():
                self.someone_waits.set()
                assert self.open.wait(20)

    async def shut_behind(self) -> None:
        """Wait until somebody stands at it."""
        assert await asyncio.to_thread(self.someone_waits.wait, 20)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()
    monkeypatch.setattr(queries, "get_model", door.get_model)
    return door


@pytest.fixture
def predictor(settings: Settings) -> Iterator[Predictor]:
    engine = connect(settings.database_url)
    yield Predictor(read_sessions(engine), Artifacts(settings.artifacts_url))
    engine.dispose()


def test_many_who_ask_for_an_alias_are_one_question(predictor: Predictor, door: Door, make_model: Any) -> None:
    model = make_model()

    async def ask() -> list[str]:
        asking = [asyncio.create_task(predictor.find("latest", NO_OWNER)) for _ in range(20)]
        await door.shut_behind()
        door.open.set()
        return [found.id for found in await asyncio.gather(*asking)]

    assert asyncio.run(ask()) == [model] * 20
    assert door.asked.count("latest") == 1


def test_who_goes_away_leaves_the_answer_to_the_others(predictor: Predictor, door: Door, make_model: Any) -> None:
    model = make_model()

    async def ask() -> str:
        first, second = (asyncio.create_task(predictor.find("latest", NO_OWNER)) for _ in range(2))
        await door.shut_behind()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        door.open.set()
        return (await second).id

    assert asyncio.run(ask()) == model
    assert door.asked.count("latest") == 1


def test_an_alias_that_is_moved_during_a_question_is_asked_for_again(
    predictor: Predictor, door: Door, db: Sessions, make_model: Any
) -> None:
    before, after = make_model(), make_model()
    move(db, before)

    async def ask() -> tuple[str, str, str]:
        early = asyncio.create_task(predictor.find("mine", NO_OWNER))
        await door.shut_behind()  # the first has read where the alias pointed
        await asyncio.to_thread(move, db, after)
        predictor.forget_aliases()
        late = asyncio.create_task(predictor.find("mine", NO_OWNER))
        await asyncio.sleep(0)  # it asks now, while the first still waits
        door.open.set()
        answers = (await early).id, (await late).id
        return *answers, (await predictor.find("mine", NO_OWNER)).id

    assert asyncio.run(ask()) == (before, after, after)


@pytest.mark.parametrize("is_there", [True, False])
def test_many_who_ask_for_a_model_are_one_question(
    predictor: Predictor, door: Door, make_model: Any, *, is_there: bool
) -> None:
    name = make_model() if is_there else "mdl_00000000000000000000000000"

    async def ask() -> list[Any]:
        asking = [asyncio.create_task(predictor.find(name, NO_OWNER)) for _ in range(20)]
        await door.shut_behind()
        asking[0].cancel()
        await asyncio.wait([asking[0]])
        door.open.set()
        return await asyncio.gather(*asking[1:], return_exceptions=True)

    expected = name if is_there else f"there is no model and no alias {name!r}"
    assert [getattr(each, "id", str(each)) for each in asyncio.run(ask())] == [expected] * 19
    assert door.asked == [name]


def test_owners_ask_apart(predictor: Predictor, door: Door, make_model: Any) -> None:
    models = [make_model(owner="ann"), make_model(owner="bob")]
    door.open.set()

    async def ask() -> list[str]:
        return [each.id for each in await asyncio.gather(*(predictor.find("latest", who) for who in ("ann", "bob")))]

    assert asyncio.run(ask()) == models


def test_an_error_is_everybodys_and_not_kept(predictor: Predictor, door: Door, make_model: Any) -> None:
    door.open.set()

    async def ask() -> tuple[list[Any], str, str]:
        asking = [predictor.find("latest", NO_OWNER) for _ in range(3)]
        errors = await asyncio.gather(*asking, return_exceptions=True)
        model = make_model()
        return errors, model, (await predictor.find("latest", NO_OWNER)).id

    errors, model, found = asyncio.run(ask())
    assert [str(each) for each in errors] == ["there is no model yet"] * 3
    assert door.asked == ["latest", "latest", model]
    assert found == model


def move(db: Sessions, model: str) -> None:
    with db.begin() as session:
        queries.set_alias(session, "mine", model, owner=NO_OWNER)
