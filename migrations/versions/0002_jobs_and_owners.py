"""Jobs under the experiments, and owners above them.

The table of experiments becomes that of jobs, so that every row that hangs on an experiment goes on hanging where it
hung; a new table takes what is asked and found. Everything there is belongs to one owner, who has every key: before,
every key could see and do everything.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_WORD, _KIND, _WORDS = sa.String(64), sa.String(16), sa.String(200)
_SUBJECT: tuple[tuple[str, Any, bool, str | None], ...] = (
    # Name, type, nullable, and what stands in it for a moment when the table goes back to one.
    ("name", _WORDS, True, None),
    ("tags", sa.JSON(), False, "{}"),
    ("spec", sa.JSON(), False, "{}"),
    ("spec_version", sa.Integer(), False, "1"),
    ("fingerprint", _WORD, False, ""),
    ("retry_of", _WORD, True, None),
    ("step", sa.BigInteger(), False, "0"),
    ("total_steps", sa.BigInteger(), False, "0"),
    ("stop_reason", sa.String(32), True, None),
    ("summary", sa.JSON(none_as_null=True), True, None),
)
_SUBJECT_NAMES = ", ".join(name for name, *_ in _SUBJECT)
_OLD_INDEXES: tuple[tuple[str, list[str]], ...] = (
    ("ix_experiments_created_at_id", ["created_at", "id"]),
    ("ix_experiments_deleted_at", ["deleted_at"]),
    ("ix_experiments_device_claimed_at", ["device", "claimed_at"]),
    ("ix_experiments_lease_expires_at", ["lease_expires_at"]),
    ("ix_experiments_name", ["name"]),
    ("ix_experiments_state_created_at_id", ["state", "created_at", "id"]),
)
_QUEUED, _RUNNING, _VISIBLE = "state = 'queued'", "state = 'running'", "deleted_at IS NULL"
_ANY_OWNER, _ANY_STATE = "owner || '' <> ''", "state || '' <> ''"
_JOB_INDEXES: tuple[tuple[str, list[Any], str | None], ...] = (
    ("ix_jobs_claim", ["queue", sa.text("priority DESC"), "turn", "created_at", "id"], _QUEUED),
    ("ix_jobs_turn", ["owner", "queue", "priority", "turn"], None),
    ("ix_jobs_claimed_turn", ["queue", "priority", "turn"], "state <> 'queued'"),
    ("ix_jobs_waiting", ["owner"], _QUEUED),
    ("ix_jobs_lease", ["lease_expires_at"], _RUNNING),
    ("ix_jobs_running", ["owner"], _RUNNING),
    (
        "ix_jobs_deadline",
        ["deadline_seconds"],
        f"{_QUEUED} AND deadline_seconds IS NOT NULL AND first_claimed_at IS NOT NULL",
    ),
    ("ix_jobs_listed", ["kind", "created_at", "id"], f"{_VISIBLE} AND {_ANY_OWNER} AND {_ANY_STATE}"),
    ("ix_jobs_listed_state", ["kind", "state", "created_at", "id"], f"{_VISIBLE} AND {_ANY_OWNER}"),
    ("ix_jobs_owned", ["kind", "owner", "created_at", "id"], f"{_VISIBLE} AND {_ANY_STATE}"),
    ("ix_jobs_owned_state", ["kind", "owner", "state", "created_at", "id"], _VISIBLE),
    ("ix_jobs_deleted", ["deleted_at"], "deleted_at IS NOT NULL"),
)
_HANGING = ("experiment_tags", "metric_series", "metric_segments", "checkpoints", "idempotency_keys")
_OWNER = "own_default"
_EVERY_SCOPE = '["read", "submit", "admin"]'


def upgrade() -> None:
    _experiments_become_jobs()
    _tags_in_order()
    _checkpoints_in_order()
    _processes_work_on_jobs()
    _owners()


def downgrade() -> None:
    _no_owners()
    op.drop_column("processes", "trouble")
    op.alter_column("processes", "job_id", new_column_name="experiment_id")
    op.drop_index("ix_checkpoints_listed", "checkpoints")
    op.drop_index("ix_checkpoints_dropped", "checkpoints")
    op.drop_index("ix_checkpoints_unfinished", "checkpoints")
    op.create_index(op.f("ix_checkpoints_dropped_at"), "checkpoints", ["dropped_at"])
    _tags_without_order()
    _jobs_become_experiments()


def _experiments_become_jobs() -> None:
    for name, _ in _OLD_INDEXES:
        op.drop_index(name, "experiments")
    op.drop_index("ix_experiments_device_created_at", "experiments")
    op.rename_table("experiments", "jobs")
    _rename_constraints("experiments", "jobs")
    op.alter_column("jobs", "device", new_column_name="queue")
    _add("jobs", sa.Column("kind", _KIND, nullable=False, server_default="experiment"))
    _add("jobs", sa.Column("turn", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("key_id", _WORD))
    op.add_column("jobs", sa.Column("not_before", sa.Double()))
    op.add_column("jobs", sa.Column("lease_seconds", sa.Double()))
    op.execute(f"UPDATE jobs SET key_id = owner, owner = '{_OWNER}'")
    # What is running is renewed by a worker that is about to be replaced, or reaped.
    op.execute(f"UPDATE jobs SET lease_seconds = 60 WHERE {_RUNNING}")
    _create_experiments()
    op.execute(
        f"INSERT INTO experiments (id, submitted_by, submitted_at, {_SUBJECT_NAMES})"
        f" SELECT id, owner, created_at, {_SUBJECT_NAMES} FROM jobs"
    )
    for name in (*(name for name, *_ in _SUBJECT), "waiting_for"):
        op.drop_column("jobs", name)
    for name, columns, condition in _JOB_INDEXES:
        _index(name, "jobs", columns, condition)


def _create_experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", _WORD, nullable=False),
        sa.Column("submitted_by", _WORD, nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        *(sa.Column(name, kind, nullable=nullable) for name, kind, nullable, _ in _SUBJECT),
        sa.ForeignKeyConstraint(["id"], ["jobs.id"], name=op.f("fk_experiments_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
    )
    op.create_index("ix_experiments_owner_name", "experiments", ["submitted_by", "name", "submitted_at", "id"])
    op.create_index("ix_experiments_name", "experiments", ["name", "submitted_at", "id"])


def _jobs_become_experiments() -> None:
    for name, _, _ in _JOB_INDEXES:
        op.drop_index(name, "jobs")
    for name, kind, nullable, default in _SUBJECT:
        _add("jobs", sa.Column(name, kind, nullable=nullable, server_default=default))
        op.execute(f"UPDATE jobs SET {name} = (SELECT {name} FROM experiments WHERE experiments.id = jobs.id)")
    op.add_column("jobs", sa.Column("waiting_for", sa.String(300)))
    op.execute(
        f"UPDATE jobs SET waiting_for = coalesce('worker with ' || pinned_device_model, 'worker') WHERE {_QUEUED}"
    )
    op.execute("UPDATE jobs SET owner = coalesce(key_id, owner)")
    op.drop_table("experiments")
    for name in ("kind", "turn", "key_id", "not_before", "lease_seconds"):
        op.drop_column("jobs", name)
    op.alter_column("jobs", "queue", new_column_name="device")
    _rename_constraints("jobs", "experiments")
    op.rename_table("jobs", "experiments")
    for name, columns in _OLD_INDEXES:
        op.create_index(name, "experiments", columns)
    _index("ix_experiments_device_created_at", "experiments", ["device", "created_at"], _QUEUED)


def _rename_constraints(old: str, new: str) -> None:
    """PostgreSQL's names are unique in a schema; SQLite's are remarks inside a table, which cannot be changed."""
    if op.get_bind().dialect.name == "postgresql":
        table = "jobs"
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT pk_{old} TO pk_{new}")
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT ck_{old}_state TO ck_{new}_state")
        for hanging in _HANGING:
            name = f"fk_{hanging}_experiment_id"
            op.execute(f"ALTER TABLE {hanging} RENAME CONSTRAINT {name}_{old} TO {name}_{new}")


def _tags_in_order() -> None:
    op.drop_index("ix_experiment_tags_key_value_experiment_id", "experiment_tags")
    op.add_column("experiment_tags", sa.Column("submitted_by", _WORD))
    op.add_column("experiment_tags", sa.Column("submitted_at", sa.Double()))
    for column in ("submitted_by", "submitted_at"):
        of_mine = f"(SELECT {column} FROM experiments WHERE experiments.id = experiment_tags.experiment_id)"
        op.execute(f"UPDATE experiment_tags SET {column} = {of_mine}")
    with op.batch_alter_table("experiment_tags") as batch:
        batch.alter_column("submitted_by", existing_type=_WORD, nullable=False)
        batch.alter_column("submitted_at", existing_type=sa.Double(), nullable=False)
        batch.alter_column("key", existing_type=_WORDS, type_=_WORD)
        batch.alter_column("value", existing_type=sa.String(500), type_=sa.String(512))
    place = ["submitted_at", "experiment_id"]
    op.create_index("ix_experiment_tags_owner_value", "experiment_tags", ["submitted_by", "key", "value", *place])
    op.create_index("ix_experiment_tags_owner_key", "experiment_tags", ["submitted_by", "key", *place])
    op.create_index("ix_experiment_tags_value", "experiment_tags", ["key", "value", *place])
    op.create_index("ix_experiment_tags_key", "experiment_tags", ["key", *place])


def _tags_without_order() -> None:
    for name in ("value", "owner_value", "key", "owner_key"):
        op.drop_index(f"ix_experiment_tags_{name}", "experiment_tags")
    # What the earlier version could not store, it cannot search by; the experiment's own tags are whole.
    op.execute("UPDATE experiment_tags SET value = substr(value, 1, 500)")
    with op.batch_alter_table("experiment_tags") as batch:
        batch.drop_column("submitted_by")
        batch.drop_column("submitted_at")
        batch.alter_column("key", existing_type=_WORD, type_=_WORDS)
        batch.alter_column("value", existing_type=sa.String(512), type_=sa.String(500))
    columns = ["key", "value", "experiment_id"]
    op.create_index(op.f("ix_experiment_tags_key_value_experiment_id"), "experiment_tags", columns)


def _checkpoints_in_order() -> None:
    op.drop_index("ix_checkpoints_dropped_at", "checkpoints")
    op.create_index("ix_checkpoints_listed", "checkpoints", ["experiment_id", "step"])
    _index("ix_checkpoints_dropped", "checkpoints", ["dropped_at"], "dropped_at IS NOT NULL")
    unfinished = "whole_at IS NULL AND dropped_at IS NULL"
    _index("ix_checkpoints_unfinished", "checkpoints", ["experiment_id"], unfinished)


def _processes_work_on_jobs() -> None:
    op.alter_column("processes", "experiment_id", new_column_name="job_id")
    op.add_column("processes", sa.Column("trouble", sa.String(300)))


def _owners() -> None:
    op.create_table(
        "owners",
        sa.Column("id", _WORD, nullable=False),
        sa.Column("name", _WORDS, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owners")),
        sa.UniqueConstraint("name", name=op.f("uq_owners_name")),
    )
    now = "extract(epoch FROM now())"
    if op.get_bind().dialect.name == "sqlite":
        now = "(julianday('now') - 2440587.5) * 86400.0"
    op.execute(
        f"INSERT INTO owners (id, name, stored_bytes, created_at) SELECT '{_OWNER}', 'default',"
        f" coalesce(sum(size + coalesce(state_size, 0)), 0), {now} FROM checkpoints"
    )
    _add("api_keys", sa.Column("owner", _WORD, nullable=False, server_default=_OWNER))
    _add("api_keys", sa.Column("scopes", sa.JSON(), nullable=False, server_default=_EVERY_SCOPE))
    op.add_column("api_keys", sa.Column("expires_at", sa.Double()))
    op.create_index(op.f("ix_api_keys_owner"), "api_keys", ["owner"])
    # Two keys of what is now one owner may have sent the same word: the newer request stands.
    op.execute(
        "DELETE FROM idempotency_keys WHERE EXISTS (SELECT 1 FROM idempotency_keys AS newer"
        " WHERE newer.method = idempotency_keys.method AND newer.path = idempotency_keys.path"
        " AND newer.key = idempotency_keys.key AND (newer.created_at > idempotency_keys.created_at"
        " OR (newer.created_at = idempotency_keys.created_at AND newer.owner > idempotency_keys.owner)))"
    )
    op.execute(f"UPDATE idempotency_keys SET owner = '{_OWNER}'")


def _no_owners() -> None:
    # Before owners every key could do everything, for ever: one that should not must not come back to life.
    op.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, expires_at, created_at)"
        " WHERE expires_at IS NOT NULL OR CAST(scopes AS text) NOT LIKE '%admin%'"
    )
    submitter = "(SELECT key_id FROM jobs WHERE jobs.id = idempotency_keys.experiment_id)"
    op.execute(f"UPDATE idempotency_keys SET owner = coalesce({submitter}, owner)")
    op.drop_index("ix_api_keys_owner", "api_keys")
    for name in ("owner", "scopes", "expires_at"):
        op.drop_column("api_keys", name)
    op.drop_table("owners")


def _index(name: str, table: str, columns: list[Any], condition: str | None) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _add(table: str, column: sa.Column[Any]) -> None:
    """Add a column whose default is for the rows that are there already."""
    op.add_column(table, column)
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(table, column.name, server_default=None)
