"""Data sets from their first part on: uploaded, the same once, imported, used, deleted, and nothing left."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from store import experiments, files, purging, work
from store.datasets import changing, completing, finding, uploads, using
from store.errors import DatasetInUse, DatasetNotFound, DatasetUnusable, IdempotencyConflict, QuotaExceeded
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits
from store.tables import Owner
from store.upload_errors import PartsMissing, SourceGone, UploadCompleted, UploadMismatch, UploadTooLarge
from tests.store.conftest import ANYBODY, Lab

SHA = "0" * 64
DAY = 24 * 3600.0


def left(lab: Lab) -> dict[str, Any]:
    """The rows that are left once all that is due was purged."""
    for _ in range(30):
        with lab.database.write() as session:
            uploads.purge(session)
            purging.purge(session)
    kept = lab.everything(but=("bells", "alembic_version", "owners", "watches"))
    return {name: rows for name, rows in kept.items() if rows}


def make_owner(lab: Lab) -> None:
    """Whoever counts for an owner waits at that one's row."""
    with lab.database.write() as session:
        session.add(Owner(id="own_1", name="one", stored_bytes=0, created_at=0.0))


def submission(lab: Lab, dataset_id: str) -> experiments.Submission:
    """An experiment that names a data set; the store reads nothing else of it."""
    made = lab.submission()
    return replace(made, document={**made.document, "data": {"kind": "dataset", "id": dataset_id, "sha256": SHA}})


def submit(lab: Lab, dataset_id: str, owner: str = "own_1") -> str:
    with lab.database.write() as session:
        return experiments.submit(session, submission(lab, dataset_id), owner=owner, device="cpu").id


def test_parts_in_any_order_become_a_data_set_whose_import_is_given_all_of_them(lab):
    upload = lab.upload()
    for number, piece in ((3, b"c"), (1, b"a"), (2, b"x"), (2, b"b")):
        lab.part(upload.id, number, piece)
    completed = lab.complete_upload(upload)
    assert completed == completing.Completed(upload.id, already_there=False)
    claim = lab.claim()
    assert (claim.kind, claim.lease.job_id) == ("dataset", upload.id)
    ((path, file_ids),) = claim.inputs.items()
    assert path == "source/n.npz"
    assert b"".join(b"".join(files.read(lab.database, one)) for one in file_ids) == b"abc"


def test_a_part_that_is_missing_or_another_one_is_said(lab):
    upload = lab.upload()
    with pytest.raises(PartsMissing) as nothing:
        lab.complete_upload(upload)
    assert nothing.value.numbers == [1]
    for number in (2, 5):
        lab.part(upload.id, number, b"piece")
    with pytest.raises(PartsMissing) as some:
        lab.complete_upload(upload)
    assert some.value.numbers == [1, 3, 4]
    for number in (1, 3, 4):
        lab.part(upload.id, number, b"piece")
    with pytest.raises(UploadMismatch, match="25 bytes"):
        lab.complete_upload(upload, SHA)
    assert lab.complete_upload(upload).dataset_id == upload.id
    with pytest.raises(UploadCompleted):
        lab.part(upload.id, 6, b"late")


def test_the_same_bytes_to_be_read_alike_are_one_data_set_of_their_owner_and_no_other(lab):
    first = lab.complete_upload(lab.upload(b"same"))
    again = lab.complete_upload(lab.upload(b"sa", b"me", name="other"))
    assert again == completing.Completed(first.dataset_id, already_there=True)
    others = [
        lab.complete_upload(lab.upload(b"same", resize=8)),
        lab.complete_upload(lab.upload(b"same", owner="own_2")),
    ]
    assert not any(one.already_there for one in others)
    assert len({first.dataset_id, *(one.dataset_id for one in others)}) == 3


def test_of_the_same_upload_completed_many_times_at_once_there_is_one_data_set(lab):
    make_owner(lab)
    waiting = [lab.upload(b"same") for _ in range(6)]
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one: found.append(lab.complete_upload(one).dataset_id)) for one in waiting
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    with lab.database.read() as session:
        assert [row.id for row in finding.page(session, "own_1").rows] == found[:1]


