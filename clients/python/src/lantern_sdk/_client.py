"""The two clients: blocking and asyncio."""

from types import TracebackType

import httpx

from . import _async_resources, _resources
from ._config import Config
from ._credits import AsyncCredits, Credits
from ._logs import AsyncLogs, Logs
from ._rate_limit import RateLimit
from ._routing import AsyncRouting, Routing
from ._transport import AsyncTransport, Transport


class Lantern:
    """A Lantern server, blocking. Use it with `with`, or call `close()`.

    `api_key` and `base_url` default to LANTERN_API_KEY and LANTERN_BASE_URL, the latter to
    http://127.0.0.1:8000, with or without `/v1`. `timeout` in seconds, for connecting and for each
    silence. `max_retries` for requests that are safe to repeat, `max_resumes` for a stream that
    makes no progress. `http_client` for proxies and certificates of your own; you close it.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 2,
        max_resumes: int = 10,
        http_client: httpx.Client | None = None,
    ) -> None:
        config = Config.resolve(
            api_key,
            base_url,
            timeout=timeout,
            max_retries=max_retries,
            max_resumes=max_resumes,
        )
        self._transport = Transport(config, http_client)
        self.keys = _resources.Keys(self._transport)
        self.agents = _resources.Agents(self._transport)
        self.runs = _resources.Runs(self._transport)
        self.routing = Routing(self._transport)
        self.credits = Credits(self._transport)
        self.logs = Logs(self._transport)

    @property
    def last_rate_limit(self) -> RateLimit | None:
        """The bucket of the last answer that named one."""
        return self._transport.last_rate_limit

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> "Lantern":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lantern(base_url={self._transport.config.base_url!r})"


class AsyncLantern:
    """A Lantern server, for asyncio. Use it with `async with`, or await `close()`.

    The arguments are those of `Lantern`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 2,
        max_resumes: int = 10,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        config = Config.resolve(
            api_key,
            base_url,
            timeout=timeout,
            max_retries=max_retries,
            max_resumes=max_resumes,
        )
        self._transport = AsyncTransport(config, http_client)
        self.keys = _async_resources.AsyncKeys(self._transport)
        self.agents = _async_resources.AsyncAgents(self._transport)
        self.runs = _async_resources.AsyncRuns(self._transport)
        self.routing = AsyncRouting(self._transport)
        self.credits = AsyncCredits(self._transport)
        self.logs = AsyncLogs(self._transport)

    @property
    def last_rate_limit(self) -> RateLimit | None:
        """The bucket of the last answer that named one."""
        return self._transport.last_rate_limit

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> "AsyncLantern":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncLantern(base_url={self._transport.config.base_url!r})"
