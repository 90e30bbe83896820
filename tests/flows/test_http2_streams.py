"""HTTP/2 clients in front of HTTP/1.1 and HTTP/2 upstreams: content of awkward sizes, early answers,
cancellation, slow readers of much, WebSockets, and a thousand streams on one connection."""

import hashlib
import threading
import time

import pytest
from h2.errors import ErrorCodes

from harness.env import AT_ONCE, VARIANT, scaled, wait_for
from harness.http2 import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, Http2Client
from harness.wire import request, response
from harness.ws import UPGRADE, WsReader, accept_of, frame

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20


@pytest.fixture
def connect():
    made = []

    def make(weir, **options):
        made.append(Http2Client(weir.port, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def front(weir, upstream, protocol="http2", *, listener=None, pipeline=None, **more):
    return weir(
        upstream,
        listener={"protocol": "http2", **(listener or {})},
        pipeline={"protocol": protocol, **(pipeline or {})},
        **more,
    )


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 65535, 65536, MIB])
def test_content_of_any_size_goes_to_http1_and_back(weir, engine, connect, size):
    client = connect(front(weir, engine, "http1"))
    body = (bytes(i * 7 % 251 for i in range(1021)) * (size // 1021 + 1))[:size]
    reply = client.response(client.ask("POST", "/upload", body=body), 30)
    assert hashlib.sha256(body).hexdigest().encode() in bytes(reply.body)
    assert len(client.get(f"/download?n={size}").body) == size
    assert len(client.get(f"/download?n={size}&chunked").body) == size


# Early answers.


def test_behind_an_early_answer_the_request_goes_on(weir, h2_serve, connect):
    """The upstream has answered and still reads: so the client is not reset."""

    def serve(stream, event):
        if event == "head":
            stream.respond(200, body=b"enough")

    server = h2_serve(serve)
    w = front(weir, server)
    client = connect(w)
    sid = client.ask("POST", end=False)
    client.send(sid, b"some")
    assert bytes(client.response(sid).body) == b"enough"
    client.send(sid, bytes(200_000), end=True)
    stream = server.streams[0]
    wait_for("all of it has come", lambda: stream.is_ended)
    assert len(stream.body) == 200_004
    assert stream.reset_code is None
    assert client.get("/next").status == 200
    assert client.streams[sid].reset is None
    w.await_metric("weir_exchanges_active", 0)
    assert {line["status"] for line in w.await_access(2)} == {200}


def test_behind_an_early_answer_of_http1_the_request_goes_on(weir, serve, connect):
    got = []

    def early(wire):
        message = wire.read_request_head()
        wire.send(response(200, body="enough"))
        got.append(len(wire.read_exactly(message.length)))
        wire.read_request()
        wire.send(response(200, body="next"))

    server = serve(early)
    client = connect(front(weir, server, "http1", threads=1))
    sid = client.ask("POST", fields=[("content-length", "200004")], end=False)
    client.send(sid, b"some")
    assert bytes(client.response(sid).body) == b"enough"
    client.send(sid, bytes(200_000), end=True)
    wait_for("all of it has come", lambda: got == [200_004])
    assert bytes(client.get("/next").body) == b"next"
    assert client.streams[sid].reset is None
    assert server.accepted == 1, "the connection is of use again"


@pytest.mark.parametrize("status", [200, 413])
@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_an_upstream_that_wants_no_more_ends_the_upload_without_an_error(
    weir, serve, h2_serve, connect, protocol, status
):
    """HTTP/1 closes, HTTP/2 says RST_STREAM with NO_ERROR. The client gets the answer first."""
    text = b"too much" * 1000

    def over_http1(wire):
        wire.read_request_head()
        wire.send(response(status, ["Connection: close"], body=text))
        wire.shutdown()
        wire.read_abort()

    def over_http2(stream, event):
        if event == "head":
            stream.respond(status, body=text)
            stream.reset(ErrorCodes.NO_ERROR)

    server = serve(over_http1) if protocol == "http1" else h2_serve(over_http2)
    client = connect(front(weir, server, protocol))
    sid = client.ask("POST", end=False)
    client.send(sid, bytes(1000))
    reply = client.response(sid)
    assert (reply.status, bytes(reply.body)) == (status, text)
    assert client.await_reset(sid) == NO_ERROR


def test_a_client_that_stalls_behind_an_early_answer_is_let_go(weir, h2_serve, connect):
    server = h2_serve(lambda s, e: e == "head" and s.respond(200, body=b"enough"))
    w = front(weir, server, listener={"timeouts": {"body": "300ms"}})
    client = connect(w)
    sid = client.ask("POST", end=False)
    client.response(sid)
    assert client.await_reset(sid) == NO_ERROR
    wait_for("the upstream hears of it", lambda: server.streams[0].reset_code is not None)
    w.await_metric("weir_exchanges_active", 0)


def test_a_client_may_take_back_the_rest_behind_an_early_answer(weir, h2_serve, connect):
    server = h2_serve(lambda s, e: e == "head" and s.respond(200, body=b"enough"))
    w = front(weir, server)
    client = connect(w)
    sid = client.ask("POST", end=False)
    client.response(sid)
    client.cancel(sid)
    wait_for("the upstream hears of it", lambda: server.streams[0].reset_code is not None)
    (line,) = w.await_access(1)
    assert line["status"] == 200 and "reason" not in line, "nothing has failed"


def test_an_upstream_that_takes_no_more_is_not_waited_for_without_end(weir, h2_serve, connect):
    """The client has said all, and has its answer: nobody else would end the exchange."""
    server = h2_serve(lambda s, e: e == "head" and s.respond(200, body=b"x"), gives_credit=False)
    w = front(weir, server, listener={"timeouts": {"body": "300ms"}}, pipeline={"deadline": "0s"})
    client = connect(w)
    sid = client.ask("POST", end=False)
    client.response(sid)
    client.send(sid, bytes(65535 + 1000), end=True)  # beyond the upstream's window
    wait_for("the upstream is let go", lambda: server.streams[0].reset_code is not None)
    assert len(server.streams[0].body) == 65535
    w.await_metric("weir_exchanges_active", 0)


# Cancellation.


@pytest.mark.parametrize("is_begun", [False, True], ids=["before the answer", "within it"])
def test_a_cancel_reaches_an_http2_upstream_at_once(weir, h2_serve, connect, is_begun):
    server = h2_serve(lambda s, e: e == "head" and is_begun and s.head(200))
    client = connect(front(weir, server))
    sid = client.ask("POST", end=False)
    (stream,) = server.await_streams(1)
    if is_begun:
        client.await_("a head", lambda: client.streams[sid].status)
    before = time.monotonic()
    client.cancel(sid)
    wait_for("the upstream hears of it", lambda: stream.reset_code is not None)
    assert stream.reset_code == CANCEL
    assert stream.reset_time - before < scaled(AT_ONCE)
    assert not stream.connection.is_gone


def test_a_cancel_is_passed_on_within_a_tenth_of_a_second(weir, h2_serve, connect):
    """The quickest of ten, because the machine may have other work: a timer in between would delay each of them."""
    server = h2_serve(lambda s, e: e == "head" and s.head(200))
    client = connect(front(weir, server))
    took = []
    for n in range(1, 11):
        sid = client.ask("POST", end=False)
        stream = server.await_streams(n)[n - 1]
        before = time.monotonic()
        client.cancel(sid)
        wait_for("the upstream hears of it", lambda s=stream: s.reset_code is not None)
        took.append(stream.reset_time - before)
    assert min(took) < scaled(0.1)


def test_a_reset_by_the_upstream_reaches_the_client_at_once(weir, h2_serve, connect):
    server = h2_serve(lambda s, e: e == "head" and s.head(200))
    client = connect(front(weir, server))
    sid = client.ask("POST", end=False)
    client.await_("a head", lambda: client.streams[sid].status)
    before = time.monotonic()
    server.streams[0].reset(ErrorCodes.ENHANCE_YOUR_CALM)
    assert client.await_reset(sid) == ENHANCE_YOUR_CALM
    assert time.monotonic() - before < scaled(AT_ONCE)
    assert not client.goaways


def test_an_http1_upstream_that_breaks_off_reaches_the_client_at_once(weir, up, connect):
    client = connect(front(weir, up, "http1"))
    sid = client.ask()
    wire = up.accept()
    wire.read_request()
    wire.send(response(200, ["Content-Length: 100"], length=False), b"some")
    client.await_("a head", lambda: client.streams[sid].status)
    before = time.monotonic()
    wire.reset()
    assert client.await_reset(sid) == INTERNAL_ERROR
    assert time.monotonic() - before < scaled(AT_ONCE)


# Slow readers.

SIZE = 30 * MIB
SLOW = 10


class SlowHttp1:
    """Has read the head, and no more."""

    def __init__(self, w, connect):
        self.wire = w.client(receive_buffer=16384, timeout=60)
        self.wire.send(request(target=f"/download?n={SIZE}"))
        assert self.wire.read_response_head().length == SIZE

    def finish(self):
        self.wire.read_exactly(SIZE)

    def close(self):
        self.wire.close()


class SlowHttp2:
    """Has read its first window, and gives no credit."""

    def __init__(self, w, connect):
        self.client = connect(w, acknowledge=False)
        self.sid = self.client.ask(path=f"/download?n={SIZE}")
        self.reply = self.client.streams[self.sid]
        self.client.await_("the window is used up", lambda: len(self.reply.body) == 65535, 20)

    def finish(self):
        self.client.acknowledge = True
        for stream in (None, self.sid):
            self.client.h2.increment_flow_control_window(4 * MIB, stream)
        self.client.flush()
        assert len(self.client.response(self.sid, 60).body) == SIZE

    def close(self):
        self.client.close()


@pytest.mark.parametrize("way", ["h2 to h1", "h1 to h2", "h2 to h2"])
def test_slow_readers_of_much_hold_little(weir, engine, h2_serve, connect, way):
    """Ten at once, of which each holds less than 512 KiB in weir."""
    near, _, far = way.partition(" to ")

    def serve(stream, event):
        if event == "end":
            stream.head(200, [("content-length", str(SIZE))])
            stream.data(bytes(SIZE), end=True)

    w = weir(
        engine if far == "h1" else h2_serve(serve),
        listener={"protocol": "http2" if near == "h2" else "http1"},
        pipeline={"protocol": "http2" if far == "h2" else "http1"},
        threads=1,
    )
    reader = SlowHttp2 if near == "h2" else SlowHttp1
    reader(w, connect).close()  # what the first one makes weir take is not theirs
    w.await_metric("weir_exchanges_active", 0)
    before = w.rss()
    readers = [reader(w, connect) for _ in range(SLOW)]
    held = []

    def is_still():
        held.append(w.metrics().sum("weir_buffered_bytes"))
        time.sleep(0.05)
        return held[-1] > 0 and len(held) > 5 and len(set(held[-5:])) == 1

    wait_for("nothing more comes from the upstream", is_still)
    assert 0 < max(held) < SLOW * 512 * 1024
    if VARIANT == "release":
        assert w.rss() - before < SLOW * 512 * 1024
    readers[0].finish()
    for each in readers:
        each.close()
    w.await_metric("weir_exchanges_active", 0)
    w.await_metric("weir_buffered_bytes", 0)


# WebSockets.


def connect_ws(client, path="/ws"):
    sid = client.ask(
        head=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
              (":authority", "weir.test"), (":path", path)],
        fields=[("sec-websocket-version", "13")], end=False,
    )  # fmt: skip
    return sid, client.streams[sid]


def test_websockets_over_http2_talk_to_an_http1_server(weir, engine, connect):
    w = front(weir, engine, "http1")
    client = connect(w)
    sockets = []
    for _ in range(5):
        sid, stream = connect_ws(client)
        client.await_("a tunnel", lambda: stream.status)
        assert stream.status == 200
        sockets.append((sid, stream, WsReader(stream.body)))
    w.await_metric("weir_streams_active", 5, kind="tunnel")
    for text in (b"a", b"x" * 125, b"y" * 126, b"z" * 70000):
        for sid, _, _ in sockets:
            client.send(sid, frame(2, text))
        for _, _, reader in sockets:
            client.await_("the echo", reader.has_next)
            assert reader.next() == (2, text)
    assert client.get("/plain").status == 200, "beside the tunnels"
    close = (1000).to_bytes(2, "big")
    for sid, stream, reader in sockets:
        # The server ends its half first; what ends the other ends the stream.
        client.send(sid, frame(8, close))
        client.await_("the end", lambda: stream.is_over)
        assert reader.next() == (8, close)
        client.end(sid)
        assert stream.is_ended
    w.await_metric("weir_streams_active", 0)


def test_a_cancelled_tunnel_ends_at_the_http1_server(weir, up, connect):
    w = front(weir, up, "http1")
    client = connect(w)
    sid, stream = connect_ws(client)
    wire = up.accept()
    key = wire.read_request_head().fields.get("sec-websocket-key")
    wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              f"Sec-WebSocket-Accept: {accept_of(key)}\r\n\r\n")  # fmt: skip
    client.await_("a tunnel", lambda: stream.status)
    before = time.monotonic()
    client.cancel(sid)
    wire.expect_gone()
    assert time.monotonic() - before < scaled(AT_ONCE)
    w.await_metric("weir_streams_active", 0)


