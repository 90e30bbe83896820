"""HTTP/2 clients in front of HTTP/1.1 and HTTP/2 upstreams: both directions at once, early answers,
cancellation, slow readers, and WebSockets by extended CONNECT (RFC 8441)."""

import hashlib
import threading
import time

import pytest
from h2.errors import ErrorCodes

from harness.env import VARIANT, scaled, wait_for
from harness.wire import chunked, request, response
from harness.ws import UPGRADE, WsReader, accept_of, frame

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20


def front(weir, upstream, protocol="http2", *, listener=None, pipeline=None, **more):
    return weir(
        upstream,
        listener={"protocol": "http2", **(listener or {})},
        pipeline={"protocol": protocol, **(pipeline or {})},
        **more,
    )


# --- Messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 65535, 65536, MIB])
def test_content_of_any_size_goes_to_http1_and_back(weir, engine, h2_client, size):
    w = front(weir, engine, "http1")
    client = h2_client(w)
    body = bytes(i * 7 % 251 for i in range(1021)) * (size // 1021 + 1)
    reply = client.whole(client.ask("POST", "/upload", body=body[:size]), 30)
    assert reply.status == 200
    assert hashlib.sha256(body[:size]).hexdigest().encode() in bytes(reply.body)
    assert len(client.get(f"/download?n={size}").body) == size
    assert len(client.get(f"/download?n={size}&chunked").body) == size


def test_trailers_go_both_ways_to_http1(weir, serve, h2_client):
    def answer(message):
        sum_ = message.trailers.get("x-sum")
        return response(200, ["Transfer-Encoding: chunked"]) + chunked("ab", trailers=[f"X-Back: {sum_}"])

    from harness.upstream import answering

    w = front(weir, serve(answering(answer)), "http1")
    client = h2_client(w)
    ask = client.ask("POST", fields=[("te", "trailers")], end=False)
    client.send(ask, b"content")
    client.h2.send_headers(ask.id, [("x-sum", "7")], end_stream=True)
    client.flush()
    reply = client.whole(ask)
    assert bytes(reply.body) == b"ab"
    assert list(reply.trailers) == [("x-back", "7")]


def test_content_flows_both_ways_at_once(weir, h2_serve, h2_client):
    def serve(stream, event):
        if event == "head":
            stream.head(200)
        elif event == "data":
            stream.data(stream.body)
            stream.body = b""
        elif event == "end":
            stream.data(b".", end=True)

    client = h2_client(front(weir, h2_serve(serve)))
    ask = client.ask("POST", end=False)
    client.head(ask)
    for n in range(1, 20):
        client.send(ask, b"%02d" % n)
        client.await_("its echo", lambda: len(ask.body) == 2 * n)
    client.send(ask, end=True)
    assert bytes(client.whole(ask).body[-1:]) == b"."


# --- Early answers ---------------------------------------------------------------------------


def test_an_early_answer_does_not_reset_a_client_that_still_sends(weir, h2_serve, h2_client):
    """The upstream has answered and still reads: so does the client, to its end."""

    def serve(stream, event):
        if event == "head":
            stream.respond(200, body=b"enough")

    server = h2_serve(serve)
    w = front(weir, server)
    client = h2_client(w)
    ask = client.ask("POST", end=False)
    client.send(ask, b"some")
    assert bytes(client.whole(ask).body) == b"enough"
    assert client.send(ask, bytes(200_000), end=True), ask
    stream = server.streams[0]
    wait_for("all of it has come", lambda: stream.is_ended)
    assert len(stream.body) == 200_004
    assert stream.reset_code is None
    assert client.get("/next").status == 200
    assert ask.reset_code is None
    w.await_metric("weir_exchanges_active", 0)


def test_an_early_answer_of_http1_does_not_reset_a_client_that_still_sends(weir, serve, h2_client):
    got = []

    def early(wire):
        message = wire.read_request_head()
        wire.send(response(200, body="enough"))
        got.append(len(wire.read_exactly(message.length)))
        wire.read_request()
        wire.send(response(200, body="next"))

    server = serve(early)
    w = front(weir, server, "http1", threads=1)
    client = h2_client(w)
    ask = client.ask("POST", fields=[("content-length", "200004")], end=False)
    client.send(ask, b"some")
    assert bytes(client.whole(ask).body) == b"enough"
    assert client.send(ask, bytes(200_000), end=True), ask
    wait_for("all of it has come", lambda: got == [200_004])
    assert bytes(client.get("/next").body) == b"next"
    assert ask.reset_code is None
    assert server.accepted == 1, "the connection is of use again"


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_an_early_refusal_is_read_whole_and_ends_the_upload(weir, serve, h2_serve, h2_client, protocol):
    """The upstream wants no more: HTTP/1 closes, HTTP/2 says RST_STREAM with NO_ERROR. The client
    gets the answer first, and no error."""
    text = b"too much" * 1000

    def over_http1(wire):
        wire.read_request_head()
        wire.send(response(413, ["Connection: close"], body=text))
        wire.shutdown()
        wire.read_abort()

    def over_http2(stream, event):
        if event == "head":
            stream.respond(413, body=text)
            stream.reset(ErrorCodes.NO_ERROR)

    server = serve(over_http1) if protocol == "http1" else h2_serve(over_http2)
    client = h2_client(front(weir, server, protocol))
    ask = client.ask("POST", end=False)
    client.send(ask, bytes(1000))
    reply = client.whole(ask)
    assert (reply.status, bytes(reply.body)) == (413, text)
    client.await_("the upload is not wanted", lambda: ask.reset_code is not None)
    assert ask.reset_code == ErrorCodes.NO_ERROR


def test_a_client_that_stalls_behind_an_early_answer_is_let_go(weir, h2_serve, h2_client):
    server = h2_serve(lambda s, e: e == "head" and s.respond(200, body=b"enough"))
    w = front(weir, server, listener={"timeouts": {"body": "300ms"}})
    client = h2_client(w)
    ask = client.ask("POST", end=False)
    client.whole(ask)
    client.await_("the stream ends", lambda: ask.reset_code is not None)
    wait_for("at the upstream too", lambda: server.streams[0].reset_code is not None)
    w.await_metric("weir_exchanges_active", 0)


# --- Cancellation ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_begun", [False, True], ids=["before the answer", "within it"])
def test_a_client_s_cancel_reaches_an_http2_upstream_at_once(weir, h2_serve, h2_client, is_begun):
    server = h2_serve(lambda s, e: e == "head" and is_begun and s.head(200))
    w = front(weir, server)
    client = h2_client(w)
    ask = client.ask("POST", end=False)
    (stream,) = server.await_streams(1)
    if is_begun:
        client.head(ask)
    before = time.monotonic()
    client.reset(ask)
    wait_for("the upstream hears of it", lambda: stream.reset_code is not None)
    assert stream.reset_code == ErrorCodes.CANCEL
    assert stream.reset_time - before < scaled(0.1)
    assert not stream.connection.is_gone
    w.await_metric("weir_exchanges_active", 0)


def test_a_client_s_cancel_reaches_an_http1_upstream_at_once(weir, up, h2_client):
    client = h2_client(front(weir, up, "http1"))
    ask = client.ask()
    wire = up.accept()
    wire.read_request()
    before = time.monotonic()
    client.reset(ask)
    wire.expect_gone()
    assert time.monotonic() - before < scaled(0.1)


def test_a_reset_of_the_upstream_reaches_the_client_at_once(weir, h2_serve, h2_client):
    server = h2_serve(lambda s, e: e == "head" and s.head(200))
    client = h2_client(front(weir, server))
    ask = client.ask("POST", end=False)
    client.head(ask)
    before = time.monotonic()
    server.streams[0].reset(ErrorCodes.ENHANCE_YOUR_CALM)
    client.await_("the reset", lambda: ask.reset_code is not None)
    assert ask.reset_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert ask.reset_time - before < scaled(0.1)
    assert client.goaway is None


def test_an_http1_upstream_that_breaks_off_reaches_the_client_at_once(weir, up, h2_client):
    client = h2_client(front(weir, up, "http1"))
    ask = client.ask()
    wire = up.accept()
    wire.read_request()
    wire.send(response(200, ["Content-Length: 100"], length=False), b"some")
    client.head(ask)
    before = time.monotonic()
    wire.reset()
    client.await_("the reset", lambda: ask.reset_code is not None)
    assert ask.reset_code == ErrorCodes.INTERNAL_ERROR
    assert ask.reset_time - before < scaled(0.1)
    assert not ask.is_ended


# --- Slow readers ----------------------------------------------------------------------------

SIZE = 30 * MIB
SLOW = 10


class SlowHttp1:
    """Has read the head, and no more."""

    def __init__(self, w):
        self.wire = w.client(receive_buffer=16384, timeout=60)
        self.wire.send(request(target=f"/download?n={SIZE}"))
        assert self.wire.read_response_head().length == SIZE

    def finish(self):
        self.wire.read_exactly(SIZE)


class SlowHttp2:
    """Reads all that comes, and gives no credit beyond the first 65535 bytes."""

    def __init__(self, w, make):
        self.client = make(w, gives_credit=False, timeout=60)
        self.reply = self.client.ask(path=f"/download?n={SIZE}")
        self.client.await_("the window is used up", lambda: len(self.reply.body) == 65535)

    def finish(self):
        self.client.gives_credit = True
        self.client.credit(self.reply, 4 * MIB)
        assert len(self.client.whole(self.reply, 60).body) == SIZE


@pytest.mark.parametrize("path", ["h2 to h1", "h1 to h2", "h2 to h2"])
def test_slow_readers_of_much_hold_little(weir, engine, h2_serve, h2_client, path):
    """Ten of them at once; each is less than 512 KiB to weir, and none is in another's way."""
    near, _, far = path.partition(" to ")

    def serve(stream, event):
        if event == "end":
            stream.head(200, [("content-length", str(SIZE))])
            stream.data(bytes(SIZE), end=True)

    upstream = engine if far == "h1" else h2_serve(serve)
    w = weir(
        upstream,
        listener={"protocol": "http2" if near == "h2" else "http1"},
        pipeline={"protocol": "http2" if far == "h2" else "http1"},
        threads=1,
    )
    if near == "h2":
        warm = SlowHttp2(w, h2_client)
        warm.client.close()
    else:
        SlowHttp1(w).wire.close()
    w.await_metric("weir_exchanges_active", 0)
    before = w.rss()
    readers = [SlowHttp2(w, h2_client) if near == "h2" else SlowHttp1(w) for _ in range(SLOW)]
    seen = []

    def is_still():
        """Nothing more comes from the upstream: what is held no longer changes."""
        seen.append(w.metrics().sum("weir_buffered_bytes"))
        time.sleep(0.05)
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    wait_for("all is still", is_still, 20)
    assert max(seen) < SLOW * 512 * 1024, seen
    assert seen[-1] < SLOW * 512 * 1024
    grown = w.rss() - before
    if VARIANT == "release":
        assert grown < SLOW * 512 * 1024, grown
    for reader in readers[:1]:
        reader.finish()
    for reader in readers[1:]:
        (reader.client if near == "h2" else reader.wire).close()
    w.await_metric("weir_exchanges_active", 0)
    w.await_metric("weir_buffered_bytes", 0)


def test_slow_streams_of_one_connection_are_not_in_the_way_of_another(weir, h2_serve, h2_client):
    server = h2_serve(lambda s, e: e == "end" and s.respond(body=bytes(MIB if s.path == "/slow" else 1000)))
    w = front(weir, server, threads=1)
    client = h2_client(w, gives_credit=False, settings={"INITIAL_WINDOW_SIZE": 1000})
    slow = [client.ask(path="/slow") for _ in range(30)]
    client.await_("their windows are used up", lambda: all(len(s.body) == 1000 for s in slow))
    quick = client.ask(path="/quick")
    assert len(client.whole(quick).body) == 1000
    assert w.metrics().sum("weir_buffered_bytes") <= 31 * 128 * 1024


def test_an_upload_that_nobody_reads_stops_at_the_window(weir, h2_serve, h2_client):
    server = h2_serve(lambda s, e: None, gives_credit=False)
    w = front(weir, server)
    client = h2_client(w)
    ask = client.ask("POST", end=False)
    sent = 0
    while client.fill(0.3) or client.h2.local_flow_control_window(ask.id) > 0:
        room = min(client.h2.local_flow_control_window(ask.id), client.h2.max_outbound_frame_size)
        if room > 0:
            client.h2.send_data(ask.id, bytes(room))
            client.flush()
            sent += room
    assert 65535 < sent <= 65535 + 2 * 65536
    assert w.metrics().sum("weir_buffered_bytes") <= 128 * 1024
    others = client.ask("POST", "/other", end=False)
    assert client.send(others, bytes(1000)), "the connection has window left"


# --- WebSockets ------------------------------------------------------------------------------


def connect_ws(client, path="/ws", fields=()):
    ask = client.ask(
        end=False,
        head=[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "weir.test"),
            (":path", path),
            ("sec-websocket-version", "13"),
        ],
        fields=fields,
    )
    return client.head(ask)


