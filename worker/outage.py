"""What a database that is away looks like, as opposed to a mistake of ours."""

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, TimeoutError

OUTAGE = (OperationalError, InterfaceError, InternalError, TimeoutError)
"""Worth another try later: refused, cut off, starting up, locked for too long, full, or no free connection."""
