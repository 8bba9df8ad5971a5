def append(url: str, callers: int, seconds: float) -> float:
    """One event an append, through the writer."""

    async def work(_: EventStore, writer: Writer) -> float:
        ids = [str(uuid4()) for _ in range(callers)]
        for each in ids:
            opened = orjson.dumps(
                {"session_id": each, "project_id": "p", "user_id": "u", "mode": "plan"}
            )
            stream = session_stream(each)
            await writer.append([NewEvent("t", stream, 1, "SessionOpened", opened, "p")])

        async def call(caller: int, count: int) -> None:
            state = _message(ids[caller], count)
            stream = session_stream(ids[caller])
            await writer.append([NewEvent("t", stream, count + 2, "UserMessagePosted", state, "p")])

        return await _timed(callers, seconds, call)

    return uvloop.run(_with_log(url, work))


def command(url: str, callers: int, seconds: float) -> float:
    """A decision on a session, its event encoded, appended and remembered."""

    async def work(store: EventStore, writer: Writer) -> float:
        streams = Streams(store, writer)
        ids = [str(uuid4()) for _ in range(callers)]

        async def begin(transaction: Transaction, session_id: str) -> None:
            stream = session_stream(session_id)
            opened = session.open_session(
                await transaction.load(SESSION, stream),
                session_id=session_id,
                project_id="p",
                user_id="u",
            )
            transaction.append(stream, opened, "p")

        async def rename(transaction: Transaction, session_id: str, name: str) -> None:
            stream = session_stream(session_id)
            renamed = session.rename(await transaction.load(SESSION, stream), name=name)
            transaction.append(stream, renamed, "p")

        for each in ids:
            await streams.transact("t", partial(begin, session_id=each), metadata={})

        async def call(caller: int, count: int) -> None:
            work = partial(rename, session_id=ids[caller], name=f"{count}{TEXT}")
            await streams.transact("t", work, metadata={})

        return await _timed(callers, seconds, call)

    return uvloop.run(_with_log(url, work))