def test_extended_connect_is_announced(weir, h2_serve, h2_client):
    client = h2_client(front(weir, h2_serve()))
    client.get()
    assert client.h2.remote_settings.enable_connect_protocol == 1


def test_a_websocket_over_http2_reaches_an_http1_server(weir, engine, h2_client):
    w = front(weir, engine, "http1")
    client = h2_client(w)
    sockets = [connect_ws(client) for _ in range(5)]
    for socket in sockets:
        assert socket.status == 200, socket
        assert "sec-websocket-accept" not in socket.fields
        assert "upgrade" not in socket.fields and "connection" not in socket.fields
    assert w.metrics().sum("weir_streams_active", kind="tunnel") == 5
    readers = [WsReader(socket.body) for socket in sockets]
    for text in (b"a", b"x" * 125, b"y" * 126, b"z" * 70000):
        for socket in sockets:
            client.send(socket, frame(2, text))
        for socket, reader in zip(sockets, readers):
            assert client.await_("its echo", reader.next) == (2, text)
    assert client.get("/plain").status == 200, "beside the tunnels"
    for socket, reader in zip(sockets, readers):
        client.send(socket, frame(8, (1000).to_bytes(2, "big")))
        assert client.await_("close", reader.next) == (8, (1000).to_bytes(2, "big"))
        client.send(socket, end=True)
        client.await_("the end", lambda: socket.is_over)
        assert socket.is_ended
    w.await_metric("weir_streams_active", 0)


