"""The HTTP API as any program would use it, with the standard library alone."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

SILENCE_SECONDS = 60.0


class Refused(OSError):
    """The server said no; the message is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One server and one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; the JSON of its answer. Raises `Refused`, other `OSError`s for no answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data=data, headers=self.headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2000).decode()
                raise Refused(f"{method} {path}: {said}", error.code) from error

    def stream(self, run_id: str) -> Iterator[dict[str, Any]]:
        """Events of a run as they come, to the last."""
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=SILENCE_SECONDS)
        try:
            connection.request("GET", f"/v1/runs/{run_id}/stream", headers=self.headers)
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            connection.close()
