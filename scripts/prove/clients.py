"""Simulated users, which send messages, disconnect, resume, cancel, read, pay and build."""

import asyncio
from contextlib import aclosing
from typing import Any, Final

import httpx

from domain.metering import BUILD_ESTIMATES
from scripts.prove.calls import STREAM, Caller, code_of, stored_of, was_not_sent
from scripts.prove.observed import Balance, Built, Credit, Message, Reading
from scripts.prove.observed import Final as ObservedFinal

ASKS: Final = (
    "Add a login page",
    "Add a search field to the list",
    "Fix the crash on the start page",
    "How does the cart work",
    "Review the storage module",
    "Good morning",
)
MODEL_FAULTS: Final = (
    "status code=429 retry_after=1 times=1",
    "status code=529 times=1",
    "status code=529",
    "error_event times=1",
    "error_event after=6",
    "error_event after=3 type=api_error",
    "cut after=5",
    "cut_before times=1",
    "eof after=9",
    "bad_json after=4",
    "slow seconds=0.7",
    "slow_first seconds=1.5",
    "broken_contract times=1",
    "refusal after=7",
    "max_tokens",
)
FAULT: Final = "[[offline: "
MODES: Final = ("feature", "fix", "question", "analysis", "general")
SESSIONS: Final = ("setup", "analysis", "what_if", "idea", "run_feedback", "prompt")
"""The modes of the sessions that a client opens beside the planner's mode."""
CHAT: Final = "/v1/chat-plan"
FAULTY, STREAMED, READ_TWICE, SENT_TWICE, CANCELLED = 0.35, 0.65, 0.25, 0.15, 0.12
ELSEWHERE: Final = 0.3
CUT_STREAM: Final = 0.4
CONVERTED, SAVED, TOPPED_UP = 0.5, 0.25, 0.4


