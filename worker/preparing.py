"""What a run directory needs before its trainer: what is asked, and the checkpoint to go on from.

Invariant: a checkpoint that is not what was stored is given up, and the job goes back to the one before it, or to the
beginning: damage costs time, never other bits.
"""

import json
import shutil
from collections.abc import Callable
from typing import Any

import structlog

from store import blobs, work
from store.database import Database
from store.errors import CheckpointDamaged
from store.work import Claim
from worker.insisting import Insistence
from worker.restore import RestoreInterrupted, fetch
from worker.run_directory import RunDirectory

log = structlog.get_logger()


class Preparation:
    """The preparation of one attempt; use `finish` once."""

    def __init__(self, claim: Claim, directory: RunDirectory, database: Database, device: str) -> None:
        self._claim = claim
        self._directory = directory
        self._database = database
        self._device = device
        self.restored = claim.restore
        """The checkpoint that is, or will be, in the directory."""
        self.restore_step = claim.restore_step

    def finish(self, insistence: Insistence, goes_on: Callable[[], bool]) -> bool:
        """Write everything; False when `goes_on` said in between that there is a reason to stop."""
        spec: dict[str, Any] = dict(self._claim.spec)
        if "resources" in spec:
            # The queue has decided; `auto` must not be decided a second time, perhaps differently.
            spec["resources"] = {**spec["resources"], "device": self._device}
        self._directory.asked(self._claim.kind).write_text(json.dumps(spec), encoding="utf-8")
        try:
            while self.restored is not None and not self._restored(insistence, goes_on):
                continue
        except RestoreInterrupted:
            log.info("restore_interrupted")
            return False
        return goes_on()

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
            blobs.give_up(session, self._claim.lease, checkpoint_id, why)
            earlier = work.go_back(session, self._claim.lease)
        self.restored = None if earlier is None else earlier.id
        self.restore_step = 0 if earlier is None else earlier.step
