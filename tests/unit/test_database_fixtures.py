"""What the other tests rely on: their own database, clean each time."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import bus
from app.kit.db import get_engine, transaction
from app.settings import Settings, get_settings


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_never_sees_the_rows_of_another(session: Session, turn: int) -> None:
    assert turn
    assert session.scalar(text("select count(*) from audit")) == 0
    session.execute(text("create table only_mine ()"))
    session.commit()


def test_settings_name_the_servers_of_the_test(settings: Settings) -> None:
    assert get_settings() is settings
    assert bus.client().ping()


def test_an_own_database_takes_real_commits(committed_database: str) -> None:
    with transaction(committed_database) as session:
        session.execute(text("create table kept ()"))
    with get_engine(committed_database).connect() as connection:
        assert connection.scalar(text("select count(*) from kept")) == 0
