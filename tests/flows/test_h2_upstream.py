"""HTTP/2 towards upstreams, from HTTP/1 clients: what goes over, what comes back, and how
connections, streams and their ends are handled."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from h2.errors import ErrorCodes

from harness.env import free_port, scaled, wait_for
from harness.http2 import PING, WINDOW_UPDATE, frame
from harness.replies import reason_of
from harness.wire import Closed, chunked, request
from harness.ws import UPGRADE

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20


def over_h2(weir, *upstreams, pipeline=None, **options):
    return weir(*upstreams, pipeline={"protocol": "http2", **(pipeline or {})}, **options)


def crowd(n, work):
    """Runs work(i) in @n threads at once; the results in order."""
    results = [None] * n

    def run(i):
        try:
            results[i] = work(i)
        except BaseException as failure:  # noqa: BLE001 - told to the test
            results[i] = failure

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# --- Messages --------------------------------------------------------------------------------


def test_a_request_becomes_a_stream_and_its_answer_comes_back(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server)
    reply = w.exchange(
        request("POST", "/p?q=1", ["X-Mixed: Case", "Connection: close, X-Hop", "X-Hop: 1"], "hello"),
        "POST",
    )
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.fields.get("x-path") == "/p?q=1"
    assert reply.fields.get("via") == "2.0 weir"
    (stream,) = server.streams
    assert stream.fields[:4] == [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "weir.test"),
        (":path", "/p?q=1"),
    ]
    assert stream.get("x-mixed") == "Case"
    assert stream.get("content-length") == "5"
    assert stream.get("x-forwarded-for") == "127.0.0.1"
    assert stream.get("x-forwarded-host") == "weir.test"
    assert stream.get("via") == "1.1 weir"
    assert stream.get("x-request-id")
    names = {name for name, _ in stream.fields}
    assert not names & {"connection", "x-hop", "host", "transfer-encoding", "keep-alive", "te"}


def test_the_host_of_the_pipeline_is_the_authority(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server, pipeline={"host": "engine.internal"})
    assert w.exchange(request()).status == 200
    assert server.streams[0].get(":authority") == "engine.internal"


def test_te_trailers_goes_through_and_nothing_else_of_te(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server)
    w.exchange(request(fields=["TE: trailers, deflate;q=0.5", "Connection: te"]))
    w.exchange(request(fields=["TE: deflate", "Connection: te"]))
    assert [s.get("te") for s in server.streams] == ["trailers", None]


def test_an_upgrade_that_http2_does_not_know_is_passed_over(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server)
    reply = w.exchange(
        request(fields=["Upgrade: h2c", "Connection: upgrade, http2-settings", "HTTP2-Settings: AAMAAABk"])
    )
    assert reply.status == 200
    assert server.streams[0].get(":method") == "GET"
    assert not {"upgrade", "http2-settings"} & {n for n, _ in server.streams[0].fields}


def test_trailers_go_both_ways(weir, h2_serve):
    def serve(stream, event):
        if event == "end":
            stream.respond(body=b"done", trailers=[("grpc-status", "0"), ("x-sum", "5")])

    server = h2_serve(serve)
    w = over_h2(weir, server)
    with w.client() as client:
        client.send(request("POST", fields=["Transfer-Encoding: chunked", "TE: trailers", "Connection: te"]))
        client.send(chunked("a", "b", trailers=["X-Sum: 2"]))
        reply = client.read_response()
    assert reply.body == b"done"
    assert list(reply.trailers) == [("grpc-status", "0"), ("x-sum", "5")]
    assert server.streams[0].body == b"ab"
    assert server.streams[0].trailers == [("x-sum", "2")]


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_content(weir, h2_serve, method, status):
    server = h2_serve(lambda s, e: e == "end" and s.respond(status, [("content-length", "7")] * (status != 204)))
    w = over_h2(weir, server)
    with w.client() as client:
        for _ in range(2):
            client.send(request(method))
            assert client.read_response(method).status == status


def test_interim_answers_are_passed_on(weir, h2_serve):
    def serve(stream, event):
        if event == "end":
            stream.head(103, [("link", "</a>")])
            stream.respond(body=b"x")

    w = over_h2(weir, h2_serve(serve))
    with w.client() as client:
        client.send(request())
        early = client.read_response()
        assert (early.status, early.fields.get("link")) == (103, "</a>")
        assert client.read_response().body == b"x"


def test_an_answer_may_come_before_the_request_is_through(weir, h2_serve):
    def serve(stream, event):
        if event == "head":
            stream.respond(200, body=b"enough")

    server = h2_serve(serve)
    w = over_h2(weir, server)
    with w.client() as client:
        client.send(request("POST", fields=["Content-Length: 10"]), b"12345")
        assert client.read_response().body == b"enough"
        client.try_send(b"67890")
    (stream,) = server.await_streams(1)
    assert stream.reset_code in (None, ErrorCodes.CANCEL)


def test_an_early_refusal_with_a_reset_is_an_answer(weir, h2_serve):
    def serve(stream, event):
        if event == "head":
            stream.respond(413, body=b"too much")
            stream.reset(ErrorCodes.NO_ERROR)

    w = over_h2(weir, h2_serve(serve))
    with w.client() as client:
        client.send(request("POST", fields=["Content-Length: 1000000"]), b"x" * 1000)
        reply = client.read_response()
    assert (reply.status, reply.body) == (413, b"too much")


def test_content_flows_both_ways_at_once(weir, h2_serve):
    def serve(stream, event):
        if event == "head":
            stream.head(200)
        elif event == "data":
            stream.data(stream.body)
            stream.body = b""
        elif event == "end":
            stream.data(b".", end=True)

    w = over_h2(weir, h2_serve(serve))
    with w.client() as client:
        client.send(request("POST", fields=["Transfer-Encoding: chunked"]))
        client.read_response_head()
        for text in (b"one", b"two", b"three"):
            client.send_chunk(text)
            assert client.read_chunk() == text
        client.send(b"0\r\n\r\n")
        assert client.read_chunk() == b"."
        assert client.read_chunk() == b""


# --- Sizes and windows -----------------------------------------------------------------------


def test_big_content_goes_both_ways_whole(weir, h2_serve):
    body = os.urandom(8 * MIB)
    server = h2_serve(window=16 * MIB)
    w = over_h2(weir, server)
    with w.client(timeout=60) as client:
        sender = threading.Thread(target=client.send, args=(request("POST", body=body),))
        sender.start()
        reply = client.read_response()
        sender.join()
    assert reply.body == body


def test_a_slow_reader_of_much_holds_little(weir, h2_serve):
    size = 30 * MIB
    server = h2_serve(lambda s, e: e == "end" and s.respond(body=bytes(size)))
    w = over_h2(weir, server)
    assert w.exchange(request(target="/warm")).status == 200
    before = w.rss()
    slow = w.client(receive_buffer=4096, timeout=60)
    slow.send(request())
    slow.read_response_head()
    server.await_streams(2)
    wait_for(
        "the upstream has no more credit",
        lambda: server.streams[1].pending
        and server.streams[1].connection.h2.local_flow_control_window(server.streams[1].id) <= 0,
    )
    assert w.metrics().sum("weir_buffered_bytes") <= 512 * 1024
    if os.environ.get("WEIR_VARIANT", "release") == "release":
        assert w.rss() - before < 2 * MIB
    # Others on the same connection do not notice.
    assert len(w.exchange(request()).body) == size
    got = 0
    while got < size:
        got += len(slow.read_chunk())
    assert slow.read_chunk() == b""


def test_many_slow_readers_do_not_use_up_the_window_of_the_connection(weir, h2_serve):
    server = h2_serve(lambda s, e: e == "end" and s.respond(body=bytes(MIB if s.path == "/slow" else 1000)))
    w = over_h2(weir, server, threads=1)
    for _ in range(40):
        slow = w.client(receive_buffer=4096)
        slow.send(request(target="/slow"))
        slow.read_response_head()
    reply = w.exchange(request(target="/quick"))
    assert len(reply.body) == 1000
    assert server.accepted == 1
    assert w.metrics().sum("weir_buffered_bytes") <= 41 * 2 * 64 * 1024


def test_an_upstream_that_takes_nothing_holds_the_upload_back(weir, h2_serve):
    server = h2_serve(lambda s, e: None, gives_credit=False)
    w = over_h2(weir, server)
    client = w.client()
    client.send(request("POST", fields=[f"Content-Length: {30 * MIB}"]))
    sent = client.send_until_stuck(bytes(65536), 30 * MIB)
    assert sent < 16 * MIB  # what sockets hold, on both sides
    assert len(server.await_streams(1)[0].body) <= 65535
    assert w.metrics().sum("weir_buffered_bytes") <= 512 * 1024


# --- Connections -----------------------------------------------------------------------------


def test_exchanges_share_as_few_connections_as_there_are_threads(weir, h2_serve):
    gate = threading.Event()

    def serve(stream, event):
        if event == "end":
            threading.Thread(target=lambda: (gate.wait(30), stream.respond(body=b"x"))).start()

    server = h2_serve(serve)
    w = over_h2(weir, server)
    clients = [w.client() for _ in range(50)]
    for client in clients:
        client.send(request())
    server.await_streams(50)
    assert w.metrics().sum("weir_endpoint_streams") == 50
    assert w.metrics().sum("weir_endpoint_connections") <= 2
    gate.set()
    assert all(client.read_response().status == 200 for client in clients)
    assert server.accepted <= 2
    w.await_metric("weir_endpoint_streams", 0)


@pytest.mark.parametrize(
    "settings, limits",
    [({"MAX_CONCURRENT_STREAMS": 1}, {}), ({}, {"streams_per_connection": 1})],
    ids=["by the upstream", "by us"],
)
def test_more_connections_come_when_streams_run_out_within_the_limit(weir, h2_serve, settings, limits):
    gate = threading.Event()

    def serve(stream, event):
        if event == "end":
            threading.Thread(target=lambda: (gate.wait(30), stream.respond(body=b"x"))).start()

    server = h2_serve(serve, settings=settings)
    w = over_h2(weir, server, pipeline={"limits": {"connections": 4, **limits}}, threads=1)
    clients = [w.client() for _ in range(8)]
    for client in clients:
        client.send(request())
    server.await_streams(4)
    time.sleep(0.1)  # for what must not come
    assert len(server.streams) == 4
    assert server.most_open == 4
    gate.set()
    assert all(client.read_response().status == 200 for client in clients)
    assert server.accepted == 4


def test_waiting_for_a_stream_has_an_end(weir, h2_serve):
    server = h2_serve(lambda s, e: None, settings={"MAX_CONCURRENT_STREAMS": 1})
    w = over_h2(
        weir, server, pipeline={"limits": {"connections": 1}, "queue": {"max_wait": "200ms"}}, threads=1
    )
    first = w.client()
    first.send(request())
    server.await_streams(1)
    reply = w.exchange(request())
    assert reply.status == 503
    assert reason_of(reply) == "connections_busy"
    assert len(server.streams) == 1


@pytest.mark.threads
def test_one_connection_serves_all_loops(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server, pipeline={"limits": {"connections": 1}, "queue": {"max_wait": "20s"}}, threads=4)

    def work(i):
        with w.client(timeout=30) as client:
            for n in range(10):
                client.send(request("POST", body=f"{i} {n}"))
                if client.read_response().body != f"{i} {n}".encode():
                    return False
        return True

    assert crowd(16, work) == [True] * 16
    assert server.most_open == 1


def test_an_idle_connection_is_closed(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server, pipeline={"timeouts": {"idle": "100ms"}}, threads=1)
    assert w.exchange(request()).status == 200
    connection = server.connections[0]
    w.await_metric("weir_endpoint_connections", 0)
    assert connection.goaway is not None and connection.goaway.error_code == 0
    assert w.exchange(request()).status == 200
    assert server.accepted == 2


def test_a_unix_socket(weir, h2_serve, tmp_path):
    w = over_h2(weir, h2_serve(path=tmp_path / "up.sock"))
    assert w.exchange(request("POST", body="hello")).body == b"hello"


def test_a_server_of_http1_is_said_to_be_none_of_http2(weir, serve):
    def old(wire):
        wire.fill()
        wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    w = over_h2(weir, serve(old))
    reply = w.exchange(request())
    assert reply.status == 502
    assert reason_of(reply) == "upstream_malformed"
    said = "does not keep to HTTP/2: it answers HTTP/1; correct it, or the pipeline's protocol"
    wait_for("the log says why", lambda: said in w.log())


def test_what_breaks_http2_is_said(weir, serve, h2_serve):
    def settings(wire):  # a PING in their place
        wire.fill()
        wire.send(frame(PING, 0, 0, bytes(8)))

    w = over_h2(weir, serve(settings))
    assert w.exchange(request()).status == 502
    wait_for("the log says why", lambda: "HTTP/2: PROTOCOL_ERROR: SETTINGS expected" in w.log())

    def window(stream, event):  # no credit is none
        if event == "end":
            stream.connection.sock.sendall(frame(WINDOW_UPDATE, 0, 0, bytes(4)))

    def pings(stream, event):  # more than a thousand in one read
        if event == "end":
            stream.connection.sock.sendall(frame(PING, 0, 0, bytes(8)) * 3000)

    for serve_, what in (
        (window, "PROTOCOL_ERROR: WINDOW_UPDATE: window_size_increment == 0"),
        (pings, "Flooding was detected in this HTTP/2 session, and it must be closed"),
    ):
        w = over_h2(weir, h2_serve(serve_))
        reply = w.exchange(request())
        assert (reply.status, reason_of(reply)) == (502, "upstream_malformed")
        why = f"the upstream does not keep to HTTP/2: {what}"
        assert why in reply.body.decode()
        assert w.await_access(1)[0]["detail"] == why


def test_a_server_that_is_silent_is_no_connection(weir, up):
    w = over_h2(weir, up, pipeline={"timeouts": {"dial": "200ms"}, "hold": 0})
    assert w.exchange(request()).status == 504
    w.await_metric("weir_endpoint_connects_total", 1, result="timeout")


# --- Ends ------------------------------------------------------------------------------------


def test_what_was_refused_is_tried_again_with_its_content(weir, h2_serve):
    tries = itertools.count()

    def serve(stream, event):
        if event == "end" and next(tries) == 0:
            stream.reset(ErrorCodes.REFUSED_STREAM)
        elif event == "end":
            stream.respond(body=stream.body)

    server = h2_serve(serve)
    w = over_h2(weir, server)
    reply = w.exchange(request("POST", body="x" * 50000))
    assert (reply.status, reply.body) == (200, b"x" * 50000)
    assert len(server.streams) == 2


def test_what_is_too_long_to_be_kept_is_not_tried_again(weir, h2_serve):
    server = h2_serve(lambda s, e: e == "end" and s.reset(ErrorCodes.REFUSED_STREAM))
    w = over_h2(weir, server)
    with w.client() as client:
        client.send(request("POST", fields=["Content-Length: 80000"]), bytes(80000))
        reply = client.read_response()
    assert reply.status == 503
    assert reason_of(reply) == "upstream_refused"
    assert len(server.streams) == 1


def test_refusals_are_tried_again_as_often_as_is_configured(weir, h2_serve):
    server = h2_serve(lambda s, e: e == "end" and s.reset(ErrorCodes.REFUSED_STREAM))
    w = over_h2(weir, server, pipeline={"retry": {"attempts": 3}})
    reply = w.exchange(request("POST", body="x"))
    assert reply.status == 503
    assert reason_of(reply) == "upstream_refused"
    assert len(server.streams) == 3


def test_refusals_are_not_tried_again_where_that_is_off(weir, h2_serve):
    server = h2_serve(lambda s, e: e == "end" and s.reset(ErrorCodes.REFUSED_STREAM))
    w = over_h2(weir, server, pipeline={"retry": {"on": ["connect"]}})
    assert w.exchange(request()).status == 503
    assert len(server.streams) == 1


@pytest.mark.parametrize(
    "code, status, kind",
    [
        (ErrorCodes.INTERNAL_ERROR, 502, "upstream_reset"),
        (ErrorCodes.CANCEL, 502, "upstream_reset"),
        (ErrorCodes.ENHANCE_YOUR_CALM, 502, "upstream_reset"),
        (ErrorCodes.PROTOCOL_ERROR, 502, "upstream_malformed"),
    ],
)
def test_a_reset_is_answered(weir, h2_serve, code, status, kind):
    server = h2_serve(lambda s, e: e == "end" and (s.reset(code) if s.path == "/" else s.respond()))
    w = over_h2(weir, server)
    reply = w.exchange(request())
    assert reply.status == status
    assert reason_of(reply) == kind
    assert w.exchange(request(target="/fine")).status == 200
    assert server.accepted <= 2


def test_a_reset_in_mid_answer_is_no_end_of_it(weir, h2_serve):
    def serve(stream, event):
        if event == "end":
            stream.head(200)
            stream.data(b"some")

    server = h2_serve(serve)
    w = over_h2(weir, server)
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        assert client.read_chunk() == b"some"
        server.streams[0].reset(ErrorCodes.INTERNAL_ERROR)
        with pytest.raises(Closed):
            client.read_chunk()


def test_a_client_that_leaves_cancels_within_100_ms(weir, h2_serve):
    server = h2_serve(lambda s, e: None)
    w = over_h2(weir, server)
    client = w.client()
    client.send(request())
    (stream,) = server.await_streams(1)
    left = time.monotonic()
    client.close()
    wait_for("the stream is reset", lambda: stream.reset_code is not None)
    assert stream.reset_code == ErrorCodes.CANCEL
    assert stream.reset_time - left < scaled(0.1)
    assert not stream.connection.is_gone


def test_goaway_lets_what_was_taken_finish_and_the_rest_goes_elsewhere(weir, h2_serve):
    held = []

    def serve(stream, event):
        if event != "end":
            return
        if stream.connection is server.first and len(held) < 3:
            held.append(stream)
        else:
            stream.respond(body=stream.body)

    server = h2_serve(serve)
    server.first = None
    w = over_h2(weir, server, threads=1)
    assert w.exchange(request()).status == 200
    server.first = server.connections[0]
    clients = [w.client() for _ in range(3)]
    for n, client in enumerate(clients):
        client.send(request("POST", body=f"{n}"))
        server.await_streams(n + 2)
    wait_for("all three have come", lambda: len(held) == 3)
    server.first.say_goaway(held[0].id)
    assert [c.read_response().body for c in clients[1:]] == [b"1", b"2"]
    held[0].respond(body=b"late")
    assert clients[0].read_response().body == b"late"
    assert server.accepted == 2
    wait_for("the first connection is closed", lambda: server.first.is_gone)


def test_an_upstream_that_only_says_goaway_is_given_up(weir, h2_serve):
    server = h2_serve(lambda s, e: e == "end" and s.connection.say_goaway(0))
    w = over_h2(weir, server)
    reply = w.exchange(request("POST", body="x"))
    assert reply.status == 503
    assert reason_of(reply) == "upstream_goaway"
    assert len(server.streams) == 11  # CROSSING_GOAWAYS_MAX


@pytest.mark.threads
def test_no_call_is_lost_while_connections_end_all_the_time(weir, h2_serve):
    """Each connection is ended every 50 ms: what comes in the last moment is above the last id."""
    server = h2_serve()
    stop = threading.Event()

    def end_connections():
        while not stop.wait(0.05):
            for connection in list(server.connections):
                with connection.lock:
                    if connection.streams and connection.last_id is None and not connection.is_gone:
                        connection.say_goaway(max(connection.streams))

    w = over_h2(weir, server)
    ender = threading.Thread(target=end_connections)

    def work(i):
        lost = []
        with w.client(timeout=30) as client:
            for n in range(150):
                body = f"{i} {n} ".encode() * 10
                client.send(request("POST", body=body))
                reply = client.read_response()
                if (reply.status, reply.body) != (200, body):
                    lost.append((reply.status, reply.body[:200]))
        return lost

    ender.start()
    try:
        results = crowd(16, work)
    finally:
        stop.set()
        ender.join()
    assert results == [[]] * 16
    assert server.accepted > 4


# --- Signs of life ---------------------------------------------------------------------------


@pytest.fixture
def nghttpd(tmp_path):
    """nghttpd behind a slow file system: it is stopped and continued."""
    port = free_port()
    (tmp_path / "a.txt").write_text("hello")
    program = shutil.which("nghttpd", path="/usr/bin:/usr/sbin")
    process = subprocess.Popen(
        [program, "--no-tls", "-a", "127.0.0.1", "-d", str(tmp_path), "--echo-upload", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def is_up():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for("nghttpd listens", is_up)
    process.endpoint = f"127.0.0.1:{port}"
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


def test_a_dead_connection_is_found_by_a_ping(weir, nghttpd):
    w = over_h2(
        weir,
        nghttpd.endpoint,
        pipeline={"timeouts": {"ping": "200ms", "pong": "300ms", "dial": "300ms"}},
        threads=1,
    )
    assert w.exchange(request(target="/a.txt")).body == b"hello"
    nghttpd.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with w.client() as client:
        client.send(request("POST", "/a.txt", body="x"))
        reply = client.read_response()
    assert reply.status == 502
    assert reason_of(reply) == "upstream_stale"
    assert 0.4 < time.monotonic() - start < scaled(5)
    wait_for("it is said why", lambda: "no answer to a PING" in w.log())
    nghttpd.send_signal(signal.SIGCONT)
    wait_for("it works again", lambda: w.exchange(request(target="/a.txt")).status == 200)


def test_a_slow_answer_is_no_dead_connection(weir, h2_serve):
    gate = threading.Event()

    def serve(stream, event):
        if event == "end":
            threading.Thread(target=lambda: (gate.wait(30), stream.respond(body=b"x"))).start()

    server = h2_serve(serve)
    w = over_h2(weir, server, pipeline={"timeouts": {"ping": "50ms", "pong": "1s"}})
    client = w.client()
    client.send(request())
    (stream,) = server.await_streams(1)
    wait_for("weir asks", lambda: stream.connection.pings == 1)
    time.sleep(0.5)  # for pings that must not come
    assert stream.connection.pings == 1
    gate.set()
    assert client.read_response().status == 200


# --- Tunnels ---------------------------------------------------------------------------------

def test_a_websocket_goes_over_an_extended_connect(weir, h2_serve):
    def serve(stream, event):
        if event == "head":
            stream.head(200, [("sec-websocket-protocol", "chat")])
        elif event == "data":
            stream.data(stream.body.upper())
            stream.body = b""
        elif event == "end":
            stream.data(b"", end=True)

    server = h2_serve(serve, settings={"ENABLE_CONNECT_PROTOCOL": 1})
    w = over_h2(weir, server)
    with w.client() as client:
        client.send(request(target="/ws", fields=UPGRADE))
        reply = client.read_response()
        assert reply.status == 101
        assert reply.fields.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert reply.fields.get("sec-websocket-protocol") == "chat"
        assert reply.fields.get("upgrade") == "websocket"
        for text in (b"abc", b"x" * 100000):
            client.send(text)
            assert client.read_exactly(len(text)) == text.upper()
        client.shutdown()
        client.expect_end()
    stream = server.streams[0]
    assert (stream.get(":method"), stream.get(":protocol")) == ("CONNECT", "websocket")
    assert stream.get(":path") == "/ws"
    assert stream.get("sec-websocket-version") == "13"
    assert stream.get("sec-websocket-key") is None


def test_a_websocket_that_is_refused_is_answered(weir, h2_serve):
    server = h2_serve(lambda s, e: e == "head" and s.respond(403, body=b"no"), settings={"ENABLE_CONNECT_PROTOCOL": 1})
    w = over_h2(weir, server)
    reply = w.exchange(request(target="/ws", fields=UPGRADE))
    assert (reply.status, reply.body) == (403, b"no")


def test_a_websocket_to_an_upstream_without_says_so(weir, h2_serve):
    server = h2_serve()
    w = over_h2(weir, server)
    reply = w.exchange(request(target="/ws", fields=UPGRADE))
    assert reply.status == 502
    assert reason_of(reply) == "upstream_tunnel"
    assert server.streams == []
