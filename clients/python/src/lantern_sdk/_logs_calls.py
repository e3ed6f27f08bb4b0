"""The operations of the log as values."""

from ._calls import Call, jsonable, nothing, once, path_of, query
from ._credits_models import Day
from ._logs_models import (
    Cleaned,
    CsvOptions,
    ExportOptions,
    LogFilters,
    LogStats,
    Retention,
    RetentionChanges,
    Verified,
)


def export(start: Day, end: Day, options: ExportOptions) -> Call[None]:
    """GET /v1/logs/routing; the answer is read as it comes."""
    params = query(start=start, end=end, **options)
    return Call("GET", path_of("logs", "routing"), nothing, params=params)


def export_csv(start: Day, end: Day, options: CsvOptions) -> Call[None]:
    """GET /v1/logs/routing?format=csv; the answer is read as it comes."""
    params = query(start=start, end=end, format="csv", **options)
    headers = {"Accept": "text/csv"}
    return Call("GET", path_of("logs", "routing"), nothing, params=params, headers=headers)


def stats(start: Day, end: Day, group_by: str, filters: LogFilters) -> Call[LogStats]:
    """GET /v1/logs/stats."""
    params = query(start=start, end=end, group_by=group_by, **filters)
    return Call("GET", path_of("logs", "stats"), LogStats.model_validate, params=params)


def get_retention() -> Call[Retention]:
    """GET /v1/logs/retention."""
    return Call("GET", path_of("logs", "retention"), Retention.model_validate)


def put_retention(changes: RetentionChanges) -> Call[Retention]:
    """PUT /v1/logs/retention."""
    return Call("PUT", path_of("logs", "retention"), Retention.model_validate, jsonable(changes))


def clean_up(dry_run: bool) -> Call[Cleaned]:
    """POST /v1/logs/retention/cleanup."""
    path = path_of("logs", "retention", "cleanup")
    return Call("POST", path, Cleaned.model_validate, {"dry_run": dry_run}, headers=once())


def verify(after: int, limit: int | None) -> Call[Verified]:
    """GET /v1/logs/verify."""
    params = query(after=after, limit=limit)
    return Call("GET", path_of("logs", "verify"), Verified.model_validate, params=params)
