"""The files of checkpoints become rows of their own, and their bytes contents that several files may refer to.

Each file gets a content of its own, none is compared with another: what is stored may be damaged, and nobody would know
of which of two. Bytes are copied by the database, a row at a time.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_WORD = sa.String(64)
_DROPPED, _UNFINISHED = "dropped_at IS NOT NULL", "whole_at IS NULL AND dropped_at IS NULL"
_FILE_INDEXES: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("ix_contents_alike", "contents", ["owner", "sha256", "size"], None),
    ("ix_contents_unused", "contents", ["id"], "uses = 0"),
    ("ix_files_of_job", "files", ["job_id", "kind", "name"], None),
    ("ix_files_content_id", "files", ["content_id"], None),
    ("ix_files_dropped", "files", ["dropped_at"], _DROPPED),
    ("ix_files_unfinished", "files", ["job_id"], _UNFINISHED),
    ("ix_files_unattached", "files", ["created_at"], "job_id IS NULL AND dropped_at IS NULL"),
)
_CHECKPOINT_INDEXES: tuple[tuple[str, list[str], str | None], ...] = (
    ("ix_checkpoints_listed", ["experiment_id", "step"], None),
    ("ix_checkpoints_dropped", ["dropped_at"], _DROPPED),
    ("ix_checkpoints_unfinished", ["experiment_id"], _UNFINISHED),
)
# Part, columns of the checkpoint, kind of the file, and what its name ends in.
_PARTS = (
    ("weights", "size", "sha256", "weights", ".safetensors"),
    ("state", "state_size", "state_sha256", "training_state", ".state.safetensors"),
)


def upgrade() -> None:
    _create_files()
    for part, size, sha256, kind, ending in _PARTS:
        op.add_column("checkpoints", sa.Column(f"{part}_id", _WORD, nullable=True))
        _files_of_checkpoints(part, size, sha256, kind, ending)
    op.execute(
        "INSERT INTO content_chunks (content_id, seq, data)"
        " SELECT files.content_id, seq, data FROM checkpoint_chunks"
        " JOIN checkpoints ON checkpoints.id = checkpoint_chunks.checkpoint_id"
        " JOIN files ON files.id = CASE WHEN file = 'weights' THEN weights_id ELSE state_id END"
    )
    op.drop_table("checkpoint_chunks")
    _without_indexes()
    with op.batch_alter_table("checkpoints") as batch:
        batch.alter_column("weights_id", existing_type=_WORD, nullable=False)
        for part, size, sha256, _, _ in _PARTS:
            batch.create_foreign_key(batch.f(f"fk_checkpoints_{part}_id_files"), "files", [f"{part}_id"], ["id"])
            batch.drop_column(size)
            batch.drop_column(sha256)
    _with_indexes()
    for part, *_ in _PARTS:
        op.create_index(f"ix_checkpoints_{part}_id", "checkpoints", [f"{part}_id"])
    op.execute(
        "UPDATE owners SET stored_bytes ="
        " coalesce((SELECT sum(size) FROM contents WHERE contents.owner = owners.id), 0)"
    )


def downgrade() -> None:
    """What is no checkpoint's goes: the earlier version has no place for it."""
    for part, size, sha256, _, _ in _PARTS:
        op.drop_index(f"ix_checkpoints_{part}_id", "checkpoints")
        op.add_column("checkpoints", sa.Column(size, sa.BigInteger(), nullable=True))
        op.add_column("checkpoints", sa.Column(sha256, _WORD, nullable=True))
        for column, told in ((size, "size"), (sha256, "sha256")):
            its = f"(SELECT files.{told} FROM files WHERE files.id = checkpoints.{part}_id)"
            op.execute(f"UPDATE checkpoints SET {column} = {its}")
    _without_indexes()
    with op.batch_alter_table("checkpoints") as batch:
        for column, kind in (("size", sa.BigInteger()), ("sha256", _WORD)):
            batch.alter_column(column, existing_type=kind, nullable=False)
        for part, *_ in _PARTS:
            batch.drop_constraint(batch.f(f"fk_checkpoints_{part}_id_files"), type_="foreignkey")
    _with_indexes()
    # After its parent is as it will be: SQLite makes a table anew to change it, which nothing may refer to then.
    key = [sa.Column("checkpoint_id", _WORD, nullable=False), sa.Column("file", sa.String(16), nullable=False)]
    _create_chunks("checkpoint_chunks", key, "checkpoints")
    for part, *_ in _PARTS:
        op.execute(
            "INSERT INTO checkpoint_chunks (checkpoint_id, file, seq, data)"
            f" SELECT checkpoints.id, '{part}', seq, data FROM checkpoints JOIN files ON files.id = {part}_id"
            " JOIN content_chunks ON content_chunks.content_id = files.content_id"
        )
        op.drop_column("checkpoints", f"{part}_id")
    for table in ("content_chunks", "files", "contents"):
        op.drop_table(table)
    its = (
        "SELECT sum(size + coalesce(state_size, 0)) FROM checkpoints"
        " JOIN jobs ON jobs.id = checkpoints.experiment_id WHERE jobs.owner = owners.id"
    )
    op.execute(f"UPDATE owners SET stored_bytes = coalesce(({its}), 0)")


