"""Jobs of other kinds than experiments: imports of data sets, and evaluations."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _datasets()
    _dataset_uses()
    _evaluations()
    _uploads()


def downgrade() -> None:
    # Jobs of kinds that nobody knows any more would be in the way of every listing.
    for table in ("upload_parts", "uploads", "evaluations", "dataset_uses", "datasets"):
        op.drop_table(table)
    known = "SELECT id FROM jobs WHERE kind = 'experiment'"
    for table in ("job_logs", "job_events"):
        op.execute(f"DELETE FROM {table} WHERE job_id NOT IN ({known})")
    op.execute("DELETE FROM jobs WHERE kind <> 'experiment'")


def _subject(table: str) -> list[sa.Column[object] | sa.Constraint]:
    return [
        sa.Column("id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["id"], ["jobs.id"], name=op.f(f"fk_{table}_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.Column("submitted_by", sa.String(64), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
    ]


def _datasets() -> None:
    op.create_table(
        "datasets",
        *_subject("datasets"),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("file_name", sa.String(200), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("source_size", sa.BigInteger(), nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
    )
    op.create_index("ix_datasets_same", "datasets", ["submitted_by", "source_sha256", "fingerprint"])


def _dataset_uses() -> None:
    op.create_table(
        "dataset_uses",
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [column], ["jobs.id"], name=op.f(f"fk_dataset_uses_{column}_jobs"), ondelete="CASCADE"
            )
            for column in ("dataset_id", "job_id")
        ),
        sa.PrimaryKeyConstraint("dataset_id", "job_id", name=op.f("pk_dataset_uses")),
    )
    op.create_index("ix_dataset_uses_job_id", "dataset_uses", ["job_id"])


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        *_subject("evaluations"),
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("checkpoint_id", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
    )
    op.create_index("ix_evaluations_listed", "evaluations", ["experiment_id", "submitted_at", "id"])
    op.create_index("ix_evaluations_checkpoint_id", "evaluations", ["checkpoint_id"])


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("file_name", sa.String(200), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("dataset_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("owner", "idempotency_key", name=op.f("uq_uploads_owner_idempotency_key")),
    )
    op.create_index("ix_uploads_listed", "uploads", ["owner", "created_at", "id"])
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_id", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_upload_parts")),
    )
