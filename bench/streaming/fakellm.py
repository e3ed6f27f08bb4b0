"""A fast fake model: streams OpenAI chat completions, and says in its tokens when it sent them.

One `asyncio.Protocol` on uvloop and no web framework, so that its own cost stays far below any
target's. Every answer carries its own timing:

    first token  "@R~S@"  R: monotonic ns when the request had been read, S: when the token was sent
    other tokens "@S@"    (with `inter_ms` only; else a constant word, as all goes out in one write)
    last token   "#end#"  lets the client check that the whole answer came through

`time.monotonic_ns()` is one clock for all processes of a machine, so the client compares directly.
Settings at run time: POST /ctl {"tokens": 50, "first_ms": 20, "inter_ms": 5}; GET /ctl counts.
"""

import argparse
import asyncio
import json
import time

import uvloop

SETTINGS = {"tokens": 50, "first_ms": 0.0, "inter_ms": 0.0}
COUNTS = {"streams": 0, "aborted": 0, "open": 0, "max_open": 0}
now = time.monotonic_ns

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-request-id: fake\r\ntransfer-encoding: chunked\r\n\r\n"
)
PREFIX = (
    b'data: {"id":"chatcmpl-fake","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"fake","system_fingerprint":"fp",'
)
DELTA = PREFIX + b'"choices":[{"index":0,"delta":'


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def token(text: bytes) -> bytes:
    end = b'"},"logprobs":null,"finish_reason":null}]}\n\n'
    return http_chunk(DELTA + b'{"content":"' + text + end)


ROLE = http_chunk(
    DELTA + b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
)
STOP = http_chunk(DELTA + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n')
WORD = token(b" token")
END = token(b"#end#")


def tail(tokens: int, usage: bool) -> bytes:
    used = (
        b'"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    )
    counted = http_chunk(PREFIX + used % (tokens, tokens + 10)) if usage else b""
    return STOP + counted + http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Fake(asyncio.Protocol):
    """One kept-alive connection; pipelined requests are answered in order."""

    def connection_made(self, transport):
        self.transport, self.buffer, self.busy, self.timer = transport, b"", False, None

    def connection_lost(self, exc):
        if self.timer:
            self.timer.cancel()
        if self.busy:
            COUNTS["aborted"] += 1
            COUNTS["open"] -= 1

    def data_received(self, data):
        self.buffer += data
        if not self.busy:
            self.parse()

    def parse(self):
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        size = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < size:
            return
        body, self.buffer = rest[:size], rest[size:]
        received = now()
        method, path = head.split(b" ", 2)[:2]
        if path.endswith(b"/chat/completions"):
            self.chat(body, received)
        elif path == b"/ctl":
            if method == b"POST":
                SETTINGS.update(json.loads(body))
            self.answer({**SETTINGS, **COUNTS})
        elif path.endswith(b"/models"):
            self.answer({"object": "list", "data": [{"id": "fake", "object": "model"}]})
        else:
            self.answer({"error": {"message": "no such path"}}, b"404 Not Found")

    def answer(self, value, status=b"200 OK"):
        body = json.dumps(value).encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.parse()

    def chat(self, body, received):
        # A look at the bytes instead of json.loads: the prompts are ours, the keys unambiguous.
        flat = body.replace(b" ", b"")
        if b'"stream":true' not in flat:
            return self.answer({"error": {"message": "only streams"}}, b"400 Bad Request")
        COUNTS["streams"] += 1
        COUNTS["open"] += 1
        COUNTS["max_open"] = max(COUNTS["max_open"], COUNTS["open"])
        self.busy = True
        usage = b'"include_usage":true' in flat
        if SETTINGS["inter_ms"] > 0:
            return self.paced(received, usage)
        if SETTINGS["first_ms"] > 0:
            wait = SETTINGS["first_ms"] / 1000
            self.timer = asyncio.get_running_loop().call_later(wait, self.burst, received, usage)
            return None
        return self.burst(received, usage)

    def burst(self, received, usage):
        tokens = int(SETTINGS["tokens"])
        first = token(b"@%d~%d@" % (received, now()))
        self.transport.write(
            b"".join((HEAD, ROLE, first, WORD * (tokens - 2), END, tail(tokens, usage)))
        )
        self.done()

    def paced(self, received, usage):
        loop = asyncio.get_running_loop()
        tokens, gap = int(SETTINGS["tokens"]), SETTINGS["inter_ms"] / 1000
        start = loop.time() + SETTINGS["first_ms"] / 1000

        def step(sent):
            if sent == tokens - 1:
                self.transport.write(END + tail(tokens, usage))
                return self.done()
            if sent == 0:
                self.transport.write(HEAD + ROLE + token(b"@%d~%d@" % (received, now())))
            else:
                self.transport.write(token(b"@%d@" % now()))
            # A fixed grid: a late token does not delay the ones after it.
            self.timer = loop.call_at(start + (sent + 1) * gap, step, sent + 1)
            return None

        self.timer = loop.call_at(start, step, 0)

    def done(self):
        self.busy, self.timer = False, None
        COUNTS["open"] -= 1
        if self.buffer:
            self.parse()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Fake, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(main(parser.parse_args().port))
