"""Checks that the limits count each message once, and that the audit has each message."""

from collections import Counter
from typing import Final

from domain.events import MessageAdmitted, ReplyStarted, TimeReserved
from scripts.prove.check import Check, Found, changed, without_first
from scripts.prove.observed import Observed
from scripts.prove.stored import stored
from service.postgres.connections import Connection

FIRST_ENTRY: Final = """
delete from app.audit where request_id = (
    select min(request_id) from app.audit
    where operation in ('postChatPlan', 'postSessionMessage') and status = 200
    group by tenant_id, message_id having count(*) = 1
    order by 1
    limit 1
)
"""
"""Of the first message: no fault comes before it, so its client knows its reply."""


async def _counted_once(_: Observed, database: Connection) -> Found:
    """Each message is counted for its user and for its project, at the same time."""
    log = await stored(database, ReplyStarted, MessageAdmitted, TimeReserved)
    replies = {(each.tenant, each.event.reply_id) for each in log if each.type == "ReplyStarted"}
    counts = Counter(
        (each.tenant, each.event.reply_id, each.event.at)
        for each in log
        if each.type != "ReplyStarted" and each.event.at is not None
    )
    twice = {(tenant, reply) for (tenant, reply, _), times in counts.items() if times == 2}
    breaches = [f"{reply} is not counted once for each" for reply in replies ^ twice]
    return Found(len(replies), breaches)


async def _audited(observed: Observed, database: Connection) -> Found:
    rows = await database.execute(
        "select tenant_id, message_id from app.audit "
        "where operation in ('postChatPlan', 'postSessionMessage') and status = 200"
    )
    known = set(await rows.fetchall())
    acknowledged = [(each.tenant, reply) for each in observed.messages for reply in each.replies]
    breaches = [f"{each} is not in the audit" for each in acknowledged if each not in known]
    return Found(len(acknowledged), breaches)


CHECKS: Final = (
    Check(
        name="limits count each message once",
        find=_counted_once,
        damage=without_first(MessageAdmitted),
    ),
    Check(
        name="acknowledged messages are in the audit",
        find=_audited,
        damage=changed(FIRST_ENTRY),
    ),
)
