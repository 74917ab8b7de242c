"""Models are found by id, by alias and as the latest, each by its owner only."""

from __future__ import annotations

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from intff.spec import read_spec
from store.attempts import claim, succeed
from store.database import Sessions
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.jobs import submit
from store.models import get_model, list_models, set_alias
from store.overview import aliases_of
from store.tables import NO_OWNER, Model

SPEC = read_spec({"dataset": "digits"})


def publish(session: Session, owner: str = NO_OWNER) -> Model:
    taken = claim(session, submit(session, SPEC, owner=owner).id, worker="w", lease_seconds=15, max_attempts=3)
    assert taken is not None
    model = succeed(session, taken, manifest={}, prefix="p", result={})
    assert model is not None
    return model


def test_a_model_is_found_by_its_id_by_an_alias_and_as_the_latest(db: Sessions) -> None:
    with db.begin() as session:
        with pytest.raises(NotFound, match="no model yet"):
            get_model(session, "latest")
        first, second = sorted((publish(session).id, publish(session).id))
        set_alias(session, "production", first)
        assert get_model(session, first).id == first
        assert get_model(session, "production").id == first
        assert get_model(session, "latest").id == second
        with pytest.raises(NotFound, match="'staging'"):
            get_model(session, "staging")


def test_an_alias_can_be_pointed_at_another_model(db: Sessions) -> None:
    with db.begin() as session:
        one, two = publish(session).id, publish(session).id
        set_alias(session, "best", one)
        first_time = set_alias(session, "best", one).updated_at
        moved = set_alias(session, "best", two)
        assert (moved.model_id, moved.updated_at >= first_time) == (two, True)
        assert get_model(session, "best").id == two
        set_alias(session, "also", two)
        assert aliases_of(session, [one, two]) == {one: [], two: ["also", "best"]}


def test_owners_see_their_own_models_and_aliases_only(db: Sessions) -> None:
    with db.begin() as session:
        anns = publish(session, "ann")
        set_alias(session, "best", anns.id, owner="ann")
        for name in (anns.id, "best", "latest"):
            with pytest.raises(NotFound):
                get_model(session, name, owner="bob")
            assert get_model(session, name, owner="ann").id == anns.id
        with pytest.raises(NotFound):
            set_alias(session, "best", anns.id, owner="bob")
        bobs = publish(session, "bob")
        set_alias(session, "best", bobs.id, owner="bob")
        assert get_model(session, "best", owner="ann").id == anns.id
        assert [model.id for model in list_models(session, owner="bob").rows] == [bobs.id]


@pytest.mark.parametrize("alias", ["latest", "mdl_00000000000000000000000000"])
def test_a_reserved_name_is_no_alias(db: Sessions, alias: str) -> None:
    with db.begin() as session:
        model = publish(session)
        with pytest.raises(Conflict, match="reserved") as refused:
            set_alias(session, alias, model.id)
        assert refused.value.code == "alias_reserved"


def test_pages_of_models_go_from_the_newest_to_the_oldest(db: Sessions) -> None:
    with db.begin() as session:
        made = sorted((publish(session).id for _ in range(3)), reverse=True)
        first = list_models(session, limit=2)
        second = list_models(session, limit=2, after=first.rows[-1].id)
        assert [model.id for model in (*first.rows, *second.rows)] == made
        assert (first.has_more, second.has_more) == (True, False)


def test_the_database_itself_refuses_a_second_model_of_a_job(db: Sessions) -> None:
    with db() as session:
        model = publish(session)
        second = {"id": new_id("model"), "job_id": model.job_id, "owner": "", "spec": {}, "manifest": {}, "prefix": ""}
        with pytest.raises(IntegrityError):
            session.execute(insert(Model).values(**second))
