"""A PostgreSQL that does not answer is given up on, and only that connection is lost."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from store.patience import PATIENCE_SECONDS, PatientConnection
from store.schema import upgrade

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def test_waiting_for_an_answer_ends_and_the_next_transaction_works(engine: Engine) -> None:
    with engine.connect() as connection:
        driven = connection.connection.driver_connection
        assert isinstance(driven, PatientConnection)
        driven.patience = 0.3
        began = time.monotonic()
        with pytest.raises(OperationalError, match=r"did not answer within 0\.3 s"):
            connection.execute(text("SELECT pg_sleep(5)"))
        assert time.monotonic() - began < 3
        assert connection.invalidated
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_an_answer_that_comes_in_time_is_not_given_up_on(engine: Engine) -> None:
    with engine.connect() as connection:
        driven = connection.connection.driver_connection
        assert isinstance(driven, PatientConnection)
        driven.patience = 3
        for _ in range(2):
            assert connection.execute(text("SELECT pg_sleep(0.5), 7")).one()[1] == 7


def test_a_change_of_the_schema_may_take_any_time_and_its_connection_is_as_patient_as_others_again(
    engine: Engine,
) -> None:
    upgrade(engine)
    with engine.connect() as connection:
        driven = connection.connection.driver_connection
        assert isinstance(driven, PatientConnection)
        assert driven.patience == PATIENCE_SECONDS
