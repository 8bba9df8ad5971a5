"""A small eventsourcing application on our log, with a projection that follows its events."""

from typing import Any
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection, ProjectionRunner

from service.recorder import LogTrackingRecorder


class Plan(Aggregate):
    """A title and steps."""

    @event("Drafted")
    def __init__(self, title: str) -> None:
        self.title = title
        self.steps: list[str] = []

    @event("StepAdded")
    def add_step(self, text: str) -> None:
        self.steps.append(text)


class Planning(Application[UUID]):
    """Drafts plans."""

    def draft(self, title: str, *steps: str) -> int:
        plan = Plan(title)
        for step in steps:
            plan.add_step(step)
        return self.save(plan)[-1].notification.id


class StepCounts(LogTrackingRecorder):
    """A view: the number of all steps. It tracks its position."""

    steps = 0


class CountSteps(Projection[StepCounts]):
    """Counts each step once."""

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        if isinstance(domain_event, Plan.StepAdded):  # type: ignore[attr-defined]
            self.view.steps += 1
        self.view.insert_tracking(tracking)


@pytest.fixture
def env(url: str) -> dict[str, str]:
    return {"PERSISTENCE_MODULE": "service.recorder", "THROUGHLINE_DATABASE_URL": url}


def test_an_application_and_its_projection_work_on_the_log(env: dict[str, str]) -> None:
    with ProjectionRunner(
        application_class=Planning, projection_class=CountSteps, view_class=StepCounts, env=env
    ) as runner:
        runner.app.draft("Login", "model", "route")
        last = runner.app.draft("Search", "index")
        runner.wait(last, timeout=10)
        assert runner.projection.view.steps == 3
    runner.projection.view.close()

    with Planning(env) as again:
        titles = [
            notification.topic.rpartition(".")[2]
            for notification in again.recorder.select_notifications(None, 10)
        ]
    assert titles == ["Drafted", "StepAdded", "StepAdded", "Drafted", "StepAdded"]
