"""The servers that tests are given."""

from collections.abc import Callable
from typing import Any

import psycopg
import redis
from sqlalchemy import delete

from bncore.spec import load_spec
from store import experiments, keys
from store.database import Database
from store.experiments import Submission
from store.tables import Bell


def test_a_restarted_redis_listens_on_the_same_port_and_has_lost_its_data(redis_server: Callable[[], Any]) -> None:
    server = redis_server()
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    server.stop()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("key") is None


def test_a_lent_database_keeps_nothing_of_the_test_before(postgresql_template: Any) -> None:
    with postgresql_template.lend() as url:
        database = Database(url)
        with database.write() as session:
            keys.create(session, "test")
            experiments.submit(session, Submission.of(load_spec({})), owner="own_1", device="cpu")
            session.execute(delete(Bell))
        database.dispose()
    with postgresql_template.lend() as again, psycopg.connect(again) as connection:
        assert again == url
        (pages,) = connection.execute(
            "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
        ).fetchone()
        assert pages == 0
        numbers = connection.execute("SELECT last_value FROM pg_sequences WHERE schemaname = 'public'").fetchall()
        assert numbers
        assert {last for (last,) in numbers} == {None}
