"""The broker as relay and worker see it: ring, count what waits, ask whether it answers.

Invariant: every call ends within seconds, whatever the broker does; none is made while a database session is open.
"""

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from worker.celery_app import PUBLISH_SECONDS, RING, queue_of


class Broker:
    """A connection to the broker that heals by itself."""

    def __init__(self, app: Celery, redis_url: str) -> None:
        self._app = app
        self._redis = Redis.from_url(redis_url, socket_timeout=PUBLISH_SECONDS, socket_connect_timeout=PUBLISH_SECONDS)

    def ring(self, device: str) -> None:
        """Wake one worker of that device. Raises when the broker is away."""
        self._app.send_task(RING, queue=queue_of(device), ignore_result=True)

    def waiting(self, device: str) -> int:
        """How many bells no worker has heard yet. Raises when the broker is away."""
        return int(self._redis.llen(queue_of(device)))

    def answers(self) -> bool:
        """Whether the broker is there."""
        try:
            return bool(self._redis.ping())
        except RedisError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self._app.close()
