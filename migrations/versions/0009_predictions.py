"""Predictions with a checkpoint: jobs that somebody waits for."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("submitted_by", sa.String(64), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.Column("checkpoint_id", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["id"], ["jobs.id"], name=op.f("fk_predictions_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )


def downgrade() -> None:
    # Jobs of a kind that nobody knows any more would be in the way.
    op.drop_table("predictions")
    known = "SELECT id FROM jobs WHERE kind <> 'prediction'"
    for table in ("job_logs", "job_events"):
        op.execute(f"DELETE FROM {table} WHERE job_id NOT IN ({known})")
    op.execute("UPDATE files SET job_id = NULL, dropped_at = 0 WHERE job_id NOT IN (" + known + ")")
    op.execute("DELETE FROM jobs WHERE kind = 'prediction'")
