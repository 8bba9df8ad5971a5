"""Runs, and what sessions are told of them."""

from collections.abc import Callable
from functools import partial

from domain.deciders import run, session
from domain.deciders.run import Run
from service.eventlog.stream_ids import run_stream, session_stream
from tests.projections.actions.append import Append
from tests.projections.actions.known import Actions, Known
from tests.projections.actions.values import DATA, PROJECTS, RUN_REPORTS, TEXTS, USERS


class Runs(Known):
    """Runs, and what sessions are told of them."""

    def _of_runs(self) -> Actions:
        return {
            self._queue_run: 4,
            self._claim_run: 2,
            self._report_run: 7,
            self._end_run: 1,
            self._discuss: 6,
            self._erase_run: 1,
        }

    def _queue_run(self, append: Append) -> None:
        run_id, project_id = self._id("n", append), self._one(PROJECTS)
        append.decide(
            run_stream(run_id, project_id),
            lambda state: run.queue(
                state,
                run_id=run_id,
                project_id=project_id,
                user_id=self._one(USERS),
                title=self._one(TEXTS),
                session_id=self._one((None, "s1")),
                prompt_version_id=self._one((None, "pv1")),
                answers=self._one((None, {"name": "Ann"})),
                settings=self._one((None, {"temperature": 0.5})),
                given=self._one((None, *DATA)),
            ),
        )
        self._runs.append((append.tenant_id, project_id, run_id))

    def _claim_run(self, append: Append) -> None:
        worker_id = self._one(("w1", "w2"))
        self._in_run(append, lambda state: run.claim(state, worker_id=worker_id))

    def _report_run(self, append: Append) -> None:
        told = [self._told_of_run() for _ in range(self._random.randint(1, 6))]
        self._in_run(append, lambda state: run.report(state, told))

    def _told_of_run(self) -> run.Report:
        kind = self._one((*RUN_REPORTS, "step", "step", "candidate", "candidate"))
        event_id = f"e{self._random.randint(1, 99)}"
        return run.Report(
            event_id=event_id,
            type=kind,
            # Each report changes the progress of its run.
            title=f"{event_id} {self._one(TEXTS)}",
            at=f"2026-01-01T00:00:{self._random.randint(0, 59):02}+00:00",
            step_id=self._one(("s1", "s2", "s3", "s4")),
            prompt=self._one((None, *TEXTS)),
            prompt_version_id=self._one((None, "pv1")),
            output=self._one((None, *TEXTS)),
            candidate_id=self._one(("c1", "c2", "c3")),
            scores=self._one((None, {"overall": 0.5}, {"overall": 1, "cost": -1.5e-7}, {})),
            data=self._one((None, *DATA)),
            summary=self._one((None, "Done")),
            findings=self._one(((), ("One", "عمر"))),
            error=self._one((None, "It broke")),
            seconds=self._one((None, 0, 7)),
            tokens=self._one((None, 4_000)),
        )

    def _end_run(self, append: Append) -> None:
        self._in_run(append, self._one((run.cancel, lambda state: run.time_out(state, error="?"))))

    def _discuss(self, append: Append) -> None:
        """Give a session a text about a run, with the events that the service stores."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if not mine:
            return
        talk, message_id = self._one(mine[-3:]), self._id("y", append)
        self._in_run(
            append,
            lambda state: run.give_material(
                state, session_id=talk.session_id, message_id=message_id, kind="run_results"
            ),
        )
        if append.events:
            append.decide(
                session_stream(talk.session_id, talk.project_id),
                lambda state: session.give_material(
                    state, message_id=message_id, kind="run_results", text=self._one(TEXTS)
                ),
            )

    def _erase_run(self, append: Append) -> None:
        """Erase a run, and the texts about the run in sessions."""
        mine = [each for each in self._runs if each[0] == append.tenant_id]
        if not mine:
            return
        told = [each for each in mine if self._run(each).materials]
        _, project_id, run_id = self._one(told or mine)
        state = self._run((append.tenant_id, project_id, run_id))
        for each in state.materials:
            (talk,) = (
                talk
                for talk in self._talks
                if (talk.tenant_id, talk.session_id) == (append.tenant_id, each.session_id)
            )
            append.decide(
                session_stream(each.session_id, talk.project_id),
                partial(session.erase_material, message_id=each.message_id),
            )
        append.decide(run_stream(run_id, project_id), run.erase)

    def _run(self, known: tuple[str, str, str]) -> Run:
        """The state of a run: its tenant, project and id are known."""
        state, _ = self._streams[known[0], str(run_stream(known[2]))]
        found: Run = state
        return found

    def _in_run(self, append: Append, decision: Callable[[Run], run.Decided]) -> None:
        mine = [each for each in self._runs if each[0] == append.tenant_id]
        if mine:
            _, project_id, run_id = self._one(mine[-4:])
            append.decide(run_stream(run_id, project_id), decision)
