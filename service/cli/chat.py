"""`throughline chat`: ask the planner from a terminal, and read the reply while it is written."""

import json
import secrets
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich import live
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown

from service.cli.calls import (
    SignedCalls,
    chosen_key,
    local_url,
    no_answer,
    not_ours,
    refusal,
)
from service.cli.console import err, out
from service.concurrency.retry import retry_after
from service.settings import Settings

if TYPE_CHECKING:
    import httpx2

    from domain.events import Json, ReplyMode
    from domain.replies.operations import Operation

ASK: Final = "/v1/chat-plan"
SILENT_SECONDS: Final = 30.0
"""How long a stream may say nothing: the service sends a comment every ten seconds."""

PATIENCE_SECONDS: Final = 300.0
"""A service may be away, or have too much to do, for so long. Then the command gives up."""

PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
_BUSY: Final = frozenset({429, 503})
_NOTICES: Final = {
    "queued": "The message waits for another reply.",
    "plan_thinking": "The planner is thinking.",
    "resumed": "Another server continues the reply.",
    "provider_retry": "The service asks the model again.",
    "reservation_used": "Most of the reserved seconds are used.",
}


def chat(
    message: Annotated[
        str, typer.Argument(help="The message. The default is to read lines until they end.")
    ] = "",
    project: Annotated[str, typer.Option(help="The project to plan for.")] = "demo",
    user: Annotated[str, typer.Option(help="The user in whose name to ask.")] = "ada",
    session: Annotated[
        str, typer.Option(help="The session. By default the active one, or a new one.")
    ] = "",
    locale: Annotated[str, typer.Option(help="The language: en, fr, es or ar.")] = "en",
    url: Annotated[str, typer.Option(help="The service's URL. By default from the settings.")] = "",
    key: Annotated[str, typer.Option(help="The key's id. By default the first key.")] = "",
) -> None:
    """Ask the planner, and show its reply while it is written.

    A connection that breaks is made again, and the reply goes on where it was. Ctrl-C stops the
    reply; what was written stays.
    """
    settings = Settings()
    calls = SignedCalls(url.rstrip("/") or local_url(settings), *chosen_key(settings, key))
    asked = {"userId": user, "projectId": project, "locale": locale}
    if session:
        asked["sessionId"] = session
    ends = [_show(Reply(calls, asked | {"message": each})) for each in _messages(message)]
    if not all(ends):
        raise typer.Exit(1)


def _messages(message: str) -> Iterator[str]:
    """The message of the argument. Without an argument, each line of a terminal is a message, or
    all of the standard input of a pipe is one message."""
    if message:
        yield message
    elif sys.stdin.isatty():
        while line := _line():
            yield line
    elif text := sys.stdin.read().strip():
        yield text


def _line() -> str | None:
    """What the user types; None at the end of it, or for an empty line."""
    try:
        return out.input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _show(reply: "Reply") -> bool:
    """Show a reply to its end, and what it cost. Returns whether it came whole."""
    view = View(reply.asked["locale"])
    with live.Live(view, console=err, transient=True, refresh_per_second=8) as shown:
        if not err.is_terminal:
            shown.stop()
        for name, data in _stoppable(reply):
            view.add(name, data)
    out.print(Markdown(view.text) if out.is_terminal else view.text)
    for line in view.end_lines(reply.asked["userId"]):
        err.print(line)
    return bool(view.envelope["subtype"] == "success")


def _stoppable(reply: "Reply") -> Iterator[tuple[str, Any]]:
    """The events of a reply. The first Ctrl-C ends the reply, the second ends the command."""
    events = reply.events()
    try:
        yield from events
    except KeyboardInterrupt:
        events.close()
        reply.cancel()
        yield from reply.events()


