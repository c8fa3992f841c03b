"""What is asked of experiments: to end, rest, go on, run again, be called otherwise, be gone.

Invariant: asking again after a lost answer does nothing more, and what was done is no error.
"""

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from client.calls import Calls, is_terminal, path_of
from client.errors import ApiError, Json
from client.filters import Filters, query


class Edits(TypedDict, total=False):
    """What of an experiment can be changed; what is left out stays."""

    name: str | None
    """None takes the name away."""
    tags: Mapping[str, str | None] | None
    """By key, beside those that are there; None takes a tag, or all of them, away."""


class ActionCalls(Calls):
    """The actions on an experiment (or, by its id, an import or evaluation), and on all that a filter finds."""

    def cancel(self, experiment_id: str) -> Json:
        """Ask for the end. A running experiment saves a checkpoint first; repeating changes nothing."""
        return self._ask(experiment_id, "cancel")

    def kill(self, experiment_id: str) -> Json:
        """Like `cancel`, and also after it, but a running trainer is given no time to save what it has reached."""
        return self._ask(experiment_id, "kill")

    def pause(self, experiment_id: str) -> Json:
        """Ask for a rest. A running experiment saves a checkpoint first, and keeps nobody's worker until `resume`."""
        return self._ask(experiment_id, "pause")

    def resume(self, experiment_id: str) -> Json:
        """Queue a paused experiment again, or take back a pause that has not come yet."""
        return self._ask(experiment_id, "resume")

    def retry(self, experiment_id: str) -> Json:
        """Queue what failed or was cancelled again: an experiment goes on from its last checkpoint."""

        def was_queued(refusal: ApiError) -> bool:
            return refusal.status == 409 and "state" in refusal.problem and not is_terminal(refusal.problem)

        self._transport.do("POST", path_of(experiment_id, "retry"), was_queued)
        answer: Json = self._json("GET", path_of(experiment_id))
        return answer

    def edit(self, experiment_id: str, **edits: Unpack[Edits]) -> Json:
        """Change the name and tags of an experiment, and return it."""
        answer: Json = self._json("PATCH", path_of(experiment_id), body=edits)
        return answer

    def delete(self, experiment_id: str) -> None:
        """Delete an experiment that has ended, with its metrics and checkpoints."""
        self._transport.do("DELETE", path_of(experiment_id), lambda refusal: refusal.status == 404)

    def cancel_all(self, *, everything: bool = False, **filters: Unpack[Filters]) -> int:
        """Cancel all that a listing with these filters would show and that has not ended; how many were asked.

        Without a filter it takes `everything=True`. Of a call whose answer was lost nobody knows the number. Raises
        `TypeError`, and asks for nothing, where there is no such filter.
        """
        return self._to_all("cancel", filters, everything)

    def delete_all(self, *, everything: bool = False, **filters: Unpack[Filters]) -> int:
        """Delete all that a listing with these filters would show and that has ended; how many.

        Without a filter it takes `everything=True`. Of a call whose answer was lost nobody knows the number. Raises
        `TypeError`, and asks for nothing, where there is no such filter.
        """
        return self._to_all("delete", filters, everything)

    def _ask(self, experiment_id: str, action: str) -> Json:
        answer: Json = self._json("POST", path_of(experiment_id, action))
        return answer

    def _to_all(self, action: str, filters: Filters, everything: bool) -> int:
        params: dict[str, Any] = query(filters) | ({"all": "true"} if everything else {})
        changed, more = 0, True
        while more:
            # One request changes a bounded number.
            answer = self._json("POST", f"/v1/experiments:{action}", params=params)
            changed, more = changed + answer["changed"], answer["more"]
        return changed
