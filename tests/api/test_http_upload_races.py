"""Uploads over HTTP while others hold what they need: completed twice at once, and given up on in their last step."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.api.datasets import begin, put, sha256
from tests.api.trouble import until
from tests.store.test_races import await_waiting


@pytest.fixture
def database_url(postgresql_url):
    """SQLite has no lock of a single row that a test could hold."""
    return postgresql_url


def completed(api, dataset_id, content):
    return api.client.post(f"/v1/datasets/{dataset_id}/complete", json={"sha256": sha256(content)})


@pytest.mark.parametrize("already", [False, True])
def test_all_who_complete_one_upload_at_once_are_told_what_it_is(api, database_url, already):
    known = None
    for _ in range(1 + already):
        upload = begin(api.client)["id"]
        assert put(api.client, upload, 1, b"same").status_code == 204
        known = known or (completed(api, upload, b"same").json()["id"] if already else upload)
    with ThreadPoolExecutor(3) as threads, psycopg.connect(database_url) as other:
        other.execute("SELECT id FROM owners FOR UPDATE")
        answers = [threads.submit(completed, api, upload, b"same") for _ in range(3)]
        await_waiting(database_url, 3)
        other.rollback()
        found = [one.result() for one in answers]
    status = 200 if already else 202
    assert {(one.status_code, one.json()["id"]) for one in found} == {(status, known)}


def test_a_part_whose_sender_was_told_503_counts_and_is_there_or_does_neither(serve, database_url):
    # On a busy machine, half a second may be too short without anybody in the way: another process has more patience.
    with serve(database_url, database_seconds=0.5) as api, serve(database_url) as patient:
        upload = begin(patient.client)["id"]
        assert put(patient.client, upload, 1, b"first").status_code == 204
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("BEGIN")
            other.execute("SELECT number FROM upload_parts FOR UPDATE")
            # Between the end of one wait, for the part, and that of the next, to give it up.
            released = threading.Timer(0.75, other.execute, ("COMMIT",))
            released.start()
            put(api.client, upload, 1, b"second")
            released.join()
        # It comes when its turn is, behind whatever is still to be done for the one before.
        until(lambda: put(api.client, upload, 2, b"end").status_code == 204)
        there, _ = patient.client.get(f"/v1/datasets/{upload}/parts").json()["data"]
        content = {sha256(one): one for one in (b"first", b"second")}[there["sha256"]]
        answer = completed(patient, upload, content + b"end")
        assert answer.status_code == 202, answer.text


def test_parts_that_are_replaced_while_all_are_read_are_said_to_have_changed(api, database_url):
    upload = begin(api.client)["id"]
    put(api.client, upload, 1, b"first")
    with ThreadPoolExecutor(1) as threads, psycopg.connect(database_url) as other:
        other.execute("LOCK content_chunks")
        answer = threads.submit(completed, api, upload, b"first")
        await_waiting(database_url, 1)
        other.execute("DELETE FROM content_chunks")
        other.execute("UPDATE files SET dropped_at = 1")
        other.commit()
        refused = answer.result()
    assert (refused.status_code, refused.json()["code"]) == (409, "parts_changed")