@dataclass
class View:
    """What is shown of a reply: its Markdown so far, and what is being done."""

    locale: str
    mode: "ReplyMode" = "general"
    data: "Json" = None
    doing: str = "..."
    reserved: int = 0
    envelope: dict[str, Any] = field(default_factory=dict[str, Any])

    def add(self, name: str, data: Any) -> None:
        """Take an event of the reply's stream; docs/streaming.md describes all of them."""
        match name:
            case "accepted":
                self.reserved = data["reservedSeconds"]
            case "intent":
                self.mode = data["mode"]
            case "chunk":
                self._grow(data["ops"])
            case "tool":
                self.doing = f"{data['name']}: {data['summary']}"
            case "notice":
                self.doing = _NOTICES.get(str(data["code"]), "")
            case "reset":
                self.data, self.doing = None, "The planner begins again."
            case "snapshot":
                self.mode, self.data = data["mode"], data["data"]
            case "final":
                self.envelope, self.data = data, data.get("data") or self.data
            case _:
                pass  # a newer service may have more events

    def _grow(self, ops: "Iterable[Operation]") -> None:
        from domain.replies.operations import fold

        self.data, self.doing = fold(ops, self.data), ""

    @property
    def text(self) -> str:
        """The reply so far, in Markdown."""
        from domain.texts import markdown

        return markdown.reply(self.mode, self.data, self.locale) if self.data else ""

    def end_lines(self, user: str) -> Iterator[str]:
        """How the reply ended, what it cost, and what can be done next."""
        end = self.envelope
        if end["subtype"] != "success":
            yield f"The reply is not whole: {end.get('reason') or self._fault(end['error'])}"
        billed = end["metadata"]["billed_seconds"]
        yield f"Billed: {billed} s of {self.reserved} s reserved. Session: {end['sessionId']}"
        if labels := [each["label"] for each in end.get("availableActions") or ()]:
            yield f"Next: {', '.join(labels)}. In a browser: throughline link --user {user}"

    def _fault(self, error: dict[str, Any]) -> str:
        from service.texts.templates import render

        return render(error["template"], error.get("variables", {}), self.locale)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The last lines that fit the terminal, then what is being done."""
        lines = console.render_lines(Markdown(self.text), options, pad=False)
        for line in lines[-(options.size.height - 2) :]:
            yield from line
            yield "\n"
        yield self.doing


class Reply:
    """A message and the stream of its reply, over as many connections as it takes."""

    def __init__(self, calls: SignedCalls, asked: dict[str, str]) -> None:
        self.asked = asked
        self._calls = calls
        self._body = json.dumps(asked).encode()
        self._idempotency_key = secrets.token_hex(16)
        self._has_answered = False
        self._last_id = ""
        self._reply_id = ""

    def cancel(self) -> None:
        """End the reply. The service keeps and bills what was written. Raises CallFailed."""
        if self._reply_id:
            path = f"{ASK}/replies/{self._reply_id}/cancel"
            self._calls.post(path, {"userId": self.asked["userId"]})

    def events(self) -> Generator[tuple[str, Any], None, None]:
        """Names and data of the events that were not yet read, each once. The last is `final`.

        The same request is sent again over each new connection: its key makes it the same message.
        Raises CallFailed where the service refuses, was never there, or stays away.
        """
        import httpx2

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            pause = PAUSE_SECONDS
            try:
                with self._opened() as answer:
                    self._has_answered = True
                    if answer.status_code in _BUSY:
                        named = answer.headers.get("Retry-After")
                        pause = retry_after(named, PATIENCE_SECONDS) or pause
                    else:
                        self._require_stream(answer)
                    for name, data in self._read(answer):
                        deadline = time.monotonic() + PATIENCE_SECONDS
                        yield name, data
                        if name == "final":
                            return
            except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
                raise no_answer(self._calls.url, error) from None
            except httpx2.TransportError as error:
                if isinstance(error, httpx2.ConnectError) and not self._has_answered:
                    raise no_answer(self._calls.url, error) from None
            if time.monotonic() + pause > deadline:
                raise no_answer(self._calls.url)
            time.sleep(min(pause, LONGEST_PAUSE_SECONDS))

    def _require_stream(self, answer: "httpx2.Response") -> None:
        """Raises CallFailed for a refusal, and for an answer of another program."""
        url, status = self._calls.url, answer.status_code
        if status >= 400:
            raise refusal(url, status, answer.read())
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise not_ours(url, status)

    def _opened(self) -> Any:
        import httpx2

        headers = {
            **self._calls.headers("POST", ASK, self._body),
            "Accept": "text/event-stream",
            "Idempotency-Key": self._idempotency_key,
        }
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return httpx2.stream(
            "POST",
            self._calls.url + ASK,
            content=self._body,
            headers=headers,
            timeout=SILENT_SECONDS,
        )

    def _read(self, answer: "httpx2.Response") -> Iterator[tuple[str, Any]]:
        """The events of one connection. Their ids are kept for the next one."""
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
                continue
            if "event" in fields:
                data = json.loads(fields["data"])
                self._last_id = fields.get("id", self._last_id)
                self._reply_id = self._last_id.rpartition(".")[0]
                yield fields["event"], data
            fields = {}