def _create_files() -> None:
    op.create_table(
        "contents",
        sa.Column("id", _WORD, nullable=False),
        sa.Column("owner", _WORD, nullable=False),
        sa.Column("sha256", _WORD, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("whole_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contents")),
    )
    op.create_table(
        "files",
        sa.Column("id", _WORD, nullable=False),
        sa.Column("owner", _WORD, nullable=False),
        sa.Column("job_id", _WORD, nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", _WORD, nullable=False),
        sa.Column("content_id", _WORD, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("whole_at", sa.Double(), nullable=True),
        sa.Column("dropped_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_files_job_id_jobs")),
        sa.ForeignKeyConstraint(["content_id"], ["contents.id"], name=op.f("fk_files_content_id_contents")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    _create_chunks("content_chunks", [sa.Column("content_id", _WORD, nullable=False)], "contents")
    for name, table, columns, condition in _FILE_INDEXES:
        _index(name, table, columns, condition)


def _create_chunks(table: str, key: list[sa.Column[Any]], parent: str) -> None:
    parent_id = key[0].name
    op.create_table(
        table,
        *key,
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint([parent_id], [f"{parent}.id"], name=op.f(f"fk_{table}_{parent_id}_{parent}")),
        sa.PrimaryKeyConstraint(*(column.name for column in key), "seq", name=op.f(f"pk_{table}")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Weights do not compress; trying costs more than storing them.
        op.execute(f"ALTER TABLE {table} ALTER COLUMN data SET STORAGE EXTERNAL")


def _files_of_checkpoints(part: str, size: str, sha256: str, kind: str, ending: str) -> None:
    # The ids sort by time as those do that they are made of; a file of the state has another version of UUID in it.
    digits = "substr(checkpoints.id, 5)"
    if part == "state":
        digits = "substr(checkpoints.id, 5, 12) || '8' || substr(checkpoints.id, 18)"
    padded = "printf('%09d', step)" if op.get_bind().dialect.name == "sqlite" else "lpad(CAST(step AS text), 9, '0')"
    theirs = f"FROM checkpoints JOIN jobs ON jobs.id = checkpoints.experiment_id WHERE {size} IS NOT NULL"
    # Bytes of what was dropped may be purged in part: nobody is to refer to them.
    op.execute(
        "INSERT INTO contents (id, owner, sha256, size, uses, created_at, whole_at)"
        f" SELECT 'con_' || {digits}, owner, {sha256}, {size}, 1, checkpoints.created_at,"
        f" CASE WHEN dropped_at IS NULL THEN whole_at END {theirs}"
    )
    op.execute(
        "INSERT INTO files (id, owner, job_id, name, kind, step, size, sha256, content_id,"
        " created_at, whole_at, dropped_at)"
        f" SELECT 'fil_' || {digits}, owner, experiment_id, checkpoints.kind || '-' || {padded} || '{ending}',"
        f" '{kind}', step, {size}, {sha256}, 'con_' || {digits}, checkpoints.created_at, whole_at, dropped_at {theirs}"
    )
    op.execute(f"UPDATE checkpoints SET {part}_id = 'fil_' || {digits} WHERE {size} IS NOT NULL")


def _without_indexes() -> None:
    for name, _, _ in _CHECKPOINT_INDEXES:
        op.drop_index(name, "checkpoints")


def _with_indexes() -> None:
    for name, columns, condition in _CHECKPOINT_INDEXES:
        _index(name, "checkpoints", columns, condition)


def _index(name: str, table: str, columns: list[str], condition: str | None) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