def test_a_websocket_over_http2_asks_its_http1_server_in_proper_form(weir, up, h2_client):
    client = h2_client(front(weir, up, "http1"))
    ask = client.ask(
        end=False,
        head=[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "weir.test"),
            (":path", "/chat?room=1"),
        ],
        fields=[("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"), ("origin", "http://o")],
    )
    wire = up.accept()
    head = wire.read_request_head()
    assert (head.method, head.target) == ("GET", "/chat?room=1")
    assert head.fields.get("upgrade") == "websocket"
    assert [t.lower() for t in head.fields.list("connection")] == ["upgrade"]
    assert head.fields.get("host") == "weir.test"
    assert head.fields.get("sec-websocket-protocol") == "chat"
    key = head.fields.get("sec-websocket-key")
    assert len(key) == 24
    wire.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_of(key)}\r\nSec-WebSocket-Protocol: chat\r\n\r\n", b"hello",
    )  # fmt: skip
    client.head(ask)
    assert ask.status == 200
    assert ask.fields.get("sec-websocket-protocol") == "chat"
    client.await_("what came with the head", lambda: bytes(ask.body) == b"hello")
    client.send(ask, b"from the client", end=True)
    assert wire.read_to_end() == b"from the client"
    wire.send(b"and back")
    wire.shutdown()
    client.whole(ask)
    assert bytes(ask.body) == b"helloand back"


