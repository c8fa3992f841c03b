"""What runs report, and how it is read: series of points, packed into segments."""

from store.results.appending import append
from store.results.overview import keys_of, points_of
from store.results.reading import Series, last_values, series, summaries

__all__ = ["Series", "append", "keys_of", "last_values", "points_of", "series", "summaries"]
