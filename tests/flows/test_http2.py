"""HTTP/2 clients in front of HTTP/1.1 servers: everything that HTTP promises, on many streams."""

import hashlib
import os
import signal
import subprocess
import threading
import time

import pytest
from harness.env import AT_ONCE, scaled, wait_for
from harness.http2 import INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, Http2Client
from harness.replies import expect_problem
from harness.upstream import answering
from harness.wire import chunked, request, response

HTTP2 = {"protocol": "http2"}


@pytest.fixture
def client():
    made = []

    def make(weir, **options):
        made.append(Http2Client(weir.port, **options))
        return made[-1]

    yield make
    for c in made:
        c.close()


# Requests and answers.


def test_a_request_goes_through(weir, serve, client):
    up = serve(answering(response(body=b"hello", fields=["X-Mixed-Case: Yes"])))
    w = weir(up, listener=HTTP2)
    c = client(w)
    answer = c.get("/path?query", fields=[("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2")])
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.fields.get("x-mixed-case") == "Yes"
    assert answer.fields.get("content-length") == "5"
    assert "connection" not in answer.fields and answer.fields.get("via") == "1.1 weir"
    got = up.requests[0]
    assert got.line == b"GET /path?query HTTP/1.1" or got.line == "GET /path?query HTTP/1.1"
    assert got.fields.get("host") == "weir.test"
    assert got.fields.get("cookie") == "a=1; b=2"
    assert got.fields.get("via") == "2.0 weir"
    assert got.fields.get("x-forwarded-for") == "127.0.0.1"
    line = w.await_access(1)[0]
    assert line["protocol"] == "HTTP/2.0" and line["status"] == 200
    w.await_metric("weir_requests_total", 1, protocol="http2", code="200")
    assert w.status()["listeners"][0]["protocol"] == "http2"


@pytest.mark.threads
def test_many_streams_of_many_connections(weir, engine, client):
    w = weir(engine, listener=HTTP2, pipeline={"queue": {"size": 1000, "max_wait": "20s"}})
    failures = []

    def work():
        try:
            with Http2Client(w.port) as c:
                for _ in range(3):
                    ids = [c.ask(method="POST", path="/echo", body=b"x" * n) for n in range(50)]
                    for n, sid in enumerate(ids):
                        assert c.response(sid, 20).status == 200, n
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]
    w.await_metric("weir_requests_total", 8 * 3 * 50, protocol="http2", code="200")
    assert w.metrics().sum("weir_accepted_total") == 8


@pytest.mark.parametrize("has_length", [True, False])
def test_large_content_both_ways(weir, serve, client, has_length):
    body = os.urandom(3 << 20)

    def answer(message):
        assert message.body == body
        assert message.is_chunked != has_length
        if has_length:
            return response(body=body)
        return response(fields=["Transfer-Encoding: chunked"], length=False) + chunked(body)

    w = weir(serve(answering(answer)), listener=HTTP2)
    fields = [("content-length", str(len(body)))] if has_length else []
    c = client(w)
    answer = c.response(c.ask(method="POST", fields=fields, body=body), 20)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()
    assert ("content-length" in answer.fields) == has_length


def test_trailers_go_both_ways(weir, serve, client):
    def answer(message):
        assert message.trailers.get("x-sum") == "1"
        return response(fields=["Transfer-Encoding: chunked"], length=False) + chunked(
            b"some", trailers=["X-Total: 4"]
        )

    w = weir(serve(answering(answer)), listener=HTTP2)
    c = client(w)
    sid = c.ask(method="POST", fields=[("te", "trailers")], body=b"some", end=False)
    c.end(sid, [("x-sum", "1")])
    answer = c.response(sid)
    assert answer.body == b"some" and answer.trailers.get("x-total") == "4"


def test_head_204_and_304_have_no_content(weir, serve, client):
    replies = {
        "/head": response(body=b"hello")[:-5],
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    }
    w = weir(serve(answering(lambda m: replies[m.line.split()[1] if isinstance(m.line, str) else m.line.split()[1].decode()])), listener=HTTP2)
    c = client(w)
    head = c.response(c.ask(method="HEAD", path="/head"))
    assert head.status == 200 and head.fields.get("content-length") == "5" and head.body == b""
    assert c.get("/204").status == 204
    assert c.get("/304").fields.get("content-length") == "5"


