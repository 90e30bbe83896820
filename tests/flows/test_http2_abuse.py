"""HTTP/2 clients that make work for nothing: each is told to calm down and let go, and a
well-behaved one beside it does not notice."""

import re
import threading
import time

import pytest
from harness.env import scaled, wait_for
from harness.http2 import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, GOAWAY, HEADERS, PING,
    PRIORITY, PROTOCOL_ERROR, PUSH, RST, SETTINGS, WINDOW_UPDATE, Http2Client, RawClient, frame, literal, section,
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
    before, cpu = w.rss(), w.metrics().sum("process_cpu_seconds_total")
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
    assert w.metrics().sum("process_cpu_seconds_total") - cpu < scaled(1.5)
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
    assert w.metrics().sum("weir_requests_total", route="all") <= 5


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


def test_streams_that_mostly_end_early_end_the_connection(weir, up):
    """Far below the rate of resets; the upstream has had work with each."""
    w = weir(
        up,
        listener={"protocol": "http2", "http2": {"resets": 1000000}},
        pipeline={"limits": {"connections": 300}},
        threads=1,
    )
    with Http2Client(w.port) as bad:
        for _ in range(300):
            bad.cancel(bad.ask())
            bad.pump()
            if bad.goaways:
                break
        bad.await_("GOAWAY", lambda: bad.goaways)
        assert bad.goaways[0][1] == ENHANCE_YOUR_CALM
        bad.await_end()
    assert 200 <= max(bad.streams) // 2 + 1 <= 300
    w.await_metric("weir_rejected_total", 1, reason="abuse")
    w.await_metric("weir_exchanges_active", 0)


# Connection errors (RFC 9113 section 5.4.1): the code that each gets.

