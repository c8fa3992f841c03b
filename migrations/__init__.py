"""The history of the schema, run by `python -m store migrate`."""
