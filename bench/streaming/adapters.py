"""Which HTTP requests make "create a run and stream it", one small class for each API.

The client finds the model's stamps in the raw bytes, so no event format is understood here.
An adapter has
    steps             how many HTTP requests one run takes: 1, or 2 for "create, then stream"
    setup(base)       once, blocking: whatever the target needs first
    requests()        a generator of (method, path, headers, body); the JSON answer of every request
                      but the last is sent back into it; the last one is the stream
"""

import json
import urllib.request
import uuid

JSON = {"content-type": "application/json"}
PROMPT = "Say something."


class Openai:
    """A chat-completions endpoint: the fake itself, the bare proxies, LiteLLM."""

    steps = 1

    def __init__(self, key="sk-none"):
        self.headers = {**JSON, "authorization": f"Bearer {key}"}
        messages = [{"role": "user", "content": PROMPT}]
        self.body = json.dumps({"model": "fake", "stream": True, "messages": messages}).encode()

    def setup(self, base):
        pass

    def requests(self):
        yield "POST", "/v1/chat/completions", self.headers, self.body


class Agno:
    """AgentOS: one form, the answer is the stream; a new session for every run."""

    steps = 1
    headers = {"content-type": "application/x-www-form-urlencoded"}

    def setup(self, base):
        pass

    def requests(self):
        form = f"message=Say+something.&stream=true&session_id={uuid.uuid4()}&user_id=bench"
        yield "POST", "/agents/bench/runs", self.headers, form.encode()


class Lantern:
    """The product's own two requests: create the run, then stream it."""

    steps = 2

    def __init__(self, key="lnt_none"):
        self.headers = {"authorization": f"Bearer {key}"}
        self.body = json.dumps({"input": {"message": PROMPT}}).encode()

    def setup(self, base):
        agent = {"name": "bench", "system_prompt": "Answer.", "model": "fake"}
        request = urllib.request.Request(
            base + "/v1/agents",
            method="POST",
            data=json.dumps(agent).encode(),
            headers={**JSON, **self.headers},
        )
        try:
            urllib.request.urlopen(request, timeout=30).read()
        except urllib.error.HTTPError as error:
            if error.code != 409:  # an earlier scenario made it
                raise SystemExit(f"no agent: {error.code} {error.read().decode()}") from error

    def requests(self):
        run = yield "POST", "/v1/agents/bench/runs", {**JSON, **self.headers}, self.body
        accept = {**self.headers, "accept": "text/event-stream"}
        yield "GET", f"/v1/runs/{run['run_id']}/stream", accept, b""


ADAPTERS = {"openai": Openai, "agno": Agno, "lantern": Lantern}
