"""Where the server is, who we are, how patient we are: resolved once, shared by both clients."""

import os
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx

from ._calls import Call
from ._errors import ConnectionFailed, NoAPIKey

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
_USER_AGENT = f"lantern-sdk/{version('lantern-sdk')}"
# The server sends a heartbeat after 15 s of silence; three missed ones are a dead connection.
_STREAM_SILENCE = 45.0


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a client. `base_url` without `/v1`, without a slash at its end."""

    base_url: str
    api_key: str = field(repr=False)
    timeout: float
    max_retries: int
    max_resumes: int

    @classmethod
    def resolve(
        cls,
        api_key: str | None,
        base_url: str | None,
        *,
        timeout: float,
        max_retries: int,
        max_resumes: int,
    ) -> "Config":
        """Arguments first, then LANTERN_API_KEY and LANTERN_BASE_URL. NoAPIKey, ValueError."""
        key = (api_key or os.environ.get("LANTERN_API_KEY") or "").strip()
        if not key:
            raise NoAPIKey("no API key: pass api_key= or set LANTERN_API_KEY")
        if not (key.isascii() and key.isprintable()):
            raise NoAPIKey("the API key holds characters that no key has")
        url = base_url or os.environ.get("LANTERN_BASE_URL") or DEFAULT_BASE_URL
        return cls(_base(url), key, timeout, max_retries, max_resumes)

    def build(self, http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
        """The request of a call, ready to be sent."""
        headers = {
            "Accept": "application/json",
            "User-Agent": _USER_AGENT,
            **(call.headers or {}),
            "Authorization": f"Bearer {self.api_key}",
        }
        return http.build_request(
            call.method,
            self.base_url + call.path,
            params=call.params,
            json=call.body,
            headers=headers,
            timeout=self._timeout(headers),
        )

    def describe(self, call: Call[Any]) -> str:
        """The call in an error message: no key, no credentials of a URL."""
        url = httpx.URL(self.base_url)
        return f"{call.method} {call.path} at {url.scheme}://{url.netloc.decode('ascii')}"

    def broken(self, call: Call[Any], problem: httpx.RequestError) -> ConnectionFailed:
        """The error for an answer that broke off."""
        reason = str(problem) or type(problem).__name__
        return ConnectionFailed(f"{self.describe(call)}: the answer broke off: {reason}")

    def _timeout(self, headers: dict[str, str]) -> httpx.Timeout:
        if headers["Accept"] == "text/event-stream":
            return httpx.Timeout(self.timeout, read=max(self.timeout, _STREAM_SILENCE))
        return httpx.Timeout(self.timeout)


def _base(url: str) -> str:
    parsed = httpx.URL(url.strip())
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"base_url must be like {DEFAULT_BASE_URL}, with http:// or https://")
    return str(parsed).rstrip("/").removesuffix("/v1").rstrip("/")
