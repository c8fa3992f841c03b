"""What a database or a broker that is away looks like, as opposed to a mistake of ours."""

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, TimeoutError

OUTAGE = (OperationalError, InterfaceError, InternalError, TimeoutError)
"""Worth another try later: refused, cut off, starting up, locked for too long, full, or no free connection."""

BROKER_OUTAGE = (BrokerError, RedisError)


def in_a_line(error: Exception) -> str:
    """An error without the pages that SQLAlchemy adds to it."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
