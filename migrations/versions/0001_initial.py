"""Everything that an experiment, and the service around it, keeps."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
_STATE = sa.Enum(*_STATES, name="state", native_enum=False, create_constraint=True, length=16)


def upgrade() -> None:
    _create_experiments()
    _create_experiment_tags()
    _create_experiment_events()
    _create_outbox()
    _create_metric_series()
    _create_metric_segments()
    _create_checkpoints()
    _create_checkpoint_chunks()
    _create_processes()
    _create_api_keys()
    _create_idempotency_keys()


def downgrade() -> None:
    # Indexes go with their tables; what refers to a table goes before it.
    for table in (
        "idempotency_keys",
        "api_keys",
        "processes",
        "checkpoint_chunks",
        "checkpoints",
        "metric_segments",
        "metric_series",
        "outbox",
        "experiment_events",
        "experiment_tags",
        "experiments",
    ):
        op.drop_table(table)


def _create_experiments() -> None:
    word, words, kind = sa.String(64), sa.String(200), sa.String(16)
    op.create_table(
        "experiments",
        *_columns(word, "id", "owner", "fingerprint"),
        *_columns(word, "retry_of", "lease_token", "process_id", "pinned_torch_version", "failure_code", nullable=True),
        *_columns(words, "name", "pinned_device_model", nullable=True),
        *_columns(kind, "device"),
        *_columns(kind, "desired", "pinned_device_kind", nullable=True),
        *_columns(sa.String(32), "phase", "stop_reason", nullable=True),
        *_columns(sa.String(300), "waiting_for", nullable=True),
        *_columns(sa.Text(), "failure_message", nullable=True),
        *_columns(_STATE, "state"),
        *_columns(sa.JSON(), "tags", "spec"),
        *_columns(sa.JSON(none_as_null=True), "summary", nullable=True),
        *_columns(sa.Integer(), "spec_version", "version", "priority", "attempt", "restarts", "max_restarts"),
        *_columns(sa.BigInteger(), "step", "total_steps", "last_event"),
        *_columns(sa.Double(), "created_at", "queued_at", "paused_seconds"),
        *_columns(sa.Double(), "deadline_seconds", "lease_expires_at", "first_claimed_at", "claimed_at", nullable=True),
        *_columns(sa.Double(), "paused_at", "started_at", "finished_at", "deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
    )
    for columns in (
        ["created_at", "id"],
        ["deleted_at"],
        ["device", "claimed_at"],
        ["lease_expires_at"],
        ["name"],
        ["state", "created_at", "id"],
    ):
        op.create_index(op.f(f"ix_experiments_{'_'.join(columns)}"), "experiments", columns)
    name, queued = op.f("ix_experiments_device_created_at"), sa.text("state = 'queued'")
    op.create_index(name, "experiments", ["device", "created_at"], sqlite_where=queued, postgresql_where=queued)


def _create_experiment_tags() -> None:
    op.create_table(
        "experiment_tags",
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("value", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name=op.f("fk_experiment_tags_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("experiment_id", "key", name=op.f("pk_experiment_tags")),
    )
    op.create_index(
        op.f("ix_experiment_tags_key_value_experiment_id"),
        "experiment_tags",
        ["key", "value", "experiment_id"],
        unique=False,
    )


def _create_experiment_events() -> None:
    op.create_table(
        "experiment_events",
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("trainer_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name=op.f("fk_experiment_events_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("experiment_id", "number", name=op.f("pk_experiment_events")),
    )


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_outbox_experiment_id_experiments"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outbox_experiment_id"), "outbox", ["experiment_id"], unique=False)


def _create_metric_series() -> None:
    op.create_table(
        "metric_series",
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.Double(), nullable=True),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("minimum", sa.Double(), nullable=True),
        sa.Column("maximum", sa.Double(), nullable=True),
        sa.Column("nonfinite", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name=op.f("fk_metric_series_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("experiment_id", "key", name=op.f("pk_metric_series")),
    )


def _create_metric_segments() -> None:
    op.create_table(
        "metric_segments",
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("first_step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first", sa.Double(), nullable=True),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("minimum", sa.Double(), nullable=True),
        sa.Column("maximum", sa.Double(), nullable=True),
        sa.Column("nonfinite", sa.Integer(), nullable=False),
        sa.Column("steps", sa.LargeBinary(), nullable=False),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_metric_segments_experiment_id_experiments")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "key", "first_step", name=op.f("pk_metric_segments")),
    )


def _create_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("state_size", sa.BigInteger(), nullable=True),
        sa.Column("state_sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("whole_at", sa.Double(), nullable=True),
        sa.Column("dropped_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_checkpoints_experiment_id_experiments")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint(
            "experiment_id", "attempt", "kind", "step", name=op.f("uq_checkpoints_experiment_id_attempt_kind_step")
        ),
    )
    op.create_index(op.f("ix_checkpoints_dropped_at"), "checkpoints", ["dropped_at"], unique=False)


def _create_checkpoint_chunks() -> None:
    op.create_table(
        "checkpoint_chunks",
        sa.Column("checkpoint_id", sa.String(length=64), nullable=False),
        sa.Column("file", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_checkpoint_chunks_checkpoint_id_checkpoints")
        ),
        sa.PrimaryKeyConstraint("checkpoint_id", "file", "seq", name=op.f("pk_checkpoint_chunks")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Weights do not compress; trying costs more than storing them.
        op.execute("ALTER TABLE checkpoint_chunks ALTER COLUMN data SET STORAGE EXTERNAL")


def _create_processes() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=16), nullable=True),
        sa.Column("device_model", sa.String(length=200), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("broker_ok", sa.Boolean(), nullable=True),
        sa.Column("experiment_id", sa.String(length=64), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.create_index(op.f("ix_processes_heartbeat_at"), "processes", ["heartbeat_at"], unique=False)


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_keys_secret_sha256")),
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("path", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("experiment_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name=op.f("fk_idempotency_keys_experiment_id_experiments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner", "method", "path", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_experiment_id"), "idempotency_keys", ["experiment_id"], unique=False)
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"], unique=False)


def _columns(kind: sa.types.TypeEngine[Any], *names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names]