def test_interim_answers_pass(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    sid = c.ask(method="POST", fields=[("expect", "100-continue")], end=False)
    server = up.accept()
    assert server.read_request_head().fields.get("expect") == "100-continue"
    server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    c.await_("100", lambda: c.streams[sid].informational)
    server.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    c.send(sid, b"content", end=True)
    server.send(response(body=b"ok"))
    answer = c.response(sid)
    assert [i[":status"] for i in answer.informational] == ["100", "103"]
    assert answer.body == b"ok"


def test_content_flows_both_ways_at_once(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    sid = c.ask(method="POST", end=False)
    server = up.accept()
    server.read_request_head()
    server.send(response(fields=["Transfer-Encoding: chunked"], length=False))
    for i in range(20):
        c.send(sid, b"ping %d" % i)
        assert server.read_chunk() == b"ping %d" % i
        server.send_chunk(b"pong %d" % i)
        c.await_("pong", lambda: c.streams[sid].body.endswith(b"pong %d" % i))
    server.send(b"0\r\n\r\n")
    assert c.response(sid).is_ended


def test_an_early_answer_arrives_whole_although_the_request_goes_on(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    sid = c.ask(method="POST", end=False)
    c.send(sid, b"x" * 1000)
    server = up.accept()
    server.read_request_head()
    server.send(response(413, body=b"too much"))
    answer = c.response(sid)
    assert (answer.status, answer.body) == (413, b"too much")
    assert c.await_reset(sid) == NO_ERROR
    server.close()
    # The connection goes on.
    sid = c.ask()
    server = up.accept()
    server.read_request()
    server.send(response(body=b"next"))
    assert c.response(sid).body == b"next"


# What goes wrong.


def test_failures_are_explained(weir, client):
    w = weir("127.0.0.1:1", listener=HTTP2, pipeline={"hold": 0})
    expect_problem(client(w).get(), 502, pipeline="up", errors={"connection_refused"})


@pytest.mark.parametrize(
    "head, fields, status",
    [
        (None, [("host", "other")], 400),
        ([(":method", "GET"), (":scheme", "http"), (":authority", "u@h"), (":path", "/")], [], 400),
        ([(":method", "GET"), (":scheme", "ftp"), (":authority", "h"), (":path", "/")], [], 400),
        (None, [("expect", "miracles")], 417),
        (None, [("a", "x" * 70000)], 431),
        (None, [(f"a{i}", "x") for i in range(101)], 431),
        ([(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/" + "x" * 20000)], [], 414),
        ([(":method", "CONNECT"), (":authority", "h:443")], [], 501),
    ],
)
def test_requests_that_are_refused_are_answered(weir, up, client, head, fields, status):
    w = weir(up, listener=HTTP2)
    c = client(w)
    expect_problem(c.response(c.ask(head=head, fields=fields)), status)
    assert not up.has_connection()
    w.await_metric("weir_requests_total", 1, protocol="http2", code=str(status))


def test_a_malformed_request_costs_its_stream_only(weir, serve, client):
    w = weir(serve(), listener=HTTP2)
    c = client(w)
    for fields in ([("Upper", "x")], [("a", "b\r\nc: d")], [("connection", "close")], [("transfer-encoding", "chunked")]):
        assert c.await_reset(c.ask(fields=fields)) == PROTOCOL_ERROR
    assert c.get().status == 200
    w.await_metric("weir_rejected_total", 4, reason="request_malformed")


def test_a_cancelled_stream_reaches_the_upstream_at_once(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    sid, other = c.ask(), c.ask()
    servers = [up.accept(), up.accept()]
    for s in servers:
        s.read_request()
    start = time.monotonic()
    c.cancel(sid)
    wait_for("the upstream hears", lambda: any(not s.is_quiet(0) for s in servers))
    assert time.monotonic() - start < scaled(AT_ONCE)
    w.await_metric("weir_requests_total", 1, protocol="http2", code="499")
    for s in servers:
        if s.is_quiet(0):
            s.send(response(body=b"ok"))
    assert c.response(other).body == b"ok"


def test_an_upstream_that_breaks_off_resets_the_stream(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    sid = c.ask()
    server = up.accept()
    server.read_request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome")
    c.await_("content", lambda: c.streams[sid].body == b"some")
    server.close()
    assert c.await_reset(sid) == INTERNAL_ERROR
    assert not c.streams[sid].is_ended


def test_a_request_that_stops_coming_is_answered(weir, up, client):
    w = weir(up, listener={**HTTP2, "timeouts": {"body": "300ms"}})
    c = client(w)
    sid = c.ask(method="POST", end=False)
    expect_problem(c.response(sid), 408)


# Windows.


def test_a_slow_reader_holds_little(weir, engine, client):
    w = weir(engine, listener=HTTP2)
    c = client(w, window=1 << 30, acknowledge=False)
    c.h2.increment_flow_control_window((1 << 30) - 65535)
    c.flush()
    before = w.rss()
    sid = c.ask(path="/download?n=31457280")
    c.await_("the head", lambda: c.streams[sid].status)
    # Reads nothing more: the windows are open, so only the socket holds it back.
    wait_for("something is held", lambda: w.metrics().sum("weir_buffered_bytes"))
    assert max(w.metrics().sum("weir_buffered_bytes") for _ in range(50)) < 512 << 10
    assert w.rss() - before < scaled(8 << 20)
    assert len(c.response(sid, 20).body) == 31457280


def test_a_stream_without_window_holds_little_and_disturbs_no_other(weir, engine, client):
    w = weir(engine, listener=HTTP2)
    c = client(w, acknowledge=False)
    sid = c.ask(path="/download?n=31457280")
    c.await_("a window full", lambda: len(c.streams[sid].body) == 65535)
    c.h2.increment_flow_control_window(1 << 20)
    c.flush()
    assert len(c.get("/download?n=1000").body) == 1000
    assert w.metrics().sum("weir_buffered_bytes") < 512 << 10
    assert len(c.streams[sid].body) == 65535
    c.cancel(sid)
    w.await_metric("weir_buffered_bytes", 0)


def test_a_slow_upstream_holds_back_the_client(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    sid = c.ask(method="POST", end=False)
    server = up.accept()
    server.read_request_head()
    sent = 0
    while True:
        room = min(c.h2.local_flow_control_window(sid), 16384)
        if room == 0 and not c.pump(0.5):
            break
        if room:
            c.h2.send_data(sid, b"x" * room)
            c.flush()
            sent += room
    # What sockets hold, and a window.
    assert sent < 32 << 20
    assert w.metrics().sum("weir_buffered_bytes") < 512 << 10
    c.cancel(sid)


# One port for both.


def test_auto_takes_either(weir, serve, client):
    up = serve()
    w = weir(up, listener={"protocol": "auto"})
    assert client(w).get().body == b"ok"
    assert w.exchange(request()).body == b"ok"
    one = w.client()
    for byte in request():
        one.send(bytes([byte]))
    assert one.read_response().body == b"ok"
    # A method that begins as the preface does.
    two = w.client()
    two.send(b"PRI /x HTTP/1.1\r\nHost: weir.test\r\n\r\n")
    assert two.read_response().body == b"ok"
    w.await_metric("weir_requests_total", 3, protocol="http1", code="200")
    w.await_metric("weir_requests_total", 1, protocol="http2", code="200")


def test_a_client_that_says_nothing_is_closed(weir, serve):
    w = weir(serve(), listener={"protocol": "auto", "timeouts": {"header": "200ms"}})
    silent = w.client()
    silent.send(b"PRI")
    silent.expect_end()


def test_http1_on_an_http2_port_is_ended(weir, serve):
    w = weir(serve(), listener=HTTP2)
    client = w.client()
    client.send(request())
    client.read_to_end()
    w.await_metric("weir_rejected_total", 1, reason="version")


# Tunnels.


def test_a_websocket_crosses_as_an_extended_connect(weir, up, client):
    w = weir(up, listener=HTTP2)
    c = client(w)
    assert c.settings[8] == 1
    sid = c.ask(
        head=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
              (":authority", "weir.test"), (":path", "/ws")],
        fields=[("sec-websocket-version", "13")], end=False,
    )  # fmt: skip
    server = up.accept()
    got = server.read_request_head()
    assert got.fields.get("upgrade") == "websocket" and got.fields.get("sec-websocket-key")
    assert "upgrade" in [m.lower() for m in got.fields.list("connection")]
    server.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: p\r\n\r\nfirst"
    )
    c.await_("the tunnel", lambda: c.streams[sid].body == b"first")
    assert c.streams[sid].status == 200
    assert c.streams[sid].fields.get("sec-websocket-protocol") == "p"
    assert "sec-websocket-accept" not in c.streams[sid].fields
    c.send(sid, b"up")
    assert server.read_exactly(2) == b"up"
    w.await_metric("weir_streams_active", 1, kind="tunnel")
    c.send(sid, b"last", end=True)
    assert server.read_exactly(4) == b"last"
    server.expect_end()
    server.send(b"bye")
    server.close()
    assert c.response(sid).body == b"firstbye"
    w.await_metric("weir_streams_active", 0, kind="tunnel")
    assert w.await_access(1)[0]["status"] == 101


def test_a_declined_websocket_is_an_answer(weir, serve, client):
    w = weir(serve(answering(response(403, body=b"no"))), listener=HTTP2)
    c = client(w)
    sid = c.ask(
        head=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
              (":authority", "weir.test"), (":path", "/ws")],
        end=False,
    )  # fmt: skip
    assert c.response(sid).status == 403


# The end.


def test_a_drain_says_so_twice_and_finishes_what_is_under_way(weir, up, client):
    w = weir(up, listener=HTTP2, server={"drain": {"shutdown": "10s"}})
    c = client(w)
    sid = c.ask()
    server = up.accept()
    server.read_request()
    idle = client(w)
    w.signal(signal.SIGTERM)
    c.await_("the last GOAWAY", lambda: len(c.goaways) == 2)
    assert c.goaways == [((1 << 31) - 1, NO_ERROR), (sid, NO_ERROR)]
    idle.await_end()
    assert w.is_running()
    server.send(response(body=b"finished"))
    assert c.response(sid).body == b"finished"
    c.await_end()
    assert w.await_exit() == 0


def test_a_stream_that_crosses_the_drain_is_served(weir, serve, client):
    w = weir(serve(), listener=HTTP2, server={"drain": {"shutdown": "10s"}})
    c = client(w)
    assert c.get().status == 200
    c.flush = lambda: None  # what it would say, acknowledgements too, is kept
    w.signal(signal.SIGTERM)
    c.await_("the first GOAWAY", lambda: c.goaways)
    del c.flush
    sid = c.ask()
    assert c.response(sid).body == b"ok"
    c.await_end()
    assert w.await_exit() == 0


@pytest.mark.threads
def test_a_drain_under_load_loses_no_request(weir, serve):
    w = weir(serve(answering(pause=0.02)), listener=HTTP2, server={"drain": {"shutdown": "10s"}})
    failures, done = [], []

    def work():
        try:
            with Http2Client(w.port) as c:
                while not c.goaways:
                    ids = [c.ask() for _ in range(10)]
                    for sid in ids:
                        stream = c.streams[sid]
                        c.await_("an answer", lambda: stream.is_over or (c.goaways and sid > c.goaways[-1][0]))
                        assert stream.status == 200 or sid > c.goaways[-1][0], stream
                        done.append(sid)
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    wait_for("some requests are through", lambda: len(done) > 100)
    w.signal(signal.SIGTERM)
    for t in threads:
        t.join()
    assert not failures, failures[0]
    assert w.await_exit() == 0


# Other clients.


def test_curl_and_h2load_agree(weir, serve):
    w = weir(serve(), listener={"protocol": "auto"})
    curl = ["curl", "-sS", "--noproxy", "*", "-w", "%{http_version} %{http_code}"]
    for option, version in (("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")):
        done = subprocess.run([*curl, option, w.url()], capture_output=True, text=True, timeout=scaled(20))
        assert done.stdout == f"ok{version} 200", done.stderr
    load = subprocess.run(
        ["h2load", "-n", "2000", "-c", "4", "-m", "32", w.url()], capture_output=True, text=True, timeout=scaled(60)
    )
    assert "2000 succeeded, 0 failed" in load.stdout, load.stdout
