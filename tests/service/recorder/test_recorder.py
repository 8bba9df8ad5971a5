"""The library's own test cases on our log, and further cases."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
from eventsourcing.persistence import (
    InfrastructureFactory,
    IntegrityError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    InfrastructureFactoryTestCase,
    NonInterleavingNotificationIDsBaseCase,
    ProcessRecorderTestCase,
    TrackingRecorderTestCase,
)
from eventsourcing.utils import Environment

from domain.events import SessionRenamed
from service import recorder
from service.recorder import Envelope, Factory, LogMapper

NewDatabase = Callable[[], str]


def environment(url: str, name: str = "Orders", **settings: str) -> Environment:
    """The settings of an eventsourcing application on our log."""
    return Environment(
        name,
        {"PERSISTENCE_MODULE": "service.recorder", "THROUGHLINE_DATABASE_URL": url} | settings,
    )


class OnOurLog:
    """Gives a test case of the library a factory on a database of its own."""

    factory: Factory

    @pytest.fixture(autouse=True)
    def _on_our_log(self, url: str) -> Iterator[None]:
        self.factory = Factory(environment(url))
        yield
        self.factory.close()


class TestAggregateRecorder(OnOurLog, AggregateRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.factory.aggregate_recorder()


class TestSnapshotRecorder(OnOurLog, AggregateRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.factory.aggregate_recorder(purpose="snapshots")


class TestApplicationRecorder(OnOurLog, ApplicationRecorderTestCase[Any]):
    EXPECT_CONTIGUOUS_NOTIFICATION_IDS = True

    def create_recorder(self) -> Any:
        return self.factory.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestTrackingRecorder(OnOurLog, TrackingRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.factory.tracking_recorder()


class TestProcessRecorder(OnOurLog, ProcessRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.factory.process_recorder()


class TestNonInterleaving(OnOurLog, NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> Any:
        return self.factory.application_recorder()


class OwnTrackingRecorder(recorder.LogTrackingRecorder):
    """A view with tracking, as an application writes it."""


class TestFactory(InfrastructureFactoryTestCase[Factory]):
    @pytest.fixture(autouse=True)
    def _environment(self, url: str) -> None:
        self.env = environment(url)

    def expected_factory_class(self) -> Any:
        return Factory

    def expected_aggregate_recorder_class(self) -> Any:
        return recorder.LogAggregateRecorder

    def expected_application_recorder_class(self) -> Any:
        return recorder.LogApplicationRecorder

    def expected_tracking_recorder_class(self) -> Any:
        return recorder.LogTrackingRecorder

    def tracking_recorder_subclass(self) -> Any:
        return OwnTrackingRecorder

    def expected_process_recorder_class(self) -> Any:
        return recorder.LogProcessRecorder


# Beyond the library's cases ----------------------------------------------------------------------


@pytest.fixture
def factory(url: str) -> Iterator[Factory]:
    with Factory(environment(url)) as made:
        yield made
        made.close()


def stored(version: int = 1, originator: Any = None, topic: str = "t") -> StoredEvent:
    return StoredEvent(originator or uuid4(), version, topic, b"{}")


def test_an_application_sees_only_its_own_events(url: str) -> None:
    orders, stock = Factory(environment(url, "Orders")), Factory(environment(url, "Stock"))
    try:
        orders.application_recorder().insert_events([stored()])
        ids = stock.application_recorder().insert_events([stored(topic="theirs")])
        seen = stock.application_recorder().select_notifications(None, 10)
        assert [(each.id, each.topic) for each in seen] == [(2, "theirs")]
        assert ids == [2]
        assert orders.application_recorder().max_notification_id() == 1
    finally:
        orders.close()
        stock.close()


def test_many_threads_get_each_position_once(factory: Factory) -> None:
    application = factory.application_recorder()

    def insert(_: int) -> int:
        ids = application.insert_events([stored()])
        assert ids is not None
        return ids[0]

    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(insert, range(400))) == list(range(1, 401))


def test_racing_trackings_are_recorded_once_each(factory: Factory) -> None:
    process = factory.process_recorder()

    def insert(number: int) -> bool:
        try:
            process.insert_events([stored()], tracking=Tracking("upstream", 1 + number % 5))
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(insert, range(40)))
    notifications = process.select_notifications(None, 100)
    assert 1 <= sum(won) <= 5
    assert len(notifications) == sum(won)
    assert process.max_tracking_id("upstream") == 5


def test_trackings_are_no_notifications(factory: Factory) -> None:
    process = factory.process_recorder()
    process.insert_events([stored()], tracking=Tracking("upstream", 7))
    assert len(process.select_notifications(None, 10)) == 1


def test_a_version_that_leaves_a_gap_is_refused(factory: Factory) -> None:
    """Stricter than the library, which stores such events: no decision can have seen the gap."""
    with pytest.raises(IntegrityError):
        factory.application_recorder().insert_events([stored(version=3)])


def test_a_subscription_gets_the_events_of_another_factory(url: str) -> None:
    ours, theirs = Factory(environment(url)), Factory(environment(url))
    try:
        with ours.application_recorder().subscribe() as subscription:
            event = stored()
            theirs.application_recorder().insert_events([event])
            assert next(subscription).originator_id == event.originator_id
    finally:
        ours.close()
        theirs.close()


def test_the_services_own_events_come_as_envelopes(url: str) -> None:
    factory = Factory(environment(url, "t1", ORIGINATOR_ID_TYPE="text"))
    try:
        mapper = LogMapper(transcoder=factory.transcoder())
        renamed = SessionRenamed(session_id="s", name="Plans")
        application = factory.application_recorder()
        application.insert_events([mapper.to_stored_event(Envelope("session-s", 1, renamed))])
        (notification,) = application.select_notifications(None, 10)
        assert notification.topic == "SessionRenamed"
        assert orjson.loads(notification.state) == {"session_id": "s", "name": "Plans"}
        assert mapper.to_domain_event(notification) == Envelope("session-s", 1, renamed)
    finally:
        factory.close()


def test_a_missing_url_is_reported(url: str) -> None:
    with pytest.raises(OSError, match="THROUGHLINE_DATABASE_URL is missing"):
        InfrastructureFactory.construct(
            Environment("x", {"PERSISTENCE_MODULE": "service.recorder"})
        )


def test_an_unreachable_database_is_an_operational_error(url: str) -> None:
    gone = psycopg.conninfo.make_conninfo(url, dbname="nowhere")
    with pytest.raises(OperationalError):
        Factory(environment(gone, CREATE_TABLE="no"))
