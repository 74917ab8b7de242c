"""The parent process removes what dead attempts left behind: local scratch folders, and files of ended jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import structlog
from celery import bootsteps

from store.artifacts import Artifacts
from store.database import Sessions, connect, sessions
from store.leftovers import Ended, find_ended, note_removed, remove_files
from store.settings import read_settings
from worker.scratch import sweep_scratch

log = structlog.get_logger("intff.housekeeping")

PAUSE_SECONDS = 10.0


class Housekeeping(bootsteps.StartStopStep):
    """Cleans up every few seconds, in its own thread because an artifact store may be slow."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: object, **options: object) -> None:
        super().__init__(worker, **options)
        self._over = threading.Event()

    def start(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - the same; Celery passes it
        """Start the thread; nothing waits for it to finish."""
        threading.Thread(target=_keep_house, args=(self._over.wait,), name="housekeeping", daemon=True).start()

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - the same
        """Start no further round."""
        self._over.set()


def _keep_house(is_over: Callable[[float], bool]) -> None:
    settings = read_settings()
    factory = sessions(connect(settings.database_url))
    artifacts = Artifacts(settings.artifacts_url)
    worked = True
    while not is_over(PAUSE_SECONDS):
        try:
            # A killed child is replaced while this process lives on, so its folder would stay.
            sweep_scratch(settings.home / "scratch")
            tidy(factory, artifacts)
        except Exception as error:  # noqa: BLE001 - every kind of store has its own errors; leftovers only cost space
            if worked:
                log.warning("tidying_failed", error=str(error).splitlines()[0] if str(error) else repr(error))
            worked = False
        else:
            worked = True


def tidy(factory: Sessions, artifacts: Artifacts) -> None:
    """Remove the files of jobs that have ended; any number of workers may do so at once."""
    stuck: dict[str, Exception] = {}
    while found := _find(factory, passing_by=stuck):
        for ended in found:
            try:
                remove_files(artifacts, ended)
            except Exception as error:  # noqa: BLE001 -- every kind of store has its own errors; go on with other jobs
                stuck[ended.job_id] = error
                continue
            with factory.begin() as session:
                note_removed(session, ended)
    if stuck:
        raise next(iter(stuck.values()))


def _find(factory: Sessions, passing_by: Collection[str]) -> Sequence[Ended]:
    with factory() as session:
        return find_ended(session, passing_by=passing_by)
