"""The entry point: `celery -A worker.app worker` is the whole command. Wiring only."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutting_down

from store.errors import SettingsError
from store.queue import celery_app
from store.settings import read_settings
from worker.devices import served_queues
from worker.heartbeat import Heartbeat
from worker.housekeeping import Housekeeping
from worker.scratch import sweep_scratch
from worker.shutdown import stop_at_hangup, tell_attempts

settings = read_settings()
if settings.broker_url is None:
    message = "a worker needs a broker: set INTFF_BROKER_URL (redis://...), or run `intff serve`, which brings its own"
    raise SettingsError(message)

app = celery_app(settings.broker_url)
app.conf.update(
    include=["worker.process", "worker.tasks"],
    # Training runs in a child process, which Celery replaces if it crashes; spawned, because CUDA
    # does not survive a fork. One job at a time, and none prefetched while one runs.
    worker_pool="prefork",
    worker_pool_start_method="spawn",
    worker_concurrency=1,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_proc_alive_timeout=120.0,  # a fresh process imports torch first
    # Early ack: a message is only a hint, and redelivering it while its job runs would be noise.
    task_acks_late=False,
    # Commands to workers go through the database, and so do heartbeats.
    worker_enable_remote_control=False,
    worker_redirect_stdouts=False,
    broker_connection_max_retries=None,
    # A broker that answers with an error, because it changes its role or is full, is worth retrying.
    broker_channel_error_retry=True,
)
app.steps["worker"].update((Heartbeat, Housekeeping))


@worker_init.connect
def _set_up_worker(sender: Any, **_: object) -> None:  # noqa: ANN401 - celery-types lacks its options
    # Turn off the messages between workers; nobody listens to them.
    sender.options.update(without_gossip=True, without_mingle=True, without_heartbeat=True)
    app.amqp.queues.select(served_queues(settings.worker_queues))
    sweep_scratch(settings.home / "scratch")


worker_ready.connect(stop_at_hangup)
worker_shutting_down.connect(tell_attempts)
