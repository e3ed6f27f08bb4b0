"""The daily clean-up: stored answers, used tickets, old events, dead nodes, ended jobs and
deliveries."""

from lantern.core import jobs, log, outbox, timers
from lantern.core.db import Database, Tx
from lantern.settings import RetentionSettings

BATCH = 5000
_JOB = "cleanup"
_log = log.get(__name__)


async def schedule(tx: Tx, retention: RetentionSettings) -> None:
    """Set the timer, at every start: the settings may have changed. Raises `BadRequest`."""
    args = {
        "answers_hours": retention.answers_hours,
        "events_days": retention.events_days,
        "outbox_days": retention.outbox_days,
    }
    await timers.every(tx, retention.cleanup_cron, _JOB, args=args)


@jobs.job(_JOB)
async def clean_up(
    db: Database, answers_hours: int, events_days: int, outbox_days: int = outbox.KEEP_DAYS
) -> None:
    """Delete what is over its time, in batches that hold no lock for long."""
    gone: dict[str, int] = {}
    more = True
    while more:
        rows = await db.all(
            "select * from clean_up(make_interval(hours => %s), make_interval(days => %s), %s)",
            (answers_hours, events_days, BATCH),
        )
        for row in rows:
            gone[row["what"]] = gone.get(row["what"], 0) + row["gone"]
        # A job's row is also its idempotency key, kept as long as the events.
        ended = await jobs.forget(db, events_days, BATCH)
        gone["jobs"] = gone.get("jobs", 0) + ended
        delivered = await outbox.clean(db, outbox_days, BATCH)
        gone["outbox"] = gone.get("outbox", 0) + delivered
        more = max(ended, delivered, *(row["gone"] for row in rows)) >= BATCH
    _log.info("cleanup.done", deleted=gone)
