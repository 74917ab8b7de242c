"""The clock of a host is an hour off, either way, with no effect: leases and orders go by the database's."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from store.statuses import AttemptOutcome

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 1200

# Loaded ahead of the C library into every process of the program. Deadlines are on the shifted clock as well, so what
# goes to the kernel, whose clock is as it was, is shifted back.
_SHIFT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long offset(void) { return atol(getenv("CLOCK_OFFSET")); }

static struct timespec back(const struct timespec *until) {
    return (struct timespec){until->tv_sec - offset(), until->tv_nsec};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    int failed = REAL(gettimeofday)(now, zone);
    if (!failed) now->tv_sec += offset();
    return failed;
}

time_t time(time_t *where) {
    time_t now = REAL(time)(NULL) + offset();
    if (where) *where = now;
    return now;
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    struct timespec real = back(until);
    return REAL(sem_timedwait)(semaphore, &real);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec real = back(until);
    return REAL(pthread_mutex_timedlock)(mutex, &real);
}
"""


@pytest.fixture
def skewed(tmp_path: Path) -> dict[int, dict[str, str]]:
    """The environment of a program whose host's clock is so many hours ahead."""
    library = tmp_path / "shift.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=_SHIFT, text=True, check=True)
    return {hours: {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(3600 * hours)} for hours in (-1, 1)}


def is_in(text: str, log: Path) -> bool:
    return text in log.read_text()


def test_hosts_whose_clocks_are_two_hours_apart(
    installation: Installation, skewed: dict[int, dict[str, str]], weights_of: References, survived: Survived
) -> None:
    """Each half of the installation is an hour off, in opposite directions, and one worker of them dies."""
    for hours in (-1, 1):
        installation.start(settings=skewed[hours])
    for hours, worker in zip((-1, 1), installation.workers, strict=True):
        hour = time.strftime("T%H:", time.gmtime(time.time() + 3600 * hours))
        installation.submit(1)
        installation.wait(partial(is_in, hour, worker.log), "its log has its own time")
    job = installation.submit(EPOCHS)
    began = installation.wait_for(job, lambda now: now.checkpoint)
    assert began.worker is not None
    holder = next(index for index, each in enumerate(installation.workers) if began.worker.startswith(each.name))
    time.sleep(1.5 * installation.lease_seconds)  # nobody takes it away from the living
    assert installation.job(job).attempt == 1

    installation.trainer(holder).kill()
    killed = time.monotonic()
    installation.wait_for(job, lambda now: now.attempt == 2)
    took = time.monotonic() - killed
    done = installation.wait_until_succeeded(job)

    assert installation.outcomes(job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert 0 < (done.finished_at - done.started_at).total_seconds() < 300
    survived("clock of a host an hour off, either way", times=4, figure=f"a kill was noticed after {took:.1f} s")
