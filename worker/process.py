"""What each process of a worker sets up: its log, and in the pool's child process the training code."""

from __future__ import annotations

from celery.signals import setup_logging, worker_process_init

from store.logs import set_up
from store.settings import read_settings
from worker.shutdown import heed_the_worker


@setup_logging.connect
def set_up_log(**_: object) -> None:
    """Log as the service does; Celery does not configure logging if a handler is connected to this signal."""
    set_up(read_settings())


@worker_process_init.connect
def warm_up(**_: object) -> None:
    """Import the training code when the process starts, not when the first job is waiting for it."""
    heed_the_worker()
    import torch  # noqa: PLC0415 - the parent imports this file too, and must stay small

    import worker.attempt  # noqa: F401, PLC0415 - the same

    # The first optimizer of a process imports torch's compiler, which takes longer than a small job.
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    threads = read_settings().worker_threads
    if threads is not None:
        torch.set_num_threads(threads)
