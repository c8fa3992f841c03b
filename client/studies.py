"""Studies: a question, its experiments, a verdict, a report."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bncore.spec.study import StudySpec
from client.address import checked_idempotency_key
from client.calls import Calls, checked_id
from client.download import target_of, whole_file
from client.errors import Json

SUBMIT_SECONDS = 60.0
"""An article is some hundreds of experiments to lay out."""
_REPORT_SECONDS = 120.0
"""A report waits for its turn behind what others have drawn."""


class StudyCalls(Calls):
    """`/v1/studies`, one of them, and `/v1/claims`."""

    def claims(self) -> list[Json]:
        """What the article claims, as far as it can be asked: name, source, literature, scales."""
        found: list[Json] = self._json("GET", "/v1/claims")["data"]
        return found

    def submit_study(self, study: StudySpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Queue a study and return it: `{"claim": name}`, or `{"compare": {"baseline": spec, ...}, "delta": ...}`.

        `docs/studies.md` says what else it may have.
        """
        if isinstance(study, StudySpec):
            study = study.model_dump(mode="json", exclude_defaults=True)
        document = dict(study)
        return self._study_accepted("/v1/studies", document, idempotency_key)

    def extend_study(self, study_id: str, seeds: int, *, idempotency_key: str | None = None) -> Json:
        """Add seeds to a study that was judged; it is judged again, which counts as a look."""
        return self._study_accepted(_path(study_id, "extend"), {"seeds": seeds}, idempotency_key)

    def study(self, study_id: str) -> Json:
        """State, stages and progress of a study, and what was asked."""
        answer: Json = self._json("GET", _path(study_id))
        return answer

    def studies(self, *, part_of: str | None = None, page_size: int = 100) -> Iterator[Json]:
        """Studies, newest first; or those that an article is made of."""
        params = {"limit": page_size} | ({} if part_of is None else {"part_of": part_of})
        return self._pages("/v1/studies", params)

    def study_experiments(self, study_id: str, *, page_size: int = 100) -> Iterator[Json]:
        """The experiments of a study in their order, each with stage, arm, setting and seed."""
        return self._pages(_path(study_id, "experiments"), {"limit": page_size})

    def study_verdict(self, study_id: str, number: int | None = None) -> Json:
        """What was judged last, or as that number; 409 before there is anything."""
        params = {} if number is None else {"number": number}
        answer: Json = self._json("GET", _path(study_id, "verdict"), params=params)
        return answer

    def study_report(self, study_id: str) -> Json:
        """The report of a study as one document: verdicts, arms, runs, literature, design, cost."""
        answer: Json = self._json("GET", _path(study_id, "report"), timeout_seconds=_REPORT_SECONDS)
        return answer

    def save_study_page(self, study_id: str, path: str | Path) -> Path:
        """The report as one HTML page that needs nothing else, written to a file."""
        page = f"{_path(study_id)}/report.html"
        content = self._transport.request("GET", page, timeout_seconds=_REPORT_SECONDS).content
        target = target_of(path)
        with whole_file(target) as file:
            file.write(content)
        return target

    def wait_study(
        self,
        study_id: str,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Json], object] | None = None,
    ) -> Json:
        """The study once it was judged, has failed or was cancelled. Raises `WaitTimeout`."""
        return self._ended(_path(study_id), study_id, timeout_seconds, lambda found: found, on_progress)

    def cancel_study(self, study_id: str) -> Json:
        """End a study and all of its experiments; running ones save a checkpoint first."""
        return self._ask_study(study_id, "cancel")

    def pause_study(self, study_id: str) -> Json:
        """Let all of it rest until `resume_study`."""
        return self._ask_study(study_id, "pause")

    def resume_study(self, study_id: str) -> Json:
        """Let it go on."""
        return self._ask_study(study_id, "resume")

    def retry_study(self, study_id: str, *, cancelled: bool = False) -> Json:
        """Queue again what failed of it, and what was cancelled where that is asked; it is judged anew."""
        return self._ask_study(study_id, "retry", {"cancelled": "true"} if cancelled else None)

    def delete_study(self, study_id: str) -> None:
        """Delete a study that has ended, with its experiments and verdicts."""
        self._transport.do("DELETE", _path(study_id), lambda refusal: refusal.status == 404)

    def _ask_study(self, study_id: str, action: str, params: Mapping[str, Any] | None = None) -> Json:
        answer: Json = self._json("POST", _path(study_id, action), params=params)
        return answer

    def _study_accepted(self, path: str, body: Any, idempotency_key: str | None) -> Json:
        key = str(uuid.uuid4()) if idempotency_key is None else checked_idempotency_key(idempotency_key)
        headers = {"Idempotency-Key": key}
        answer: Json = self._json("POST", path, body=body, headers=headers, timeout_seconds=SUBMIT_SECONDS)
        return answer


def _path(study_id: str, *parts: str) -> str:
    return "/".join(("/v1/studies", *map(checked_id, (study_id, *parts))))
