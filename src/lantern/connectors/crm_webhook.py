"""A CRM behind one HTTP endpoint of the operator: signed POSTs (docs/connectors.md)."""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from lantern.core import clock, ids, outbox
from lantern.core.crm import OwnerInactive, OwnerWrite, RecordGone
from lantern.core.errors import BadRequest, Upstream
from lantern.core.web import Caps, Fetched, Web
from lantern.settings import CrmSettings

_MAX_ANSWER_BYTES = 1_000_000
_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
# They speak of the endpoint, not of the record: mended by the operator, the write goes through.
_RETRIED = {401, 403, 404, 408, 425, 429}


class CrmWebhook:
    """Speaks to `url`; every request is signed as Standard Webhooks says."""

    def __init__(self, url: str, key: bytes, timeout_seconds: float, web: Web) -> None:
        self._url = url
        self._key = key
        self._caps = Caps(_MAX_ANSWER_BYTES, timeout_seconds)
        self._web = web

    @classmethod
    def open(
        cls, settings: CrmSettings, web: Web, environ: Mapping[str, str] = os.environ
    ) -> "CrmWebhook":
        """As configured. Raises `BadRequest` naming the setting that is missing or wrong."""
        if not (settings.url or "").startswith(("http://", "https://")):
            raise BadRequest("[crm] url: not an http or https address")
        if not settings.secret_env:
            raise BadRequest("[crm] secret_env: needed where [crm] url is set")
        secret = environ.get(settings.secret_env)
        if not secret:
            raise BadRequest(f"[crm] secret_env: the variable {settings.secret_env} is not set")
        return cls(str(settings.url), read_secret(secret), settings.timeout_seconds, web)

    async def set_owner(self, tenant: int, write: OwnerWrite) -> None:
        """Tell the endpoint. Raises `RecordGone`, `OwnerInactive`, `Retry`, `Final`, `Upstream`."""
        body = {
            "type": "owner.assigned",
            "assignment_id": write.key,
            "tenant_id": tenant,
            "object": write.object,
            "record_id": write.record_id,
            "owner_id": write.owner_id,
            "sequence": write.sequence,
        }
        answer = await self._post(write.key, body)
        if answer.status == 410:
            raise RecordGone
        if answer.status == 409 and _json(answer).get("reason") == "owner_inactive":
            raise OwnerInactive
        _check(answer)

    async def active_users(self, tenant: int, user_ids: Sequence[str]) -> dict[str, bool]:
        """Ask the endpoint who may own records. Raises `Upstream`, `UpstreamTimeout`."""
        body = {"type": "users.active", "tenant_id": tenant, "user_ids": list(user_ids)}
        answer = await self._post(ids.new("msg"), body)
        if not 200 <= answer.status < 300:
            raise Upstream(f"The CRM's endpoint answered with HTTP {answer.status}")
        active = _json(answer).get("active")
        if not isinstance(active, dict):
            raise Upstream("The CRM's endpoint answered without `active`")
        asked = set(user_ids)
        return {
            user: is_so
            for user, is_so in active.items()
            if user in asked and isinstance(is_so, bool)
        }

    async def _post(self, message: str, body: dict[str, Any]) -> Fetched:
        data = orjson.dumps(body)
        at = str(int(clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message,
            "webhook-id": message,
            "webhook-timestamp": at,
            "webhook-signature": sign(self._key, message, at, data),
        }
        return await self._web.post(self._url, headers=headers, body=data, caps=self._caps)


def sign(key: bytes, message: str, at: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`."""
    digest = hmac.new(key, f"{message}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def read_secret(text: str) -> bytes:
    """The key in `whsec_<base64>`. Raises `BadRequest`, which does not quote it."""
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_BYTES:
        raise BadRequest("[crm] secret_env: not `whsec_` and the base64 of 24 to 64 bytes")
    return key


def _check(answer: Fetched) -> None:
    if 200 <= answer.status < 300:
        return
    reason = f"HTTP {answer.status}"
    if answer.status >= 500 or answer.status in _RETRIED:
        raise outbox.Retry(reason, _retry_after(answer.headers.get("retry-after")))
    raise outbox.Final(reason)


def _retry_after(text: str | None) -> float | None:
    """Seconds, of either form of the header; None for none and for nonsense."""
    if text is None:
        return None
    text = text.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = datetime.combine(moment.date(), moment.time(), UTC)
    return max(0.0, (moment - clock.now()).total_seconds())


def _json(answer: Fetched) -> dict[str, Any]:
    try:
        value = orjson.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
