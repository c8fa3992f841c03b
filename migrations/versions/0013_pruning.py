"""Where experiments of sweeps rest, and what was decided there."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("experiments", sa.Column("rest_at", sa.BigInteger(), nullable=True))
    op.add_column("sweep_experiments", sa.Column("pruned_at", sa.BigInteger(), nullable=True))
    op.add_column("sweeps", sa.Column("prune_state", sa.String(64), nullable=True))
    op.add_column("sweeps", sa.Column("rungs_decided", sa.BigInteger(), nullable=True))
    condition = sa.text("prune_state = 'open'")
    op.create_index(
        "ix_sweeps_pruning", "sweeps", ["id"], sqlite_where=condition, postgresql_where=condition, unique=False
    )
    op.create_table(
        "sweep_rungs",
        sa.Column("sweep_id", sa.String(64), nullable=False),
        sa.Column("bracket", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("ranking", sa.JSON(), nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_rungs_sweep_id_sweeps"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sweep_id", "bracket", "number", name=op.f("pk_sweep_rungs")),
    )


def downgrade() -> None:
    op.drop_table("sweep_rungs")
    op.drop_index("ix_sweeps_pruning", table_name="sweeps")
    with op.batch_alter_table("sweeps") as batch:
        batch.drop_column("rungs_decided")
        batch.drop_column("prune_state")
    with op.batch_alter_table("sweep_experiments") as batch:
        batch.drop_column("pruned_at")
    with op.batch_alter_table("experiments") as batch:
        batch.drop_column("rest_at")
