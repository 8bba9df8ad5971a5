"""Messages and their replies."""

from domain.deciders import account, session
from domain.events import ReplyCompleted, ReplyFailed
from domain.metering import ESTIMATES, OPERATIONS, Usage, cost_of
from service.eventlog.stream_ids import account_stream, session_stream
from tests.projections.actions.append import Append
from tests.projections.actions.known import Actions, Known, Reply
from tests.projections.actions.values import (
    CONTEXTS,
    DATA,
    MODELS,
    MODES,
    PLANS,
    SESSION_MODES,
    TEXTS,
)


class Replies(Known):
    """Messages and their replies."""

    def _of_replies(self) -> Actions:
        return {
            self._ask: 22,
            self._extend: 5,
            self._take_over: 3,
            self._cancel: 2,
            self._complete: 15,
            self._fail: 4,
        }

    def _ask(self, append: Append) -> None:
        """A message with its reservation and the start of its reply, as admission stores them."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        mode = self._one(SESSION_MODES)
        is_old = bool(mine) and self._random.random() < 0.8
        talk = self._one(mine) if is_old else self._new_talk(append, mode)
        hint = self._one((None, *MODES))
        reply = Reply(
            talk=talk,
            reply_id=self._id("r", append),
            in_reply_to=self._id("m", append),
            reservation_id=self._id("h", append),
            model=self._one(MODELS),
            mode=hint or "general",
        )
        self._hold(append, reply)
        stream = session_stream(talk.session_id, talk.project_id)
        if talk not in self._talks:
            append.decide(
                stream,
                lambda state: session.open_session(
                    state,
                    session_id=talk.session_id,
                    project_id=talk.project_id,
                    user_id=talk.user_id,
                    mode=mode,
                    name=self._one((None, "Sign in")),
                    context=self._one(CONTEXTS),
                ),
            )
        append.decide(stream, session.resume)
        append.decide(
            stream,
            lambda state: session.post_message(
                state,
                message_id=reply.in_reply_to,
                text=self._one(TEXTS),
                locale=self._one(("en", "ar")),
                chat_mode=hint,
            ),
        )
        append.decide(
            stream,
            lambda state: session.start_reply(
                state,
                reply_id=reply.reply_id,
                in_reply_to=reply.in_reply_to,
                model=reply.model,
                reservation_id=reply.reservation_id,
                lease_id=self._random.randint(0, 3),
                may_wait=True,
            ),
        )
        self._talks += [] if talk in self._talks else [talk]
        self._running.append(reply)

    def _hold(self, append: Append, reply: Reply) -> None:
        append.decide(
            account_stream(append.tenant_id, reply.talk.user_id, reply.talk.project_id),
            lambda state: account.reserve(
                state,
                user_id=reply.talk.user_id,
                reservation_id=reply.reservation_id,
                session_id=reply.talk.session_id,
                reply_id=reply.reply_id,
                seconds=ESTIMATES[reply.mode],
            ),
        )

    def _extend(self, append: Append) -> None:
        if reply := self._of(append, self._running):
            self._hold(append, reply)

    def _complete(self, append: Append) -> None:
        """The end of a reply with its bill, as settlement stores them."""
        if (reply := self._of(append, self._running)) is None:
            return
        self._running.remove(reply)
        talk, counts = reply.talk, (None, 0, 1, 17, 80_000)
        usage = Usage(
            input_tokens=self._one(counts),
            output_tokens=self._one(counts),
            cache_read_tokens=self._one(counts),
            cache_write_tokens=self._one(counts),
        )
        mode, seconds = self._one((*MODES, *PLANS)), self._random.randint(0, 150)
        append.decide(
            account_stream(append.tenant_id, talk.user_id, talk.project_id),
            lambda state: account.settle(
                state,
                user_id=talk.user_id,
                reservation_id=reply.reservation_id,
                project_id=talk.project_id,
                session_id=talk.session_id,
                reply_id=reply.reply_id,
                operation=OPERATIONS[mode],
                seconds=seconds,
                model=reply.model,
                cost=cost_of(reply.model, usage),
            ),
        )
        append.decide(
            session_stream(talk.session_id, talk.project_id),
            lambda state: session.complete_reply(
                state,
                ReplyCompleted(
                    session_id=talk.session_id,
                    reply_id=reply.reply_id,
                    in_reply_to=reply.in_reply_to,
                    subtype=self._one(("success", "partial")),
                    mode=mode,
                    data=PLANS.get(mode) or self._one(DATA),
                    duration_ms=self._random.randint(0, 10**6),
                    billed_seconds=seconds,
                    model=reply.model,
                    reason=self._one((None, "time_limit")),
                    warnings=self._one(((), ("low_balance",))),
                    resets=self._one((0, 1)),
                    retries=self._one((0, 2)),
                    tokens_used=usage.total,
                    cache_hits=usage.cache_read_tokens,
                    frames=self._random.randint(1, 99),
                    version_id=self._one((None, "v1")),
                    first_text_ms=self._one((None, 250)),
                ),
            ),
        )

    def _take_over(self, append: Append) -> None:
        if (reply := self._of(append, self._running)) is not None:
            append.decide(
                session_stream(reply.talk.session_id, reply.talk.project_id),
                lambda state: session.claim_reply(
                    state, reply_id=reply.reply_id, lease_id=self._random.randint(4, 9)
                ),
            )

    def _cancel(self, append: Append) -> None:
        if (reply := self._of(append, self._running)) is not None:
            append.decide(
                session_stream(reply.talk.session_id, reply.talk.project_id),
                lambda state: session.cancel_reply(
                    state, reply_id=reply.reply_id, reason="cancelled"
                ),
            )

    def _fail(self, append: Append) -> None:
        if (reply := self._of(append, self._running)) is None:
            return
        self._running.remove(reply)
        append.decide(
            account_stream(append.tenant_id, reply.talk.user_id, reply.talk.project_id),
            lambda state: account.release(
                state,
                user_id=reply.talk.user_id,
                reservation_id=reply.reservation_id,
                reason="model_error",
            ),
        )
        append.decide(
            session_stream(reply.talk.session_id, reply.talk.project_id),
            lambda state: session.fail_reply(
                state,
                ReplyFailed(
                    session_id=reply.talk.session_id,
                    reply_id=reply.reply_id,
                    in_reply_to=reply.in_reply_to,
                    code="model_error",
                    mode=self._one((None, *MODES)),
                    locale=self._one((None, "ar")),
                    retries=self._one((0, 2)),
                    duration_ms=self._random.randint(0, 10**6),
                    retry_after_seconds=self._one((None, 3_600)),
                    tokens_used=None,
                    cache_hits=None,
                    frames=self._random.randint(1, 9),
                    first_text_ms=self._one((None, 250)),
                ),
            ),
        )