def test_an_upload_that_nobody_completes_is_forgotten_bytes_and_all(lab):
    lab.upload(b"first", b"second")
    kept = lab.upload(b"third")
    lab.jump(DAY - 60)
    assert set(left(lab)) == {"uploads", "upload_parts", "files", "contents", "content_chunks"}
    lab.jump(120)
    with pytest.raises(DatasetNotFound), lab.database.read() as session:
        uploads.get(session, kept.id, owner=None)
    lab.jump(DAY)
    assert left(lab) == {}


def test_an_upload_has_limits_and_counts_towards_its_owner(lab):
    make_owner(lab)
    upload = lab.upload(b"12345")
    lab.part(upload.id, 1, b"123456", most_bytes=6)
    with pytest.raises(UploadTooLarge):
        lab.part(upload.id, 2, b"7", most_bytes=6)
    with pytest.raises(QuotaExceeded):
        lab.part(upload.id, 2, b"7", owner_bytes=6)
    with lab.database.write() as session:
        uploads.give_up(session, upload.id, owner="own_1")
    assert left(lab) == {}
    with lab.database.read() as session:
        assert session.scalars(select(Owner.stored_bytes).where(Owner.id == "own_1")).all() == [0]


def test_one_key_is_one_upload_until_that_came_to_nothing(lab):
    wanted = uploads.Wanted("n", "n.npz", {}, "f")

    def begin(**other: Any) -> str:
        with lab.database.write() as session:
            keyed = {"owner": "own_1", "idempotency_key": "k"}
            return uploads.begin(session, replace(wanted, **other), **keyed).id

    first = begin()
    assert begin() == first
    with pytest.raises(IdempotencyConflict):
        begin(fingerprint="another")
    lab.part(first, 1, b"bad")
    with lab.database.read() as session:
        upload = uploads.get(session, first, owner="own_1")
    lab.complete_upload(upload)
    assert begin() == first
    with lab.database.write() as session:
        work.finish(session, lab.claim().lease, work.Failed("invalid_data", "no"))
    assert begin() != first


def test_what_cannot_be_imported_leaves_its_reason_and_no_bytes(lab):
    dataset_id = lab.complete_upload(lab.upload(b"bad")).dataset_id
    claim = lab.claim()
    lab.file(claim.lease, "train-inputs.npy", b"some")
    with lab.database.write() as session:
        work.finish(session, claim.lease, work.Failed("invalid_data", "two sizes of images"))
    assert not {"files", "contents", "content_chunks", "upload_parts"} & set(left(lab))
    with lab.database.read() as session:
        row = finding.get(session, dataset_id, owner="own_1")
    assert (row.state, row.failure_message) == (State.FAILED, "two sizes of images")
    with pytest.raises(SourceGone), lab.database.write() as session:
        changing.retry(session, dataset_id, ANYBODY, Limits())
    assert lab.claim() is None


def test_one_that_is_lost_or_cancelled_keeps_its_source_and_can_be_imported_after_all(lab):
    dataset_id = lab.complete_upload(lab.upload(b"good")).dataset_id
    with lab.database.write() as session:
        work.finish(session, lab.claim().lease, work.Failed("trainer_killed", "by chance"))
    claim = lab.claim()
    with lab.database.write() as session:
        work.finish(session, claim.lease, work.Cancelled())
    with lab.database.write() as session:
        changing.retry(session, dataset_id, ANYBODY, Limits())
    again = lab.claim()
    assert (again.lease.attempt, again.inputs) == (3, claim.inputs)
    lab.file(again.lease, "dataset.json", b'{"task":"classification"}')
    with lab.database.write() as session:
        work.finish(session, again.lease, work.Concluded({"examples": 3}))
    with lab.database.read() as session:
        row = finding.get(session, dataset_id, owner="own_1")
        assert [file.name for file in files.of_job(session, dataset_id)] == ["dataset.json"]
    assert (row.manifest, row.report) == ({"task": "classification"}, {"examples": 3})
    assert len(row.sha256) == 64


