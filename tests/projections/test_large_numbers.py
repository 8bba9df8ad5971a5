"""Counts that no sound provider reports: they neither halt a read model nor break a read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from projections.analytics import analytics
from projections.consumption import ledger
from projections.projection import status
from projections.sessions import session
from projections.timeline import page
from service.access.audit import page as audit_page
from tests.projections.actions.append import new_events
from tests.projections.generated import background, owning, writing
from tests.projections.test_sessions import COMPLETED, CREDITED, consumed, opened, reserved

TOKENS = 2**30
"""The tokens of each kind. Four times this number does not fit into an `integer`."""

MONTH_MS = 31 * 86_400_000
"""The duration of a reply that was ended by a service that had been off for a month."""

ENTRY = """
insert into app.audit (
    tenant_id, request_id, at, key_id, user_id, operation, message_id, status, milliseconds
) values ('t1', 'q1', now(), 'k1', 'u1', 'postChatPlan', 'r1', 200, 1)
"""


async def test_absurd_counts_are_shown_and_summed_everywhere(url: str) -> None:
    kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    bill = consumed("h1", **dict.fromkeys(kinds, TOKENS))
    reply = replace(COMPLETED, tokens_used=4 * TOKENS, duration_ms=MONTH_MS)
    async with writing(url) as log, owning(url) as owner:
        await log.append(
            [
                new_events("t1", "session-s1", 0, [opened(), reply], "p1"),
                new_events("t1", "account-t1-u1", 0, [CREDITED, reserved("h1"), bill], "p1"),
            ]
        )
        await background(owner)
        statuses = await status(owner)
        assert {(each.name, each.state) for each in statuses} == {
            (each.name, "live") for each in statuses
        }

        found = await session(owner, tenant_id="t1", session_id="s1")
        assert found is not None
        assert found.tokens_used == 4 * TOKENS

        rows = (await page(owner, tenant_id="t1", project_id="p1", limit=9)).rows
        assert [(row.tokens_used, row.duration_ms) for row in rows] == [(4 * TOKENS, MONTH_MS)]

        (row,) = await ledger(owner, tenant_id="t1", user_id="u1", before=2**62, limit=9)
        assert [getattr(row, kind) for kind in kinds] == [TOKENS] * 4

        await owner.execute(ENTRY.encode())
        (entry,) = await audit_page(
            owner,
            tenant_id="t1",
            user_id=None,
            project_id=None,
            operation=None,
            before="z",
            limit=9,
        )
        assert entry.tokens_used == 4 * TOKENS

        now = datetime.now(UTC)
        figures = await analytics(
            owner,
            tenant_id="t1",
            project_id="p1",
            user_id=None,
            since=now - timedelta(days=1),
            until=now + timedelta(days=1),
        )
        sums = [getattr(figures.consumed[-1], kind) for kind in kinds]
        assert sums == [TOKENS] * 4
        assert {type(number) for number in sums} == {int}
        assert [reply.p50_ms for reply in figures.replies] == [MONTH_MS] * 2
