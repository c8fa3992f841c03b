"""The database behind the service: what is stored, and who may change it when.

Functions take a session first and never commit; the edge does (`store.database.Database.write`). Whoever writes for a
running experiment shows its lease, and a stale lease changes nothing.
"""
