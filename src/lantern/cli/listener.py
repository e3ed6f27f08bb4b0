"""The socket that a server listens on: bound first, so that a taken port is known at once."""

import errno
import socket

from lantern.core.errors import Conflict
from lantern.settings import ServerSettings, Settings


def bind(settings: ServerSettings) -> socket.socket:
    """A bound socket that does not listen yet. Raises `Conflict` with a mend."""
    host, port = settings.host, settings.port
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        mend = "choose another --port" if taken else "choose another --host or --port"
        why = "is in use" if taken else f"cannot be used ({error.strerror})"
        raise Conflict(f"{host}:{port} {why}: {mend}") from error
    return bound


def url(bound: socket.socket) -> str:
    """The address of a bound socket, as a person opens it."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what it listens on is not where one connects
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configured(settings: ServerSettings) -> str:
    """The address that the settings name: where a server of this installation is, if one runs."""
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def sign_in_url(address: str, link: str) -> str:
    """A page that signs in. What stands behind `#` stays in the browser: no log has it."""
    return f"{address}/dashboard/sign-in#{link}"


def announce(settings: Settings, bound: socket.socket, link: str) -> None:
    """Tell the operator, and whoever waits for it, that the server is ready."""
    data = "a Postgres of your own" if settings.database_url else str(settings.data_dir)
    print(f"Lantern serves {url(bound)} (data: {data})", flush=True)
    print(f"dashboard, once: {sign_in_url(url(bound), link)}", flush=True)
