"""Every query of the project, in one namespace. Each takes a session first and never commits."""

from store.attempts import (
    Claim,
    Orders,
    claim,
    fail,
    hand_back,
    record_checkpoint,
    record_epoch,
    record_epochs,
    renew,
    set_cancelled,
    set_paused,
    succeed,
)
from store.clock import database_time
from store.jobs import (
    count_active,
    get_job,
    list_jobs,
    list_metrics,
    request_cancel,
    request_pause,
    request_resume,
    revisions,
    sample_metrics,
    submit,
)
from store.keys import KnownKeys, adopt_ownerless, create_key, known_keys, list_keys, note_use, revoke_key
from store.leftovers import find_ended, note_files, note_removed
from store.models import LATEST, get_model, list_models, set_alias
from store.overview import aliases_of, count_by_status, count_waiting
from store.pages import Page
from store.reconcile import Queued, Swept, mark_unpublished, sweep
from store.workers import beat, live_queues, live_workers, retire

__all__ = [
    "LATEST",
    "Claim",
    "KnownKeys",
    "Orders",
    "Page",
    "Queued",
    "Swept",
    "adopt_ownerless",
    "aliases_of",
    "beat",
    "claim",
    "count_active",
    "count_by_status",
    "count_waiting",
    "create_key",
    "database_time",
    "fail",
    "find_ended",
    "get_job",
    "get_model",
    "hand_back",
    "known_keys",
    "list_jobs",
    "list_keys",
    "list_metrics",
    "list_models",
    "live_queues",
    "live_workers",
    "mark_unpublished",
    "note_files",
    "note_removed",
    "note_use",
    "record_checkpoint",
    "record_epoch",
    "record_epochs",
    "renew",
    "request_cancel",
    "request_pause",
    "request_resume",
    "retire",
    "revisions",
    "revoke_key",
    "sample_metrics",
    "set_alias",
    "set_cancelled",
    "set_paused",
    "submit",
    "succeed",
    "sweep",
]
