"""HTTP/2 clients that make work for nothing: each is told to calm down and let go, and a
well-behaved one beside it does not notice."""

import threading
import time

import pytest
from harness.env import scaled, wait_for
from harness.http2 import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PRIORITY, PROTOCOL_ERROR, RST,
    SETTINGS, WINDOW_UPDATE, Http2Client, RawClient, frame, literal, section,
)  # fmt: skip

N = 20000  # frames of a flood, far beyond every burst


def number(n):
    return n.to_bytes(4, "big")


def heads(n, flags=END_HEADERS):
    for i in range(n):
        yield 1 + 2 * i, frame(HEADERS, flags, 1 + 2 * i, section(method="POST"))


def rapid_reset():
    return (head + frame(RST, 0, sid, number(8)) for sid, head in heads(N))


def provoked_reset():
    """MadeYouReset: errors that make the server reset its streams."""
    return (head + frame(WINDOW_UPDATE, 0, sid, number(0x7FFFFFFF)) for sid, head in heads(N))


def malformed():
    bad = section(("connection", "close"))
    return (frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * i, bad) for i in range(N))


def continuations():
    yield frame(HEADERS, END_STREAM, 1, section())
    for _ in range(N):
        yield frame(CONTINUATION, 0, 1, literal("x", "y" * 100))


def unfolding():
    """A section of references, each a byte that stands for 4,000."""
    block = section() + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 12000
    for i in range(N // 100):
        yield frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * i, block)


def after_a_stream(make):
    yield frame(HEADERS, END_HEADERS, 1, section(method="POST"))
    for i in range(N):
        yield make(i)


FLOODS = {
    "ping": lambda: (frame(PING, 0, 0, b"12345678") for _ in range(N)),
    "ping ack": lambda: (frame(PING, 1, 0, b"12345678") for _ in range(N)),
    "settings": lambda: (frame(SETTINGS, 0, 0, b"\0\4" + number(1000 + i)) for i in range(N)),
    "priority": lambda: (frame(PRIORITY, 0, 1 + 2 * i, b"\0\0\0\0\1") for i in range(N)),
    "window updates": lambda: (frame(WINDOW_UPDATE, 0, 0, number(1)) for _ in range(N)),
    "goaway": lambda: (frame(GOAWAY, 0, 0, bytes(8)) for _ in range(N)),
    "empty data": lambda: after_a_stream(lambda i: frame(DATA, 0, 1)),
    "padding": lambda: after_a_stream(lambda i: frame(DATA, 8, 1, b"\x05" + bytes(5))),
    "rapid reset": rapid_reset,
    "provoked reset": provoked_reset,
    "malformed": malformed,
    "continuation": continuations,
    "unfolding section": unfolding,
}


class Neighbour(threading.Thread):
    """Asks on and on; remembers the longest wait."""

    def __init__(self, weir):
        super().__init__(daemon=True)
        self.client = Http2Client(weir.port)
        self.is_over = False
        self.served = 0
        self.worst = 0.0
        self.failure = None
        self.start()

    def run(self):
        try:
            while not self.is_over:
                start = time.monotonic()
                assert self.client.get().status == 200
                self.worst = max(self.worst, time.monotonic() - start)
                self.served += 1
        except BaseException as failure:  # noqa: BLE001 - told in check()
            self.failure = failure

    def check(self):
        served = self.served
        wait_for("the neighbour is served", lambda: self.failure or self.served > served)
        self.is_over = True
        self.join(scaled(10))
        self.client.close()
        assert not self.failure, self.failure
        assert not self.client.goaways
        assert self.worst < scaled(0.5), f"the neighbour waited {self.worst:.2f} s"


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_and_nobody_else_notices(weir, serve, name):
    # One loop, so that the neighbour is on the same one.
    w = weir(serve(), listener={"protocol": "http2"}, threads=1)
    neighbour = Neighbour(w)
    wait_for("the neighbour is served", lambda: neighbour.served)
    before = w.rss()
    with RawClient(w.port) as bad:
        batch = []
        for piece in FLOODS[name]():
            batch.append(piece)
            if len(batch) == 100:
                if not bad.say(b"".join(batch)):
                    break
                batch.clear()
        assert bad.goaways() in ([ENHANCE_YOUR_CALM], [])
    w.await_metric("weir_rejected_total", 1, reason="abuse")
    wait_for("it is told to the operator", lambda: "HTTP/2 connection of '127.0.0.1'" in w.log())
    neighbour.check()
    w.await_metric("weir_exchanges_active", 0)
    assert w.rss() - before < scaled(16 << 20)


def test_the_limits_are_the_operators(weir, serve):
    w = weir(serve(), listener={"protocol": "http2", "http2": {"pings": 50, "max_concurrent_streams": 7}})
    with Http2Client(w.port) as c:
        assert c.settings[3] == 7
        c.raw(*(frame(PING, 0, 0, b"12345678") for _ in range(400)))
        assert c.get().status == 200
        c.raw(*(frame(PING, 0, 0, b"12345678") for _ in range(600)))
        c.await_end()


def test_more_streams_than_allowed_are_not_opened(weir, up):
    w = weir(up, listener={"protocol": "http2", "http2": {"max_concurrent_streams": 5}})
    with RawClient(w.port) as c:
        c.say(frame(SETTINGS, 1, 0))  # acknowledged: the limit is known
        c.say(b"".join(head for _, head in heads(6)))
        assert c.goaways() == [PROTOCOL_ERROR]
    # Five at most have ever been there.
    assert w.await_metric("weir_exchanges_active", 0)
    assert w.metrics().sum("weir_requests_total") <= 5


def test_windows_that_stay_shut_are_given_up(weir, engine):
    """Answers for which there is never a window: the exchanges end in time, and hold little."""
    w = weir(engine, listener={"protocol": "http2", "timeouts": {"body": "500ms"}}, threads=1)
    with Http2Client(w.port, window=0) as c:
        ids = [c.ask(path="/download?n=10000000") for _ in range(50)]
        wait_for("answers wait", lambda: w.metrics().sum("weir_buffered_bytes"))
        for sid in ids:
            assert c.await_reset(sid, 20) == 8
    w.await_metric("weir_exchanges_active", 0)
    w.await_metric("weir_buffered_bytes", 0)
    w.await_metric("weir_rejected_total", 50, reason="client_slow")
