"""Sweeps, and which experiments are of one."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("seeds", sa.JSON(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    op.create_index("ix_sweeps_created_at", "sweeps", ["created_at", "id"])
    op.create_index("ix_sweeps_owner", "sweeps", ["owner", "created_at", "id"])
    op.create_table(
        "sweep_experiments",
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("sweep_id", sa.String(64), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("point", sa.BigInteger(), nullable=False),
        sa.Column("arm", sa.String(64), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["jobs.id"], name=op.f("fk_sweep_experiments_experiment_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_experiments_sweep_id_sweeps"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("experiment_id", name=op.f("pk_sweep_experiments")),
    )
    op.create_index("ix_sweep_experiments_place", "sweep_experiments", ["sweep_id", "place"])


def downgrade() -> None:
    # The experiments stay: without a sweep they are experiments all the same.
    op.drop_table("sweep_experiments")
    op.drop_table("sweeps")
