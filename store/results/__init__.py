"""What runs report, and how it is read: series of points, packed into segments."""

from store.results.appending import append
from store.results.reading import Series, last_values, series, summaries

__all__ = ["Series", "append", "last_values", "series", "summaries"]
