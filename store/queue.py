"""The queue: its names, the broker's configuration, and publishing within a bounded time."""

from __future__ import annotations

from typing import Literal, Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from store.errors import BrokerUnavailable

TASK = "intff.train"
CPU = "cpu"
GPU = "gpu"
QUEUES = (CPU, GPU)

HIGHEST_PRIORITY = 9
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 2.0  # twice the longest blocking read of a worker


class Publishable(Protocol):
    """What the broker needs to know about a job."""

    @property
    def id(self) -> str:
        """The job's identifier, the only content of a message."""

    @property
    def queue(self) -> str:
        """One of `QUEUES`."""

    @property
    def priority(self) -> int:
        """From 0 to 9; higher runs first."""


def queue_for(device: Literal["auto", "cpu", "cuda"]) -> str:
    """The queue of a job: `auto` goes to the queue that every worker serves by default."""
    return GPU if device == "cuda" else CPU


def celery_app(broker_url: str) -> Celery:
    """The application that the service publishes with and the worker consumes with.

    Args:
        broker_url: `redis://...`, `rediss://...` or `redis+socket:///...`.
    """
    app = Celery("intff", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=CPU,
        broker_connection_timeout=_CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            # One list per priority; Redis reads them in this order, so 0 comes first there.
            "priority_steps": list(range(HIGHEST_PRIORITY + 1)),
            "queue_order_strategy": "priority",
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_timeout": _ANSWER_SECONDS,
            "socket_keepalive": True,
            # Publishing gives up after one try: SQL remembers the job, and the reconciler tries again.
            "max_retries": 0,
            "connect_retries_timeout": _CONNECT_SECONDS,
        },
    )
    return app


def publish(app: Celery, job: Publishable) -> None:
    """Send a job's id to the broker, once and within a bounded time.

    Raises:
        BrokerUnavailable: it was not accepted; nothing is lost, since the reconciler tries again.
    """
    try:
        app.send_task(TASK, args=[job.id], queue=job.queue, priority=HIGHEST_PRIORITY - job.priority, retry=False)
    except (OperationalError, OSError) as error:
        msg = f"the broker did not accept job {job.id}: {error}"
        raise BrokerUnavailable(msg) from error