COMPRESSION_ERROR, FRAME_SIZE_ERROR, STREAM_CLOSED = 9, 6, 5
NAMES = {
    PROTOCOL_ERROR: "PROTOCOL_ERROR", FLOW_CONTROL_ERROR: "FLOW_CONTROL_ERROR", COMPRESSION_ERROR: "COMPRESSION_ERROR",
    FRAME_SIZE_ERROR: "FRAME_SIZE_ERROR",
}  # fmt: skip
ERRORS = {
    "a window beyond its bound": (frame(WINDOW_UPDATE, 0, 0, number(0x7FFFFFFF)), FLOW_CONTROL_ERROR),
    "a window of nothing more": (frame(WINDOW_UPDATE, 0, 0, number(0)), PROTOCOL_ERROR),
    "a frame that is too large": (frame(DATA, 0, 1, bytes(16385)), FRAME_SIZE_ERROR),
    "a ping of another size": (frame(PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "a ping on a stream": (frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "a setting out of its range": (frame(SETTINGS, 0, 0, b"\0\4" + number(0x80000000)), FLOW_CONTROL_ERROR),
    "data on no stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "data on an idle stream": (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "a reset of an idle stream": (frame(RST, 0, 1, number(8)), PROTOCOL_ERROR),
    "a stream of the server's": (frame(HEADERS, END_HEADERS, 2, section()), PROTOCOL_ERROR),
    "a push": (frame(PUSH, END_HEADERS, 1, number(2) + section()), PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, section()), PROTOCOL_ERROR),
    "a section that is interrupted": (frame(HEADERS, 0, 1, section()) + frame(PING, 0, 0, b"12345678"), PROTOCOL_ERROR),
    "more padding than frame": (frame(DATA, 8, 1, b"\x09" + b"x" * 5), PROTOCOL_ERROR),
    "an index that is not there": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\x7f"), COMPRESSION_ERROR),
    "a table larger than granted": (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f" + section()), COMPRESSION_ERROR),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_connection_error_has_its_code_and_nobody_else_notices(weir, up, serve, name):
    data, code = ERRORS[name]
    w = weir(serve(), listener={"protocol": "http2"}, threads=1)
    with Http2Client(w.port) as good, RawClient(w.port) as bad:
        assert good.get().status == 200
        bad.say(frame(SETTINGS, 1, 0) + data)
        assert bad.goaways() == [code]
        assert good.get().status == 200
        assert not good.goaways
    w.await_metric("weir_exchanges_active", 0)
    assert w.metrics().sum("weir_rejected_total", reason="request_malformed") == 1
    refused = [line["detail"] for line in w.await_access(3) if line.get("reason") == "request_malformed"]
    assert len(refused) == 1 and re.fullmatch(f"HTTP/2 connection error {NAMES[code]}(: .+)?", refused[0]), refused


# Messages that could not be carried to HTTP/1.1 without a doubt (RFC 9113 section 8): their stream is
# reset, and the upstream hears nothing of them.

OWN = [(":method", "POST"), (":scheme", "http"), (":authority", "weir.test"), (":path", "/")]
MALFORMED = {
    "CR in a value": [*OWN, ("a", "b\rc")],
    "LF in a value": [*OWN, ("a", "b\nc")],
    "NUL in a value": [*OWN, ("a", "b\0c")],
    "a blank before a value": [*OWN, ("a", " b")],
    "LF in the path": [*OWN[:3], (":path", "/\r\nX: y")],
    "a blank in the path": [*OWN[:3], (":path", "/ HTTP/1.1")],
    "LF in the authority": [*OWN[:2], (":authority", "a\r\nX: y"), OWN[3]],
    "a blank in the method": [(":method", "GET /x HTTP/1.1"), *OWN[1:]],
    "a colon in a name": [*OWN, ("a:b", "c")],
    "a blank in a name": [*OWN, ("a b", "c")],
    "no name": [*OWN, ("", "c")],
    "upper case": [*OWN, ("A", "b")],
    "connection": [*OWN, ("connection", "close")],
    "keep-alive": [*OWN, ("keep-alive", "1")],
    "proxy-connection": [*OWN, ("proxy-connection", "close")],
    "transfer-encoding": [*OWN, ("transfer-encoding", "chunked")],
    "upgrade": [*OWN, ("upgrade", "h2c")],
    "te other than trailers": [*OWN, ("te", "gzip")],
    "no method": OWN[1:],
    "no path": OWN[:3],
    "no scheme": [OWN[0], *OWN[2:]],
    "an empty path": [*OWN[:3], (":path", "")],
    "the path twice": [*OWN, (":path", "/x")],
    "an unknown pseudo field": [*OWN, (":proto", "x")],
    "a pseudo field of responses": [*OWN, (":status", "200")],
    "a pseudo field behind fields": [*OWN[:3], ("a", "b"), OWN[3]],
    "two lengths": [*OWN, ("content-length", "1"), ("content-length", "2")],
    "a length that is none": [*OWN, ("content-length", "+1")],
    ":protocol without CONNECT": [*OWN, (":protocol", "websocket")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_message_costs_its_stream_and_goes_nowhere(weir, up, name):
    w = weir(up, listener={"protocol": "http2"}, threads=1)
    block = b"".join(literal(n, v) for n, v in MALFORMED[name])
    with Http2Client(w.port) as c:
        c.ask(end=False)  # a stream beside it, as its id tells
        server = up.accept()
        server.read_request_head()
        c.h2.get_next_available_stream_id()
        c.raw(frame(HEADERS, END_HEADERS | END_STREAM, 3, block))
        wait_for(
            "it is refused",
            lambda: c.pump(0.05) is not None
            and (w.metrics().sum("weir_rejected_total", reason="request_malformed")
                 or w.metrics().sum("weir_requests_total", code="400")),
        )  # fmt: skip
        assert not c.goaways and not c.is_closed
        assert server.is_quiet(0) and not up.has_connection()


@pytest.mark.parametrize("length, content", [(5, b"four"), (3, b"four"), (1, b"")])
def test_content_that_belies_its_length_is_never_whole_to_the_upstream(weir, up, length, content):
    w = weir(up, listener={"protocol": "http2"}, threads=1)
    with Http2Client(w.port) as c:
        sid = c.ask("POST", fields=[("content-length", str(length))], end=False)
        server = up.accept()
        head = server.read_request_head()
        assert head.length == length
        c.raw(frame(DATA, END_STREAM, sid, content))  # past python3-h2, which would count
        assert c.await_reset(sid) == PROTOCOL_ERROR
        assert len(server.read_abort()) < length
        assert not c.goaways
    w.await_metric("weir_exchanges_active", 0)