def test_a_cancelled_tunnel_ends_at_the_http1_server(weir, up, h2_client):
    w = front(weir, up, "http1")
    client = h2_client(w)
    ask = client.ask(end=False, head=[
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
        (":authority", "weir.test"), (":path", "/"),
    ], fields=[("sec-websocket-version", "13")])  # fmt: skip
    wire = up.accept()
    key = wire.read_request_head().fields.get("sec-websocket-key")
    wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              f"Sec-WebSocket-Accept: {accept_of(key)}\r\n\r\n")  # fmt: skip
    client.head(ask)
    before = time.monotonic()
    client.reset(ask)
    wire.expect_gone()
    assert time.monotonic() - before < scaled(0.1)
    w.await_metric("weir_streams_active", 0)


def test_a_refused_websocket_is_an_ordinary_answer(weir, up, h2_client):
    client = h2_client(front(weir, up, "http1"))
    ask = client.ask(end=False, head=[
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
        (":authority", "weir.test"), (":path", "/"),
    ], fields=[("sec-websocket-version", "13")])  # fmt: skip
    wire = up.accept()
    wire.read_request_head()
    wire.send(response(403, body="no"))
    reply = client.whole(ask)
    assert (reply.status, bytes(reply.body)) == (403, b"no")


def shout(stream, event):
    """A server of extended CONNECT that gives back in capitals."""
    if event == "head":
        stream.head(200)
    elif event == "data":
        stream.data(stream.body.upper())
        stream.body = b""
    elif event == "end":
        stream.data(b"", end=True)


