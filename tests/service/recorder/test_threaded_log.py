"""The log's thread: waiting threads learn of its end, after an error or a close."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import OperationalError, StoredEvent

from service.recorder import Factory
from tests.service.recorder.test_recorder import environment

SECONDS = 40.0
"""Shorter than the time-out of a call, so that a call that only times out fails the test."""


def event() -> StoredEvent:
    return StoredEvent(uuid4(), 1, "Happened", b"{}")


def break_the_listener(url: str) -> None:
    """Drop the function that the live log calls at each poll."""
    with psycopg.connect(url) as owner:
        owner.execute("alter function app.log_head() rename to log_head_of_another_version")


def test_an_error_after_the_start_reaches_the_threads_that_wait(url: str) -> None:
    factory = Factory(environment(url))
    recorder = factory.application_recorder()
    with ThreadPoolExecutor(1) as threads, recorder.subscribe() as subscription:
        waiting = threads.submit(next, subscription)
        break_the_listener(url)
        with pytest.raises(OperationalError, match="log_head"):
            waiting.result(SECONDS)
    with pytest.raises(OperationalError, match="the log has stopped"):
        recorder.insert_events([event()])
    factory.close()


def test_a_closed_log_refuses_work_at_once(url: str) -> None:
    factory = Factory(environment(url))
    recorder = factory.application_recorder()
    recorder.insert_events([event()])
    factory.close()
    factory.close()
    with pytest.raises(OperationalError, match="the log is closed"):
        recorder.insert_events([event()])


def test_closing_the_log_ends_a_subscription_that_waits(url: str) -> None:
    factory = Factory(environment(url))
    subscription = factory.application_recorder().subscribe()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(next, subscription)
        factory.close()
        with pytest.raises(OperationalError, match="the log is closed"):
            waiting.result(SECONDS)
