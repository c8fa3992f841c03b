"""Since when, and from which step, the newest attempt trains."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("experiments", sa.Column("begun_at", sa.Double(), nullable=True))
    op.add_column("experiments", sa.Column("begun_step", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("experiments", "begun_step")
    op.drop_column("experiments", "begun_at")
