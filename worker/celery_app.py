"""The Celery application: how a bell gets from the relay to a worker, and nothing more.

The message carries nothing and its loss costs a moment, so every setting here prefers an early ack and a bounded wait:
redelivery, result backends and the cancelling of tasks on a lost connection could only disturb a run of hours.
"""

from celery import Celery
from kombu.entity import Queue

RING = "bnlab.ring"
QUEUES = ("cpu", "cuda")
"""One a kind of device."""

# Connecting and publishing; a consumer waits longer than that for a bell, but then without holding anything up.
PUBLISH_SECONDS = 3.0


def queue_of(device: str) -> str:
    """The queue that workers with that device listen to."""
    return f"bnlab.{device}"


def create_celery(redis_url: str) -> Celery:
    """The application of relay and worker alike; the worker adds its task (`worker.tasks`)."""
    app = Celery("bnlab", broker=redis_url, backend=None)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_queues=[Queue(queue_of(device)) for device in QUEUES],  # type: ignore[no-untyped-call]
        task_create_missing_queues=False,
        task_publish_retry=True,
        # Once more at once: the first publish after a restart of the broker meets a connection that is gone.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_timeout=PUBLISH_SECONDS,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": PUBLISH_SECONDS,
            "socket_timeout": 10 * PUBLISH_SECONDS,
            "socket_keepalive": True,
            "max_retries": 1,
        },
    )
    return app
