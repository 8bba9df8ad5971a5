"""A year of a plausible product: its users, its projects, and when each conversation begins.

The same seed, number of messages and number of days make the same events, ids and times.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate, count
from typing import Final

from domain.deciders import project
from domain.deciders.prompt import version_id
from domain.events import Role, SessionMode
from service.cli.demo import talks, trials, words, works
from service.cli.demo.talks import Member, Talk
from service.cli.demo.world import Process, World
from service.eventlog.stream_ids import project_stream, prompt_stream
from service.model.offline.replies import Language
from service.replay.reading import Entry

BEGIN: Final = datetime(2025, 1, 1, tzinfo=UTC)
SORTS: Final[Mapping[SessionMode, float]] = {
    "plan": 60,
    "prompt": 16,
    "idea": 7,
    "analysis": 5,
    "run_feedback": 5,
    "what_if": 4,
    "setup": 3,
}
"""What the conversations are for, with how often each is."""

HOURS: Final = (
    *(1, 1, 1, 1, 1, 2, 4, 10, 30, 60, 80, 70, 40, 50, 75, 80, 65, 45, 25, 18, 14, 10, 5, 2),
)
"""How busy each hour of a day is, in UTC."""
WEEKEND: Final = 0.25
GROWTH: Final = 2.0
"""What the year adds to each day's work by its end: the last day has three times the work of the
first day."""

LANGUAGES: Final[Mapping[Language, int]] = {"en": 60, "fr": 15, "es": 13, "ar": 12}
WELCOME_SECONDS: Final = 900


@dataclass(slots=True)
class User:
    """A user with the projects to talk about. `weight` is how much the user talks."""

    user_id: str
    language: Language
    joined_at: datetime
    weight: float
    project_ids: list[str] = field(default_factory=list[str])


class Year:
    """The days from BEGIN on, with so many messages of users."""

    def __init__(self, tenant_id: str, *, seed: int, messages: int, days: int) -> None:
        self._messages, self._days = messages, days
        self._world = World(tenant_id, BEGIN, seed=seed)
        self._random = self._world.random
        self._users = self._people(max(4, round(messages**0.5 / 2)))
        self._joined = [each.joined_at for each in self._users]
        self._weights = list(accumulate(each.weight for each in self._users))
        self._prompts: dict[str, list[str]] = {}
        self._runs: dict[str, list[str]] = {}
        self.sent = 0
        """How many messages were sent so far."""

    def entries(self) -> Iterator[Entry]:
        """The events of the year, in order."""
        self._found_projects()
        for user in self._users:
            self._world.start(self._join(user), user.joined_at)
        self._plan_conversations()
        yield from self._world.run()

    # Who -----------------------------------------------------------------------------------------

    def _people(self, number: int) -> list[User]:
        """The users, in the order in which they join: a third of them at once."""
        random, names = self._random, count(2)
        languages: list[Language] = [*LANGUAGES]
        users: list[User] = []
        for n in range(number):
            name = words.NAMES[n % len(words.NAMES)]
            user_id = name if n < len(words.NAMES) else f"{name}-{next(names)}"
            later = max(0.0, n / number - 0.3) * 1.2 * self._days
            (language,) = random.choices(languages, [*LANGUAGES.values()])
            users.append(
                User(
                    user_id=user_id,
                    language="en" if n == 0 else language,
                    joined_at=BEGIN + timedelta(days=later, minutes=n),
                    weight=min(8.0, random.paretovariate(1.3)),
                )
            )
        return users

    def _found_projects(self) -> None:
        """Each third user begins a project, and others join it."""
        for n, founder in enumerate(self._users[::3]):
            shop = words.SHOPS[n % len(words.SHOPS)]
            number = n // len(words.SHOPS)
            project_id = f"{shop.lower()}{'' if number == 0 else f'-{number + 1}'}"
            founder.project_ids.append(project_id)
            begin = partial(self._found, founder, project_id, f"{shop} shop")
            self._world.start(begin(), founder.joined_at)
        for user in self._users:
            known = [
                each
                for founder in self._users[::3]
                if founder.joined_at <= user.joined_at
                for each in founder.project_ids[:1]
            ]
            wanted = self._random.sample(known, min(len(known), self._random.randint(1, 3)))
            user.project_ids += [each for each in wanted if each not in user.project_ids]

    def _found(self, founder: User, project_id: str, name: str) -> Process:
        members: dict[str, Role] = {founder.user_id: "owner"}
        registering = partial(
            project.register,
            project_id=project_id,
            name=name,
            framework=self._random.choice(words.FRAMEWORKS),
            source_root=None,
            members=members,
        )
        with self._world.append() as append:
            append.decide(project_stream(project_id), registering)
        yield 120
        member = Member(user_id=founder.user_id, project_id=project_id, language=founder.language)
        self._prompts[project_id] = [trials.create_prompt(self._world, member)]
        self._runs[project_id] = []
        yield from works.begin_project(self._world, member, idea=f"A page for our {name}.")

    def _join(self, user: User) -> Process:
        """The user gets a bonus, and becomes a member of the projects."""
        talks.give_bonus(self._world, self._member(user, user.project_ids[0]), WELCOME_SECONDS)
        yield 60
        for project_id in user.project_ids:
            role: Role = "editor" if self._random.random() < 0.9 else "owner"
            stream = project_stream(project_id)
            if user.user_id not in self._world.state(stream).members:
                adding = partial(project.add_member, user_id=user.user_id, role=role)
                with self._world.append() as append:
                    append.decide(stream, adding)

    def _member(self, user: User, project_id: str) -> Member:
        return Member(user_id=user.user_id, project_id=project_id, language=user.language)

    # When ----------------------------------------------------------------------------------------

    def _plan_conversations(self) -> None:
        """Draw conversations until they have all messages together."""
        moments = self._moments()
        sorts: list[SessionMode] = [*SORTS]
        left = self._messages
        while left > 0:
            (sort,) = self._random.choices(sorts, [*SORTS.values()])
            usual = 6 if sort == "prompt" else 4
            messages = min(left, 1 + int(self._random.expovariate(1 / (usual - 1))), 40)
            at = next(moments)
            self._world.start(self._talk(self._speaker(at), sort, messages), at)
            left -= messages

    def _moments(self) -> Iterator[datetime]:
        """Times at which conversations begin: more of them later in the year and by day."""
        hours = range(24 * self._days)
        busy = [
            HOURS[hour % 24]
            * (1 + GROWTH * hour / len(hours))
            * (WEEKEND if (BEGIN + timedelta(hours=hour)).weekday() >= 5 else 1)
            for hour in hours
        ]
        sums = list(accumulate(busy))
        while True:
            (hour,) = self._random.choices(hours, cum_weights=sums)
            yield BEGIN + timedelta(hours=hour + 1, seconds=self._random.uniform(0, 3_600))

    def _speaker(self, at: datetime) -> User:
        """One of the users that have joined an hour before."""
        known = max(1, bisect_right(self._joined, at - timedelta(hours=1)))
        drawn = self._random.random() * self._weights[known - 1]
        return self._users[bisect_right(self._weights, drawn)]

    # What ----------------------------------------------------------------------------------------

    def _talk(self, user: User, sort: SessionMode, messages: int) -> Process:
        """A conversation, and what comes of it."""
        member = self._member(user, self._random.choice(user.project_ids))
        if sort == "prompt":
            yield from self._saved_run(member, messages)
        elif sort == "run_feedback":
            yield from self._trial(member, messages)
        else:
            talk = yield from self._converse(member, None, sort, messages)
            yield from self._after(talk)

    def _converse(
        self, member: Member, talk: Talk | None, sort: SessionMode, messages: int
    ) -> talks.Talking:
        for n in range(messages):
            talk = yield from talks.exchange(self._world, member, talk, sort=sort)
            self.sent += 1
            if n + 1 < messages:
                yield self._random.lognormvariate(4.3, 0.9)
        assert talk is not None
        return talk

    def _after(self, talk: Talk) -> Process:
        """The user tends the session. Some plans become builds, and some ideas prompts."""
        yield self._random.uniform(20, 200)
        talks.tend(self._world, talk)
        if talk.mode == "idea":
            prompt_id = self._random.choice(self._prompts[talk.member.project_id])
            trials.accept_improvements(self._world, talk, prompt_id)
        elif talk.mode == "plan" and self._random.random() < 0.35:
            yield from works.convert(self._world, talk)

    def _saved_run(self, member: Member, messages: int) -> Process:
        """A session that is made of a prompt. Some users come back to it, after hours or days."""
        prompts = self._prompts[member.project_id]
        if self._random.random() < 0.02:
            prompts.append(trials.create_prompt(self._world, member))
        talk = talks.open_saved_run(self._world, member, self._random.choice(prompts))
        comes_back = messages > 1 and self._random.random() < 0.4
        first = messages // 2 if comes_back else messages
        yield from self._converse(member, talk, "prompt", first)
        if comes_back:
            yield self._random.lognormvariate(11, 1)
            yield from self._converse(member, talk, "prompt", messages - first)

    def _trial(self, member: Member, messages: int) -> Process:
        """A run of an engine, and the talk about it."""
        prompt_id = self._random.choice(self._prompts[member.project_id])
        versions = self._world.state(prompt_stream(prompt_id)).versions
        run_id = yield from trials.run_engine(self._world, member, version_id(prompt_id, versions))
        yield self._random.uniform(60, 3_600)
        talk = trials.discuss(self._world, member, run_id)
        talk = yield from self._converse(member, talk, "run_feedback", messages)
        trials.accept_improvements(self._world, talk, prompt_id)
