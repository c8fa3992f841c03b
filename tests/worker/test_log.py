"""What the logs of worker and relay make of other people's lines."""

import json
import subprocess
import sys

# Kombu's own words and Celery's own logger: who changes either has to change the filter.
PROGRAM = """
import logging
from celery.worker.consumer import consumer
from kombu.message import Message
from worker.log import configure_logging

class Gone:
    no_ack_consumers = None
    def basic_ack(self, *_, **__):
        raise ConnectionResetError(104, "Connection reset by peer")
    basic_reject = basic_ack

configure_logging("json", "worker")
for say in ("ack_log_error", "reject_log_error"):
    getattr(Message(body="", delivery_tag="7", channel=Gone()), say)(consumer.logger, (ConnectionResetError,))
try:
    raise ValueError("a fault of ours")
except ValueError:
    consumer.logger.critical("Couldn't do it", exc_info=True)
"""


def test_a_broker_that_goes_before_it_hears_that_a_bell_was_taken_is_no_fault_of_ours() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=180, check=True)
    taken, left, fault = map(json.loads, done.stderr.splitlines())
    for line, word in ((taken, "ack"), (left, "reject")):
        assert line["event"].startswith(f"Couldn't {word} '7'")
        assert "Connection reset by peer" in line["event"]
        assert "exception" not in line
        assert line["level"] == "warning"
    assert "a fault of ours" in fault["exception"]
    assert fault["level"] == "critical"