def test_websockets_of_http1_clients_share_http2_connections(weir, h2_serve):
    def shout(stream, event):
        if event == "head":
            stream.head(200)
        elif event == "data":
            data, stream.body = stream.body, b""
            stream.data(data.upper())
        elif event == "end":
            stream.data(b"", end=True)

    server = h2_serve(shout, settings={"ENABLE_CONNECT_PROTOCOL": 1})
    w = weir(server, pipeline={"protocol": "http2"})
    clients = [w.client() for _ in range(20)]
    for client in clients:
        client.send(request(target="/ws", fields=UPGRADE))
        assert client.read_response().status == 101
    for n, client in enumerate(clients):
        client.send(b"message %d" % n)
    for n, client in enumerate(clients):
        text = b"MESSAGE %d" % n
        assert client.read_exactly(len(text)) == text
    assert server.accepted <= 2
    clients[0].shutdown()
    clients[0].expect_end()
    clients[1].reset()
    wait_for("its stream is reset", lambda: sum(s.reset_code is not None for s in server.streams) == 1)
    next(s for s in server.streams if s.reset_code is None and not s.is_ended).reset(ErrorCodes.CANCEL)
    w.await_metric("weir_streams_active", 17)


# Many.


@pytest.mark.threads
def test_a_thousand_streams_of_one_connection(weir, h2_serve, connect):
    """All are open before the first is answered; each is answered with what it brought."""
    held = []
    lock = threading.Lock()

    def serve(stream, event):
        if event == "end":
            with lock:
                held.append(stream)

    w = front(
        weir,
        h2_serve(serve),
        listener={"http2": {"max_concurrent_streams": 1000}},
        pipeline={"limits": {"concurrency": 1000, "streams_per_connection": 100}, "deadline": "1m"},
    )
    client = connect(w)
    for n in range(1000):
        client.ask("POST", f"/{n}", body=b"%d" % n)
    wait_for("all are there", lambda: len(held) == 1000, 60)
    assert w.metrics().sum("weir_exchanges_active") == 1000
    for stream in held:
        stream.respond(fields=[("x-path", stream.path)], body=stream.body)
    client.await_("all answers", lambda: all(s.is_over for s in client.streams.values()), 60)
    for stream in client.streams.values():
        assert stream.is_ended and stream.status == 200, stream
        assert stream.fields.get("x-path") == "/" + bytes(stream.body).decode()
    w.await_metric("weir_exchanges_active", 0)
    w.await_metric("weir_endpoint_streams", 0)
