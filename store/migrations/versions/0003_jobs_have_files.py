"""Whether a job may have files that are no longer needed: jobs.has_files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every job that was ever attempted may have left files."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("has_files", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(sa.text("UPDATE jobs SET has_files = true WHERE attempt > 0"))
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("has_files", server_default=None)
    op.create_index(
        "ix_jobs_finished_at",
        "jobs",
        ["finished_at"],
        sqlite_where=sa.text("has_files"),
        postgresql_where=sa.text("has_files"),
    )


def downgrade() -> None:
    """Remove the column."""
    op.drop_index("ix_jobs_finished_at", "jobs")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("has_files")
