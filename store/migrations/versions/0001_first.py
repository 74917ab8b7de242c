"""The first tables: jobs, epoch_metrics, attempts, models, aliases, workers.

Types are spelled out here and not taken from store.tables, so that this revision stays the same
when the tables change.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200)),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("spec", _JSON, nullable=False),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("pause_requested", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("lease_expires_at", _MOMENT),
        sa.Column("publishes", sa.Integer(), nullable=False),
        sa.Column("publish_after", _MOMENT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("started_at", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("progress", _JSON),
        sa.Column("latest_metrics", _JSON),
        sa.Column("result", _JSON),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text()),
        sa.Column("model_id", _ID),
        sa.Column("checkpoint", _JSON),
        sa.Column("previous_checkpoint", _JSON),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("owner", "idempotency_key", name="uq_jobs_owner_idempotency_key"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_status")
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_jobs_priority")),
        sa.CheckConstraint(
            "status <> 'running' OR lease_expires_at IS NOT NULL", name=op.f("ck_jobs_running_has_lease")
        ),
    )
    op.create_index("ix_jobs_owner_id", "jobs", ["owner", "id"])
    op.create_index("ix_jobs_owner_status_id", "jobs", ["owner", "status", "id"])
    op.create_index("ix_jobs_owner_name_id", "jobs", ["owner", "name", "id"])
    op.create_index("ix_jobs_status_queue_priority_id", "jobs", ["status", "queue", "priority", "id"])
    op.create_table(
        "epoch_metrics",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("metrics", _JSON, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "epoch", name="pk_epoch_metrics"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_epoch_metrics_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "attempts",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(200), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT),
        sa.Column("outcome", sa.String(16)),
        sa.PrimaryKeyConstraint("job_id", "attempt", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id_jobs", ondelete="CASCADE"),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'cancelled', 'paused', 'handed_back', 'lost')",
            name=op.f("ck_attempts_outcome"),
        ),
    )
    op.create_table(
        "models",
        sa.Column("id", _ID, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("name", sa.String(200)),
        sa.Column("spec", _JSON, nullable=False),
        sa.Column("manifest", _JSON, nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("job_id", name="uq_models_job_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_models_job_id_jobs"),
    )
    op.create_index("ix_models_owner_id", "models", ["owner", "id"])
    op.create_table(
        "aliases",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("model_id", _ID, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("owner", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_aliases_model_id_models"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("queues", _JSON, nullable=False),
        sa.Column("device", sa.String(200), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )


def downgrade() -> None:
    """Drop the tables, with everything in them."""
    for table in ("workers", "aliases", "models", "attempts", "epoch_metrics", "jobs"):
        op.drop_table(table)
