"""What a run measured: series, each in one row of facts and in packed segments."""

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import METRIC_KEY_CHARS
from store.columns import Count, NanDouble, Table, Word


class MetricSeries(Table):
    """A series in one row, so that listings never touch points. `first` to `maximum` may be NaN."""

    __tablename__ = "metric_series"

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(METRIC_KEY_CHARS), primary_key=True)
    count: Mapped[Count]
    first_step: Mapped[Count]
    last_step: Mapped[Count]
    first: Mapped[float] = mapped_column(NanDouble, nullable=True)
    last: Mapped[float] = mapped_column(NanDouble, nullable=True)
    minimum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    """Of the finite points; NaN when there are none."""
    maximum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    nonfinite: Mapped[Count]


class MetricSegment(Table):
    """A block of points of one series, packed (`store.results.segments`); never spans a checkpoint step."""

    __tablename__ = "metric_segments"

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(METRIC_KEY_CHARS), primary_key=True)
    first_step: Mapped[Count] = mapped_column(primary_key=True, autoincrement=False)
    """In the primary key: two segments of a series cannot start at the same step, whatever attempt wrote them."""
    last_step: Mapped[Count]
    attempt: Mapped[int]
    count: Mapped[int]
    first: Mapped[float] = mapped_column(NanDouble, nullable=True)
    last: Mapped[float] = mapped_column(NanDouble, nullable=True)
    minimum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    maximum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    nonfinite: Mapped[int]
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    points: Mapped[bytes] = mapped_column(LargeBinary)