class Client:
    """A simulated user. Its actions follow each other; some actions use several connections."""

    def __init__(self, name: str, caller: Caller, strangers: tuple[Caller, ...]) -> None:
        self._name = name
        self._caller = caller
        self._strangers = strangers
        self._observed, self._random = caller.observed, caller.random
        self._tenant = caller.tenant
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Act until `stop` is set and all actions have ended."""
        acts = (self.ask, self._read_account, self._read_timeline, self._trespass, self._run)
        # The rarest acts, so that also a short proof has some of them.
        await self._trespass()
        await self._run()
        await self._read_account()
        while not stop.is_set():
            await self._random.choices(acts, (12, 2, 2, 1, 1))[0]()

    async def _run(self) -> None:
        """Ask for a run."""
        body = {name: each for name, each in self._plain().items() if name != "message"}
        body |= {"title": f"{self._tenant.canary} {self._name}"}
        await self._caller.call("createRun", "POST", "/v1/runs", body, key=self._key())

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _key(self) -> str:
        self._number += 1
        return f"{self._name}-{self._number}"

    # Posting -------------------------------------------------------------------------------------

    async def ask(self, *, plainly: bool = False) -> None:
        """Post a message and read its reply; `plainly` asks for a plan, without faults."""
        body = self._plain() if plainly else self._any()
        path = CHAT if plainly or not self._chance(ELSEWHERE) else await self._place(body)
        message = Message(
            tenant=self._tenant.name,
            user_id=body["userId"],
            project_id=body["projectId"],
            path=path,
            key=self._key(),
            text=body["message"],
        )
        self._observed.messages.append(message)
        if plainly or not self._chance(STREAMED):
            await self._wait_for(message, body)
        else:
            await self._follow(message, body)
        message.is_answered = True
        if message.refusal is not None:
            await self._refused(message)
        elif message.replies:
            self._observed.counts["model faults"] += FAULT in message.text
            await self._go_on(message, plainly=plainly)

    async def ask_without_seconds(self) -> None:
        """Post a message of a user without seconds, which is refused."""
        body = self._plain()
        await self._caller.call("postSessionMessage", "POST", CHAT, body, key=self._key())

    async def _place(self, body: dict[str, Any]) -> str:
        """The path for a message in the user's session of some other mode, which may be new."""
        asked = {name: body[name] for name in ("userId", "projectId")}
        asked |= {"mode": self._random.choice(SESSIONS), "reuse": True}
        answer = await self._caller.call("openSession", "POST", "/v1/sessions", asked)
        if answer.status not in (200, 201):
            return CHAT
        self._observed.counts["sessions of other modes"] += 1
        return f"/v1/sessions/{answer.json['sessionId']}/messages"

    def _plain(self) -> dict[str, Any]:
        return {
            "userId": self._tenant.users[0],
            "projectId": self._tenant.projects[0],
            "message": f"{self._tenant.canary} {self._name} {ASKS[0]}",
        }

    def _any(self) -> dict[str, Any]:
        text = f"{self._tenant.canary} {self._name}.{self._number} {self._random.choice(ASKS)}"
        if self._chance(FAULTY):
            text += f" {FAULT}{self._random.choice(MODEL_FAULTS)}]]"
        body = {
            "userId": self._random.choice(self._tenant.users),
            "projectId": self._random.choice(self._tenant.projects),
            "message": text,
            "onBusy": self._random.choice(("reject", "enqueue", "interrupt")),
        }
        return body | ({"chatMode": self._random.choice(MODES)} if self._chance(0.2) else {})

    async def _wait_for(self, message: Message, body: dict[str, Any]) -> None:
        """Read the reply as JSON: the envelope alone."""
        answer = await self._caller.call(
            "postSessionMessage", "POST", message.path, message.body(body), key=message.key
        )
        if answer.status == 200:
            self._admitted(message, answer.headers)
            self._final(answer.json)
        elif answer.is_sure and not message.replies:
            message.refusal = answer.code

    async def _follow(self, message: Message, body: dict[str, Any]) -> None:
        """Read the reply as a stream, over any number of connections and servers."""
        reading = Reading(tenant=self._tenant.name)
        async with asyncio.TaskGroup() as hands:
            await self._begin(message, body, reading, hands)
            if reading.reply_id:
                self._observed.readings.append(reading)
                await self._finish(message.user_id, reading)

    async def _begin(
        self, message: Message, body: dict[str, Any], reading: Reading, hands: asyncio.TaskGroup
    ) -> None:
        """Post the message again and again, until an answer admits or refuses it."""
        headers = STREAM | {"Idempotency-Key": message.key}
        is_sure = True
        while True:
            try:
                async with self._caller.open(
                    "postSessionMessage", "POST", message.path, message.body(body), headers
                ) as answer:
                    if answer.status_code == 200:
                        reading.reply_id = self._admitted(message, answer.headers)
                        self._lend(message, body, reading.reply_id, hands)
                        await self._receive(answer, reading)
                        return
                    content = await self._caller.whole(answer)
                if answer.status_code != 503:
                    code = code_of(answer.status_code, content)
                    message.refusal = code if is_sure else None
                    return
                is_sure &= stored_of(content) == "nothing"
            except httpx.TransportError as error:
                if reading.reply_id:
                    return
                is_sure &= was_not_sent(error)
            await self._caller.again()

    def _lend(
        self, message: Message, body: dict[str, Any], reply_id: str, hands: asyncio.TaskGroup
    ) -> None:
        """Start the actions beside the first reader: more readers, a cancel."""
        if self._chance(READ_TWICE):
            hands.create_task(self._read_too(message.user_id, reply_id))
        if self._chance(SENT_TWICE):
            hands.create_task(self._wait_for(message, body))
        if self._chance(CANCELLED):
            hands.create_task(self._cancel(message.user_id, reply_id))

    def _admitted(self, message: Message, headers: Any) -> str:
        """Note that the message is acknowledged; returns the reply's id."""
        reply_id = str(headers["Location"].rpartition("/")[2])
        message.replies.add(reply_id)
        message.positions.add(int(headers["X-Log-Position"]))
        return reply_id

    def _final(self, envelope: Any) -> None:
        observed = ObservedFinal(
            tenant=self._tenant.name, reply_id=envelope["messageId"], envelope=envelope
        )
        self._observed.finals.append(observed)

    # Reading a reply -----------------------------------------------------------------------------

    async def _read_too(self, user_id: str, reply_id: str) -> None:
        """Read the reply from the beginning, as a reader that joins later."""
        reading = Reading(tenant=self._tenant.name, reply_id=reply_id)
        self._observed.readings.append(reading)
        await asyncio.sleep(self._random.uniform(0, 2))
        await self._finish(user_id, reading)

    async def _finish(self, user_id: str, reading: Reading) -> None:
        """Resume after the last event that was received, until the final event."""
        path = f"/v1/chat-plan/replies/{reading.reply_id}/stream?userId={user_id}"
        while not reading.is_done:
            self._observed.counts["resumes"] += 1
            seen = {"Last-Event-ID": f"{reading.reply_id}.{reading.last}"} if reading.last else {}
            try:
                async with self._caller.open(
                    "joinReply", "GET", path, None, STREAM | seen
                ) as answer:
                    if answer.status_code == 200:
                        await self._receive(answer, reading)
                    elif answer.status_code != 503:
                        return
            except httpx.TransportError:
                pass
            if not reading.is_done:
                await self._caller.again()

    async def _receive(self, answer: httpx.Response, reading: Reading) -> None:
        """Read until the connection ends, or until the client cuts it."""
        most = self._random.randint(0, 30) if self._chance(CUT_STREAM) else None
        async with aclosing(self._caller.events(answer)) as events:
            async for event in events:
                reading.events.append(event)
                if event.name == "final":
                    self._final(event.data)
                    return
                if most is not None and (most := most - 1) < 0:
                    self._observed.counts["cuts"] += 1
                    return

    async def _cancel(self, user_id: str, reply_id: str) -> None:
        await asyncio.sleep(self._random.uniform(0, 1.5))
        path = f"/v1/chat-plan/replies/{reply_id}/cancel?userId={user_id}"
        answer = await self._caller.call("cancelReply", "POST", path, key=self._key())
        if answer.status == 200:
            self._observed.counts["cancels"] += 1
            if answer.json["status"] == "ended":
                self._final(answer.json["final"])

    # After the reply -----------------------------------------------------------------------------

    async def _refused(self, message: Message) -> None:
        if message.refusal == "insufficient_balance" and self._chance(TOPPED_UP):
            await self.credit(message.user_id, self._random.randint(60, 130))
        else:
            await asyncio.sleep(self._random.uniform(0, 1.5))

    async def _go_on(self, message: Message, *, plainly: bool) -> None:
        """Save a plan, share it, or request its build."""
        envelope = self._observed.finals[-1].envelope
        for observed in reversed(self._observed.finals):
            if observed.reply_id in message.replies:
                envelope = observed.envelope
                break
        if envelope["subtype"] != "success" or envelope["mode"] not in ("feature", "fix"):
            return
        reply_id = envelope["messageId"]
        if plainly or self._chance(SAVED):
            path = f"/v1/chat-plan/replies/{reply_id}/save?userId={message.user_id}"
            await self._caller.call("savePlan", "POST", path, key=self._key())
        if plainly or self._chance(SAVED):
            path, body = f"/v1/chat-plan/replies/{reply_id}/share", {"userId": message.user_id}
            await self._caller.call("sharePlan", "POST", path, body, key=self._key())
        if plainly or self._chance(CONVERTED):
            await self._convert(message, envelope, plainly=plainly)

    async def _convert(self, message: Message, envelope: Any, *, plainly: bool) -> None:
        """Order a build. A user that cannot pay the build may add seconds and order it again."""
        body = {
            "userId": message.user_id,
            "projectId": message.project_id,
            "sessionId": envelope["sessionId"],
        }
        if self._chance(0.5):
            body["planData"] = envelope["data"]
        path, key = "/v1/chat-plan/convert-to-build", self._key()
        answer = await self._caller.call("convertToBuild", "POST", path, body, key=key)
        if answer.code == "insufficient_balance" and (plainly or self._chance(TOPPED_UP)):
            await self.credit(message.user_id, BUILD_ESTIMATES["update"])
            answer = await self._caller.call("convertToBuild", "POST", path, body, key=key)
        if answer.status == 202:
            self._observed.builds.append(
                Built(
                    tenant=self._tenant.name,
                    session_id=envelope["sessionId"],
                    build_id=answer.json["buildId"],
                )
            )

    # Money, reads --------------------------------------------------------------------------------

    async def credit(self, user_id: str, seconds: int) -> None:
        """Credit seconds to a user, once, with any number of tries."""
        key = self._key()
        body = {"userId": user_id, "seconds": seconds, "reason": key}
        body["kind"] = self._random.choice(("paid", "bonus"))
        answer = await self._caller.call(
            "creditAccount", "POST", "/v1/billing/credits", body, key=key
        )
        if answer.status == 201:
            self._observed.credits.append(
                Credit(
                    tenant=self._tenant.name,
                    user_id=user_id,
                    reason=key,
                    seconds=seconds,
                    position=answer.position,
                )
            )

    async def _read_account(self) -> None:
        user_id = self._random.choice(self._tenant.users)
        answer = await self._caller.call("getAccount", "GET", f"/v1/billing/accounts/{user_id}")
        if answer.status == 200:
            account = {name: value for name, value in answer.json.items() if name != "userId"}
            self._observed.balances.append(
                Balance(
                    tenant=self._tenant.name,
                    user_id=user_id,
                    position=answer.position,
                    account=account,
                )
            )

    async def _read_timeline(self) -> None:
        project_id = self._random.choice(self._tenant.projects)
        path = f"/v1/project/{project_id}/timeline?limit=20"
        await self._caller.call("getTimeline", "GET", path)

    async def _trespass(self) -> None:
        """Ask for the resources of another tenant, by each kind of request."""
        stranger = self._random.choice(self._strangers).tenant
        project_id = self._random.choice(stranger.projects)
        acts: list[tuple[str, str, Any]] = [
            ("GET", f"/v1/project/{project_id}/timeline", None),
            ("GET", f"/v1/projects/{project_id}/versions", None),
            ("POST", "/v1/chat-plan", self._any() | {"projectId": project_id}),
        ]
        theirs = [each for each in self._observed.finals if each.tenant == stranger.name]
        if theirs:
            chosen = self._random.choice(theirs[-50:])
            reply = f"/v1/chat-plan/replies/{chosen.reply_id}"
            session_id = chosen.envelope["sessionId"]
            acts += [
                ("GET", reply, None),
                ("GET", f"{reply}/stream", None),
                ("GET", f"{reply}/export", None),
                ("POST", f"{reply}/cancel", None),
                ("POST", f"{reply}/save", None),
                ("GET", f"/v1/chat-plan/session/{session_id}", None),
            ]
        method, target, body = self._random.choice(acts)
        key = self._key() if method == "POST" else None
        await self._caller.call("trespass", method, target, body, key=key)
