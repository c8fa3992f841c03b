"""The queue's own tables: a log that has one order over all jobs, one bell a queue, and what the reaper remembers."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_QUEUED = "state = 'queued'"


def upgrade() -> None:
    _events_of_jobs()
    _bells_of_queues()
    op.create_table(
        "watches",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("looked_at", sa.Double(), nullable=False),
        sa.Column("trusted_from", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_watches")),
    )


def downgrade() -> None:
    op.drop_table("watches")
    _events_of_experiments()
    _bells_of_experiments()


_EVENT_COLUMNS = "number, attempt, kind, message, data, at, trainer_at"


def _event_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("trainer_at", sa.Double(), nullable=True),
    ]


def _events_of_jobs() -> None:
    op.create_table(
        "job_events",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        *_event_columns(),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_job_events")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_job_events_job_id_number")),
        sqlite_autoincrement=True,
    )
    op.execute(
        f"INSERT INTO job_events (job_id, {_EVENT_COLUMNS}) SELECT experiment_id, {_EVENT_COLUMNS}"
        " FROM experiment_events ORDER BY at, experiment_id, number"
    )
    op.drop_table("experiment_events")


def _events_of_experiments() -> None:
    op.create_table(
        "experiment_events",
        sa.Column("experiment_id", sa.String(64), nullable=False),
        *_event_columns(),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["jobs.id"],
            name=op.f("fk_experiment_events_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("experiment_id", "number", name=op.f("pk_experiment_events")),
    )
    op.execute(
        f"INSERT INTO experiment_events (experiment_id, {_EVENT_COLUMNS})"
        f" SELECT job_id, {_EVENT_COLUMNS} FROM job_events"
    )
    op.drop_table("job_events")


def _bells_of_queues() -> None:
    op.create_table(
        "bells",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bells")),
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO bells (queue, jobs) SELECT queue, count(*) FROM jobs WHERE {_QUEUED} GROUP BY queue")
    op.drop_table("outbox")


def _bells_of_experiments() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("device", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["jobs.id"], name=op.f("fk_outbox_experiment_id_experiments"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outbox_experiment_id"), "outbox", ["experiment_id"])
    op.execute(
        "INSERT INTO outbox (experiment_id, device, created_at)"
        f" SELECT id, queue, queued_at FROM jobs WHERE {_QUEUED} ORDER BY created_at, id"
    )
    op.drop_table("bells")
