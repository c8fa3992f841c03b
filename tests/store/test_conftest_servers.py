"""The servers that tests are given."""

from collections.abc import Callable
from typing import Any

import redis


def test_a_restarted_redis_listens_on_the_same_port_and_has_lost_its_data(redis_server: Callable[[], Any]) -> None:
    server = redis_server()
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    server.stop()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("key") is None
