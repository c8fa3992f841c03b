"""How far the searches of sweeps are."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("sweeps", sa.Column("search_state", sa.String(64), nullable=True))
    op.add_column("sweeps", sa.Column("search_note", sa.Text(), nullable=True))
    condition = sa.text("search_state = 'open'")
    op.create_index(
        "ix_sweeps_searching", "sweeps", ["id"], sqlite_where=condition, postgresql_where=condition, unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_sweeps_searching", table_name="sweeps")
    with op.batch_alter_table("sweeps") as batch:
        batch.drop_column("search_note")
        batch.drop_column("search_state")
