"""Data sets that owners bring in: uploaded, imported, found, used, deleted."""
