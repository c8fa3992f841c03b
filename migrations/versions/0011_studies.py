"""Studies, the jobs that they wait for, and what was judged."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("submitted_by", sa.String(64), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.Column("part_of", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("claim", sa.String(64), nullable=True),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("design", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=True),
        sa.Column("seeds", sa.BigInteger(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("extensions", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(64), nullable=True),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("judged", sa.BigInteger(), nullable=False),
        sa.Column("outcomes", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["id"], ["jobs.id"], name=op.f("fk_studies_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
    )
    op.create_index("ix_studies_listed", "studies", ["part_of", "submitted_at", "id"])
    op.create_index("ix_studies_owner", "studies", ["submitted_by", "part_of", "submitted_at", "id"])
    op.create_index("ix_studies_waiting", "studies", ["waiting", "id"])
    op.create_table(
        "study_jobs",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("arm", sa.String(64), nullable=True),
        sa.Column("setting", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("of_experiment", sa.String(64), nullable=True),
        sa.Column("evaluation", sa.String(64), nullable=True),
        sa.Column("evaluated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_study_jobs_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_study_jobs_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_study_jobs")),
    )
    op.create_index("ix_study_jobs_place", "study_jobs", ["study_id", "place"])
    op.create_index("ix_study_jobs_of_experiment", "study_jobs", ["of_experiment"])
    op.create_table(
        "study_verdicts",
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("judged_at", sa.Double(), nullable=False),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.Column("taken", sa.JSON(), nullable=False),
        sa.Column("runs", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_study_verdicts_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "number", name=op.f("pk_study_verdicts")),
    )


def downgrade() -> None:
    # Their experiments stay: without a study they are experiments all the same. A job whose kind nobody knows would
    # be claimed and break its worker.
    op.execute("DELETE FROM job_events WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'study')")
    op.execute("DELETE FROM job_logs WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'study')")
    op.execute("DELETE FROM jobs WHERE kind = 'study'")
    op.drop_table("study_verdicts")
    op.drop_table("study_jobs")
    op.drop_table("studies")
