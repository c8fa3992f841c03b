"""What listings are sorted by: the accuracy of an experiment in a column, and indexes in the order of each value."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_VISIBLE = "deleted_at IS NULL"
_ANY_END = "coalesce(finished_at, 0) >= 0"
_TEXTS = {"name": 200, "stop_reason": 32}
_LAST = (
    "(SELECT last FROM metric_series WHERE metric_series.experiment_id = experiments.id"
    " AND metric_series.key = 'test/accuracy' AND last BETWEEN 0 AND 1)"
)
# A summary says NaN in words.
_STORED = {
    "sqlite": "CASE WHEN json_type(summary, '$.test_accuracy') IN ('integer', 'real')"
    " THEN json_extract(summary, '$.test_accuracy') END",
    "postgresql": "CASE WHEN json_typeof(summary -> 'test_accuracy') = 'number'"
    " THEN CAST(summary ->> 'test_accuracy' AS double precision) END",
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.add_column("experiments", sa.Column("accuracy", sa.Double(), nullable=True))
    op.execute(f"UPDATE experiments SET accuracy = COALESCE({_STORED[dialect]}, {_LAST})")
    _order_texts("C", dialect)
    op.create_index("ix_experiments_accuracy", "experiments", ["accuracy", "id"])
    op.create_index("ix_experiments_owner_accuracy", "experiments", ["submitted_by", "accuracy", "id"])
    op.create_index("ix_experiments_stop", "experiments", ["stop_reason", "id"])
    op.create_index("ix_experiments_owner_stop", "experiments", ["submitted_by", "stop_reason", "id"])
    _index_ended("ix_jobs_ended", ["kind", "finished_at", "id"], f"{_VISIBLE} AND owner || '' <> '' AND {_ANY_END}")
    _index_ended("ix_jobs_owned_ended", ["kind", "owner", "finished_at", "id"], f"{_VISIBLE} AND {_ANY_END}")


def downgrade() -> None:
    op.drop_index("ix_jobs_owned_ended", table_name="jobs")
    op.drop_index("ix_jobs_ended", table_name="jobs")
    for name in ("owner_stop", "stop", "owner_accuracy", "accuracy"):
        op.drop_index(f"ix_experiments_{name}", table_name="experiments")
    _order_texts("default", op.get_bind().dialect.name)
    with op.batch_alter_table("experiments") as batch:
        batch.drop_column("accuracy")


def _order_texts(collation: str, dialect: str) -> None:
    """By code points, as SQLite orders all text."""
    if dialect == "postgresql":
        for name, chars in _TEXTS.items():
            op.alter_column("experiments", name, type_=sa.String(chars, collation=collation))


def _index_ended(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