def test_a_data_set_is_its_owners_and_read_by_nobody_else(lab):
    dataset_id = lab.dataset()
    for call in (
        lambda session: finding.get(session, dataset_id, owner="own_2"),
        lambda session: changing.delete(session, dataset_id, By("own_2")),
    ):
        with pytest.raises(DatasetNotFound), lab.database.write() as session:
            call(session)
    with lab.database.read() as session:
        assert finding.page(session, "own_2").rows == []
        with pytest.raises(DatasetUnusable):
            using.readable(session, "own_2", dataset_id)
    with pytest.raises(DatasetUnusable, match="no such data set of yours"):
        submit(lab, dataset_id, owner="own_2")


def test_a_name_in_the_place_of_an_id_is_answered_with_the_id(lab):
    dataset_id = lab.dataset()
    with lab.database.read() as session:
        name = using.readable(session, "own_1", dataset_id).name
        with pytest.raises(DatasetUnusable, match=f"That is a name; its id is {dataset_id}$"):
            using.readable(session, "own_1", name)
        with pytest.raises(DatasetUnusable, match="no such data set of yours"):
            using.readable(session, "own_2", name)
    other = lab.dataset(b"another")
    with lab.database.read() as session, pytest.raises(DatasetUnusable, match=f"{other}, {dataset_id}"):
        using.readable(session, "own_1", name)


def test_one_that_is_in_use_is_not_deleted_and_one_that_is_not_ready_is_not_used(lab):
    dataset_id = lab.dataset()
    experiment_id = submit(lab, dataset_id)
    with pytest.raises(DatasetInUse) as used, lab.database.write() as session:
        changing.delete(session, dataset_id, ANYBODY)
    assert used.value.used_by == [experiment_id]
    assert lab.claim().data.dataset_id == dataset_id
    waiting = lab.complete_upload(lab.upload(b"not yet imported")).dataset_id
    with pytest.raises(DatasetUnusable, match="queued"):
        submit(lab, waiting)


def test_after_its_last_user_a_data_set_can_go_and_leaves_nothing(lab):
    dataset_id = lab.dataset()
    experiment_id = submit(lab, dataset_id)
    lab.ask(experiment_id, "cancel")
    with lab.database.write() as session:
        experiments.delete(session, experiment_id, ANYBODY)
        changing.delete(session, dataset_id, ANYBODY)
    with pytest.raises(DatasetUnusable):
        submit(lab, dataset_id)
    lab.jump(2 * DAY)
    assert left(lab) == {}


def test_deleting_and_submitting_at_once_leave_no_experiment_without_its_data(lab):
    for dataset_id in [lab.dataset(source=str(number).encode()) for number in range(5)]:
        outcomes: dict[str, Any] = {}

        def attempt(name: str, act: Any, outcomes: dict[str, Any] = outcomes) -> None:
            try:
                outcomes[name] = act()
            except (DatasetUnusable, DatasetInUse) as error:
                outcomes[name] = error

        def delete(dataset_id: str = dataset_id) -> None:
            with lab.database.write() as session:
                changing.delete(session, dataset_id, ANYBODY)

        threads = [
            threading.Thread(target=attempt, args=("delete", delete)),
            threading.Thread(target=attempt, args=("submit", lambda one=dataset_id: submit(lab, one))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert isinstance(outcomes["delete"], DatasetInUse) != isinstance(outcomes["submit"], DatasetUnusable)


def test_listings_are_pages_of_one_state_newest_first(lab):
    ids = [lab.dataset(source=str(number).encode()) for number in range(3)]
    waiting = lab.complete_upload(lab.upload(b"waits")).dataset_id
    with lab.database.read() as session:
        first = finding.page(session, "own_1", State.SUCCEEDED, limit=2)
        rest = finding.page(session, "own_1", State.SUCCEEDED, first.next_cursor, limit=2)
        assert [row.id for row in (*first.rows, *rest.rows)] == ids[::-1]
        assert [row.id for row in finding.page(session, None).rows] == [waiting, *ids[::-1]]
        assert rest.next_cursor is None
