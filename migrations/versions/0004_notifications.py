"""PostgreSQL says when jobs change and bells are hung, to whoever listens (`store.signals`). SQLite's file says it."""

from collections.abc import Sequence

from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The function's argument is the channel; what is sent is nothing, so that a transaction sends it once.
_FUNCTION = """
CREATE FUNCTION bnlab_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify(TG_ARGV[0], ''); RETURN NULL; END $$
"""
_BELLS = """
CREATE TRIGGER bnlab_bells AFTER INSERT ON bells
FOR EACH STATEMENT EXECUTE FUNCTION bnlab_notify('bnlab_bells')
"""
_JOBS = """
CREATE TRIGGER bnlab_jobs AFTER UPDATE OF version ON jobs
FOR EACH STATEMENT EXECUTE FUNCTION bnlab_notify('bnlab_jobs')
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for statement in (_FUNCTION, _BELLS, _JOBS):
            op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER bnlab_jobs ON jobs")
        op.execute("DROP TRIGGER bnlab_bells ON bells")
        op.execute("DROP FUNCTION bnlab_notify")
