"""Which of a trainer's events become lines of the experiment's log, and what they say.

Phases and metrics are no lines: they come by the hundred and have columns of their own. The end of an attempt and
whole checkpoints are logged by the functions that store them.
"""

import json
from collections.abc import Iterable

from bncore.events import Event, FirstStep, NormsChecked, Note, Started, TargetReached
from store.jobs.eventlog import Entry


def entries(events: Iterable[Event]) -> list[Entry]:
    """The log lines of some events, in order."""
    return [entry for event in events if (entry := _entry(event)) is not None]


def _entry(event: Event) -> Entry | None:
    match event:
        case Started():
            return _line(event, "started", f"Training from step {event.step} on {event.device_model}.")
        case FirstStep():
            return _line(event, "first_step", f"Step {event.step} is done, the first of this attempt.")
        case TargetReached():
            value = event.test_accuracy if event.value is None else event.value
            said = event.metric.replace("/", " ").capitalize()
            return _line(event, "target_reached", f"{said} {value:.4f} at step {event.step}.")
        case NormsChecked():
            said = " ".join(event.warnings) or "Nothing is wrong with the normalizations any more."
            return _line(event, "norm_health", said)
        case Note():
            return _line(event, event.code, event.message)
        case _:
            return None


def _line(event: Event, kind: str, message: str) -> Entry:
    # By JSON and back: the dump of a model keeps NaN a float.
    data = json.loads(event.model_dump_json(exclude={"kind", "at"}))
    return Entry(kind, message, data, trainer_at=event.at)
