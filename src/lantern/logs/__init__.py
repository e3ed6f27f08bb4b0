"""The log of what was done to records: reading, exports, statistics, retention, the chain of seals.

URLs: /v1/logs. Tables: route_log (written by gate/route_log.py), log_* (see the migration).
"""

from lantern.logs.export import (
    Body,
    Readers,
    Tally,
    as_csv,
    as_json,
    body,
    file_name,
    signature,
    statement,
)
from lantern.logs.jobs import Sealer, checkpoint, clean_tenant, schedule
from lantern.logs.offline import check
from lantern.logs.query import Period, Query, period, read
from lantern.logs.reading import browse, chain_state, check_newest
from lantern.logs.service import (
    erase,
    preview,
    public_key,
    retention,
    shown,
    statistics,
    unsealed,
)
from lantern.logs.signing import Keys, read_public, use
from lantern.logs.verify import Report, walk

__all__ = [
    "Body",
    "Keys",
    "Period",
    "Query",
    "Readers",
    "Report",
    "Sealer",
    "Tally",
    "as_csv",
    "as_json",
    "body",
    "browse",
    "chain_state",
    "check",
    "check_newest",
    "checkpoint",
    "clean_tenant",
    "erase",
    "file_name",
    "period",
    "preview",
    "public_key",
    "read",
    "read_public",
    "retention",
    "schedule",
    "shown",
    "signature",
    "statement",
    "statistics",
    "unsealed",
    "use",
    "walk",
]
