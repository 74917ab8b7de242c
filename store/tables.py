"""The tables: jobs, their epochs and attempts, the models they publish, aliases, workers, and API keys."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Enum, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.clock import Moment, clock
from store.statuses import AttemptOutcome, JobStatus

NO_OWNER = ""
"""The owner of everything created while there are no API keys; a string, since NULLs are never equal in an index."""

# Identifiers are compared byte by byte, as in Python, whatever the database's locale.
Id = String(40).with_variant(String(40, collation="C"), "postgresql")
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _one_of(members: type[StrEnum], name: str) -> Enum:
    """A text column restricted by a CHECK to an enumeration's values."""
    values = [member.value for member in members]
    return Enum(
        members, native_enum=False, create_constraint=True, length=16, name=name, values_callable=lambda _: values
    )


class Base(DeclarativeBase):
    """What every table shares: how its constraints are named, and how Python types are stored."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy's own way to say it
        datetime: Moment(),
        dict[str, Any]: Json,
        list[str]: Json,
        JobStatus: _one_of(JobStatus, "status"),
        AttemptOutcome: _one_of(AttemptOutcome, "outcome"),
    }


class Job(Base):
    """One training run as it was requested, and its current state."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        CheckConstraint("status <> 'running' OR lease_expires_at IS NOT NULL", name="running_has_lease"),
        Index(None, "owner", "id"),
        Index(None, "owner", "status", "id"),
        Index(None, "owner", "name", "id"),
        # For the reconciler: the few running jobs, and the head of each queue in order.
        Index(None, "status", "queue", "priority", "id"),
        # For the workers, which clean up after jobs that have ended.
        Index(None, "finished_at", sqlite_where=text("has_files"), postgresql_where=text("has_files")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default=NO_OWNER)
    name: Mapped[str | None] = mapped_column(String(200))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    spec: Mapped[dict[str, Any]]
    queue: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(default=0)
    """From 0 to 9; higher runs first."""

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Of the normalized request; tells a repeated request from a different one with the same key."""

    status: Mapped[JobStatus] = mapped_column(default=JobStatus.QUEUED)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    revision: Mapped[int] = mapped_column(default=1)
    """Incremented by every change that watchers should see; watchers poll it."""

    attempt: Mapped[int] = mapped_column(default=0)
    """The fencing token: the number of the newest attempt. Writes of earlier attempts have no effect."""
    losses: Mapped[int] = mapped_column(default=0)
    """Attempts whose worker went silent."""
    worker: Mapped[str | None] = mapped_column(String(200))
    lease_expires_at: Mapped[datetime | None]
    publishes: Mapped[int] = mapped_column(default=0)
    """How often the id was sent to the broker since the job last entered the queue."""
    publish_after: Mapped[datetime] = mapped_column(default=clock())
    """When the reconciler publishes the id again, if the job is still queued then."""

    created_at: Mapped[datetime] = mapped_column(default=clock())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(Json)
    latest_metrics: Mapped[dict[str, Any] | None] = mapped_column(Json)
    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    # No foreign key: models.job_id has one, and two tables that refer to each other cannot be created in order.
    model_id: Mapped[str | None] = mapped_column(Id)
    checkpoint: Mapped[dict[str, Any] | None] = mapped_column(Json)
    previous_checkpoint: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """The previous one, in case the newest turns out to be damaged."""
    has_files: Mapped[bool] = mapped_column(default=False)
    """Whether attempts may have left files in the artifact store, to be cleaned up after the job's end."""


class EpochMetricsRow(Base):
    """The metrics of one epoch of a job."""

    __tablename__ = "epoch_metrics"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=clock())


class Attempt(Base):
    """One execution of a job by one worker."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    worker: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime] = mapped_column(default=clock())
    finished_at: Mapped[datetime | None]
    outcome: Mapped[AttemptOutcome | None]


class Model(Base):
    """A model that a succeeded job published; at most one per job."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("job_id"), Index(None, "owner", "id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    name: Mapped[str | None] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]]
    manifest: Mapped[dict[str, Any]]
    prefix: Mapped[str] = mapped_column(Text)
    """Where its files are in the artifact store."""
    created_at: Mapped[datetime] = mapped_column(default=clock())


class Alias(Base):
    """A name that points at a model; each owner has a separate namespace."""

    __tablename__ = "aliases"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    alias: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_id: Mapped[str] = mapped_column(Id, ForeignKey("models.id"))
    updated_at: Mapped[datetime] = mapped_column(default=clock(), onupdate=clock())


class Worker(Base):
    """A worker process that has sent heartbeats, and the queues that it serves."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    queues: Mapped[list[str]]
    device: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime] = mapped_column(default=clock())
    seen_at: Mapped[datetime] = mapped_column(default=clock())


class ApiKey(Base):
    """A key created on the command line; the key itself is not stored."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index(
            None,
            "name",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    """For people; unique among valid keys."""
    prefix: Mapped[str] = mapped_column(String(16))
    """The key's first characters, by which its holder recognises it."""
    owner: Mapped[str] = mapped_column(String(64))
    """Whose jobs and models it sees: its own hash, unless it was made to share with an earlier key."""
    created_at: Mapped[datetime] = mapped_column(default=clock())
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
