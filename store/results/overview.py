"""What many experiments have at once, without reading a point."""

from collections.abc import Collection, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.columns import one_of
from store.tables import MetricSeries


def keys_of(session: Session, experiment_ids: Collection[str]) -> list[str]:
    """The keys that any of them has, in order."""
    statement = select(MetricSeries.key).where(one_of(MetricSeries.experiment_id, experiment_ids)).distinct()
    return sorted(session.scalars(statement))


def points_of(session: Session, experiment_ids: Collection[str], keys: Sequence[str] | None = None) -> dict[str, int]:
    """How many points the series of these keys (all keys when None) have in all of them, by key."""
    statement = select(MetricSeries.key, func.sum(MetricSeries.count)).where(
        one_of(MetricSeries.experiment_id, experiment_ids)
    )
    if keys is not None:
        statement = statement.where(MetricSeries.key.in_(keys))
    return {key: int(count) for key, count in session.execute(statement.group_by(MetricSeries.key))}
