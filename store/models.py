"""Published models and the aliases that point at them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.clock import clock
from store.errors import Conflict, NotFound
from store.ids import is_id
from store.pages import Page, read_page
from store.statements import CHANGE, insert_into
from store.tables import NO_OWNER, Alias, Model

LATEST = "latest"
"""The built-in alias: it always points at the owner's newest model."""


def get_model(session: Session, name: str, *, owner: str = NO_OWNER) -> Model:
    """Read a model by its id, by an alias, or as `latest`.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    query = select(Model).where(Model.owner == owner)
    if name == LATEST:
        query = query.order_by(Model.id.desc()).limit(1)
    elif is_id(name, "model"):
        query = query.where(Model.id == name)
    else:
        query = query.join(Alias, (Alias.model_id == Model.id) & (Alias.owner == Model.owner)).where(
            Alias.alias == name
        )
    model = session.scalars(query).one_or_none()
    if model is None:
        msg = "there is no model yet" if name == LATEST else f"there is no model and no alias {name!r}"
        raise NotFound(msg)
    return model


def list_models(session: Session, *, owner: str = NO_OWNER, after: str | None = None, limit: int = 20) -> Page[Model]:
    """Read a page of models, newest first.

    Args:
        session: the session to read with.
        owner: whose models.
        after: the last id of the previous page.
        limit: how many models, at most.
    """
    return read_page(session, Model, [Model.owner == owner], after, limit)


def set_alias(session: Session, alias: str, model_id: str, *, owner: str = NO_OWNER) -> Alias:
    """Point an alias at a model; it may have pointed at another one before.

    Raises:
        NotFound: there is no such model, or it is another owner's.
        Conflict: the name is reserved: it is `latest`, or looks like a model's id.
    """
    if alias == LATEST or is_id(alias, "model"):
        msg = f"the alias {alias!r} is reserved; choose another name"
        raise Conflict(msg, code="alias_reserved")
    model = get_model(session, model_id, owner=owner)
    return session.scalars(
        insert_into(session, Alias)
        .values(owner=model.owner, alias=alias, model_id=model.id)
        .on_conflict_do_update(index_elements=["owner", "alias"], set_={"model_id": model.id, "updated_at": clock()})
        .returning(Alias),
        execution_options=CHANGE,
    ).one()
