"""To which queue what is submitted goes."""

from sqlalchemy.orm import Session

from api.service import ApiService
from api.shown.waiting import Living, device_lives
from store import processes


def queue_of(service: ApiService, wanted: str, living: Living, session: Session) -> str:
    """cpu or cuda as it is wanted; `auto` is cuda if a worker for it lives right now, else cpu."""
    if wanted != "auto":
        return wanted
    if living is None:
        within = service.settings.live_within_seconds
        return "cuda" if processes.device_is_live(session, "cuda", within_seconds=within) else "cpu"
    return "cuda" if device_lives(living, "cuda") else "cpu"