def test_a_websocket_goes_over_http2_on_both_sides(weir, h2_serve, h2_client):
    server = h2_serve(shout, settings={"ENABLE_CONNECT_PROTOCOL": 1})
    w = front(weir, server)
    client = h2_client(w)
    socket = connect_ws(client, "/chat", [("sec-websocket-protocol", "chat")])
    assert socket.status == 200
    client.send(socket, b"abc" * 50000)
    client.await_("the echo", lambda: len(socket.body) == 150000)
    assert bytes(socket.body) == b"ABC" * 50000
    client.send(socket, end=True)
    client.whole(socket)
    stream = server.streams[0]
    assert (stream.get(":method"), stream.get(":protocol")) == ("CONNECT", "websocket")
    assert stream.get(":path") == "/chat"
    assert stream.get("sec-websocket-key") is None
    w.await_metric("weir_streams_active", 0)


def test_a_websocket_client_of_http1_reaches_an_http2_server(weir, h2_serve):
    """Frame by frame, in many connections at once."""
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
    half = clients[0]
    half.shutdown()
    half.expect_end()
    clients[1].reset()
    wait_for("its stream is reset", lambda: sum(s.reset_code is not None for s in server.streams) == 1)
    server.streams[2].reset(ErrorCodes.CANCEL)
    wait_for("tunnels end", lambda: w.metrics().sum("weir_streams_active") == 17)


# --- Many ------------------------------------------------------------------------------------


@pytest.mark.threads
@pytest.mark.parametrize("connections", [1, 10])
def test_a_thousand_streams_at_once(weir, h2_serve, connections):
    """All are open before the first is answered, each is answered with what it brought."""
    held = []
    lock = threading.Lock()

    def serve(stream, event):
        if event == "end":
            with lock:
                held.append(stream)

    from harness.h2_client import H2Client

    server = h2_serve(serve)
    count = 1000 // connections
    w = front(
        weir,
        server,
        listener={"http2": {"max_concurrent_streams": count}},
        pipeline={"limits": {"concurrency": 1000, "streams_per_connection": 100}},
    )
    clients = [H2Client(w.port, timeout=60) for _ in range(connections)]
    try:
        for client in clients:
            client.await_("SETTINGS", lambda: client.h2.max_outbound_frame_size and client.fill() or True)
            for n in range(count):
                client.ask("POST", f"/{n}", body=b"%d" % n)
        wait_for("all are there", lambda: len(held) == 1000, 60)
        assert w.metrics().sum("weir_exchanges_active") == 1000
        for stream in held:
            stream.respond(fields=[("x-path", stream.path)], body=stream.body)
        for client in clients:
            client.await_("all answers", lambda: all(r.is_over for r in client.replies.values()), 60)
            for reply in client.replies.values():
                assert reply.is_ended and reply.status == 200, reply
                assert reply.fields.get("x-path") == "/" + bytes(reply.body).decode()
    finally:
        for client in clients:
            client.close()
    w.await_metric("weir_exchanges_active", 0)
    assert w.metrics().sum("weir_endpoint_streams") == 0
