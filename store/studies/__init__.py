"""Studies: submitted, found, followed, changed, taken further, judged.

Invariant: a study is a job, which is at work only for the moments in which something is judged or submitted; in between
it waits for its experiments and holds no worker. Each step is one transaction.
"""

from store.studies.changing import cancel, delete, extend, extend_once, pause, resume, retry
from store.studies.courses import courses
from store.studies.finding import Member, Members, get, members, page, parts, verdict
from store.studies.standing import StudyStanding, mark_of, marks, standing, standings
from store.studies.submitting import StudySubmission, replayed, request_fingerprint, submit, submit_once
from store.studies.waking import due, wake

__all__ = [
    "Member",
    "Members",
    "StudyStanding",
    "StudySubmission",
    "cancel",
    "courses",
    "delete",
    "due",
    "extend",
    "extend_once",
    "get",
    "mark_of",
    "marks",
    "members",
    "page",
    "parts",
    "pause",
    "replayed",
    "request_fingerprint",
    "resume",
    "retry",
    "standing",
    "standings",
    "submit",
    "submit_once",
    "verdict",
    "wake",
]
