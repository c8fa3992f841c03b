"""What a run directory needs before its trainer: what is asked, files, data, and the checkpoint to go on from.

Invariant: a checkpoint that is not what was stored is given up, and the job goes back to the one before it, or to the
beginning: damage costs time, never other bits.
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from itertools import chain
from typing import Any

import structlog

from store import checkpoints, files, work
from store.database import Database
from store.errors import CheckpointDamaged
from store.studies import working as studies
from store.work import Claim
from worker.data_cache import DataCache
from worker.fetching import Interrupted, write
from worker.insisting import Insistence
from worker.restore import fetch
from worker.run_directory import RunDirectory

log = structlog.get_logger()


class Preparation:
    """The preparation of one attempt; use `finish` once, and `close` at the attempt's end."""

    def __init__(
        self, claim: Claim, directory: RunDirectory, database: Database, device: str, cache: DataCache
    ) -> None:
        self._claim = claim
        self._directory = directory
        self._database = database
        self._device = device
        self._cache = cache
        self._held = contextlib.ExitStack()
        self.found: dict[str, Any] = {}
        """Of a study: all that its step decides by."""
        self.restored = claim.restore
        """The checkpoint that is, or will be, in the directory."""
        self.restore_step = claim.restore_step

    def finish(self, insistence: Insistence, goes_on: Callable[[], bool]) -> bool:
        """Write everything; False when `goes_on` said in between that there is a reason to stop.

        Raises `FileDamaged`, `FileNotFound` and `DatasetDamaged`, where what the job needs is not what was stored.
        """
        spec: dict[str, Any] = dict(self._claim.spec)
        try:
            if self._claim.kind == "study":
                spec = self._found(insistence, goes_on)
        except Interrupted:
            return False
        if "resources" in spec:
            # The queue has decided; `auto` must not be decided a second time, perhaps differently.
            spec["resources"] = {**spec["resources"], "device": self._device}
        self._directory.asked(self._claim.kind).write_text(json.dumps(spec), encoding="utf-8")
        if self._claim.rest_at is not None:
            self._directory.rest.write_text(json.dumps({"step": self._claim.rest_at}), encoding="utf-8")
        try:
            insistence.on(lambda: self._fetch_inputs(goes_on))
            insistence.on(lambda: self._hold_data(goes_on))
            while self.restored is not None and not self._restored(insistence, goes_on):
                continue
        except Interrupted:
            log.info("restore_interrupted")
            return False
        return goes_on()

    def close(self) -> None:
        """Let go of the data set, once nobody reads it any more."""
        self._held.close()

    def _found(self, insistence: Insistence, goes_on: Callable[[], bool]) -> dict[str, Any]:
        """What a study has found so far, which nobody but its own step changes while it is at work."""
        found: dict[str, Any] = {}

        def between() -> None:
            if not goes_on():
                raise Interrupted

        insistence.on(lambda: found.update(studies.found(self._database, self._claim.lease.job_id, between)))
        self.found = found
        return found

    def _fetch_inputs(self, goes_on: Callable[[], bool]) -> None:
        for path, file_ids in self._claim.inputs.items():
            target = self._directory.path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            chunks = chain.from_iterable(files.read(self._database, file_id) for file_id in file_ids)
            write(chunks, target, goes_on)

    def _hold_data(self, goes_on: Callable[[], bool]) -> None:
        data = self._claim.data
        if data is None:
            return
        there = self._held.enter_context(self._cache.holding(data, goes_on))
        self._directory.data.mkdir(exist_ok=True)
        (self._directory.data / data.sha256).symlink_to(there)

    def _restored(self, insistence: Insistence, goes_on: Callable[[], bool]) -> bool:
        """Whether the checkpoint is there; when it is damaged, an earlier one is to be tried."""
        checkpoint_id = self.restored
        assert checkpoint_id is not None
        try:
            insistence.on(lambda: fetch(self._database, checkpoint_id, self._directory, goes_on))
        except CheckpointDamaged as error:
            log.error("checkpoint_damaged", checkpoint_id=checkpoint_id, error=str(error))
            why = str(error)
            insistence.on(lambda: self._go_back(checkpoint_id, why))
            shutil.rmtree(self._directory.restore, ignore_errors=True)
            return False
        return True

    def _go_back(self, checkpoint_id: str, why: str) -> None:
        with self._database.write() as session:
            checkpoints.give_up(session, self._claim.lease, checkpoint_id, why)
            earlier = work.go_back(session, self._claim.lease)
        self.restored = None if earlier is None else earlier.id
        self.restore_step = 0 if earlier is None else earlier.step
