"""The end: nothing new, what is under way is finished, and then nothing is left."""

import re
import signal
import socket
import threading
import time

import pytest
from harness.env import AT_ONCE, free_port, scaled, wait_for
from harness.replies import expect_problem
from harness.upstream import answering, fill_backlog
from harness.wire import connect, request, response


def refuses(port):
    try:
        connect(port, timeout=1).close()
        return False
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_finished(weir, up, number):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    w.signal(number)
    wait_for("the port refuses", lambda: refuses(w.port))
    assert w.is_running()
    server.send(response(body=b"finished"))
    answer = client.read_response()
    assert answer.body == b"finished"
    assert "close" in [m.lower() for m in answer.fields.list("connection")]
    client.expect_end()
    assert w.await_exit() == 0


def test_with_nothing_to_finish_it_ends_at_once(weir, up):
    w = weir(up, server={"drain": {"shutdown": "30s"}})
    start = time.monotonic()
    w.signal()
    assert w.await_exit() == 0
    assert time.monotonic() - start < scaled(AT_ONCE)


def test_idle_connections_do_not_hold_up_the_end(weir, serve):
    w = weir(serve(), server={"drain": {"shutdown": "30s"}})
    clients = [w.client() for _ in range(10)]
    for client in clients:
        client.send(request())
        assert client.read_response().status == 200
    start = time.monotonic()
    w.signal()
    for client in clients:
        client.expect_end()
    assert w.await_exit() == 0
    assert time.monotonic() - start < scaled(3)


def test_an_upload_under_way_is_finished(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 10"]), b"12345")
    server = up.accept()
    server.read_request_head()
    server.read_exactly(5)
    w.signal()
    wait_for("the port refuses", lambda: refuses(w.port))
    client.send(b"67890")
    assert server.read_exactly(5) == b"67890"
    server.send(response(body=b"all of it"))
    assert client.read_response().body == b"all of it"
    assert w.await_exit() == 0


def test_what_waits_in_the_queue_is_finished(weir, up):
    w = weir(
        up,
        pipeline={"limits": {"concurrency": 1, "connections": 1}, "queue": {"size": 8, "max_wait": "20s"}},
        server={"drain": {"shutdown": "10s"}},
    )
    clients = []
    for i in range(3):
        clients.append(w.client())
        clients[-1].send(request(target=f"/{i}"))
        w.await_metric("weir_exchanges_active", i + 1)
    server = up.accept()
    server.read_request()
    w.signal()
    wait_for("the port refuses", lambda: refuses(w.port))
    server.send(response(body=b"0"))
    for i in (1, 2):
        if up.has_connection(0.1):
            server = up.accept()
        got = server.read_request()
        server.send(response(body=got.target))
    assert [c.read_response().status for c in clients] == [200] * 3
    assert w.await_exit() == 0


def test_the_drain_time_cuts_what_is_stuck(weir, up):
    w = weir(up, server={"drain": {"shutdown": "500ms"}})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    start = time.monotonic()
    w.signal()
    assert w.await_exit() == 0
    assert 0.4 < time.monotonic() - start < scaled(3)
    try:
        expect_problem(client.read_response(), 503, 504, 502)
    except AssertionError as gone:
        assert "ended" in str(gone) or "reset" in str(gone)
    server.expect_gone()


def test_streams_and_tunnels_end_with_the_drain_time(weir, up):
    w = weir(up, server={"drain": {"shutdown": "500ms"}})
    sse = w.client()
    sse.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    sse.read_response_head()
    tunnel = w.client()
    tunnel.send(request(fields=["Connection: Upgrade", "Upgrade: raw"]))
    other = up.accept()
    other.read_request_head()
    other.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
    tunnel.read_response_head()
    w.signal()
    assert w.await_exit() == 0
    for wire in (sse, server, tunnel, other):
        wire.expect_gone()


def test_a_dial_under_way_does_not_outlive_the_end(weir):
    with socket.socket() as blackhole:
        fillers = fill_backlog(blackhole)
        w = weir(
            f"127.0.0.1:{blackhole.getsockname()[1]}",
            pipeline={"timeouts": {"dial": "60s"}, "deadline": "60s"},
            server={"drain": {"shutdown": "500ms"}},
        )
        client = w.client()
        client.send(request())
        w.await_metric("weir_exchanges_active", 1)
        w.signal()
        assert w.await_exit() == 0
        for filler in fillers:
            filler.close()


def test_a_second_signal_ends_it_at_once(weir, up):
    w = weir(up, server={"drain": {"shutdown": "60s"}})
    w.must_be_clean = False  # it ends as it is
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    w.signal()
    wait_for("the port refuses", lambda: refuses(w.port))
    assert w.is_running()
    start = time.monotonic()
    w.signal()
    w.await_exit()
    assert time.monotonic() - start < scaled(AT_ONCE)


def test_it_is_not_ready_while_it_drains(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    w.signal()

    def not_ready():
        try:
            return w.admin("/readyz")[0] == 503
        except OSError:
            return False

    wait_for("readyz is 503", not_ready)
    assert w.admin("/healthz")[0] == 200
    server.send(response())
    assert client.read_response().status == 200
    assert w.await_exit() == 0


def test_the_census_is_in_the_log_and_reads_zero(weir, serve):
    w = weir(serve())
    for _ in range(5):
        w.exchange(request())
    w.signal()
    assert w.await_exit() == 0
    [line] = [x for x in w.log().splitlines() if "census" in x]
    counts = dict(re.findall(r"(\w+)=(\d+)", line))
    for what in ("connections", "exchanges", "timers", "fds"):
        assert counts.get(what) == "0", line


def test_a_request_that_comes_as_it_drains_is_answered_or_the_connection_closed(weir, up):
    """On a connection that was busy: its answer said close, so nothing more is read from it."""
    w = weir(up)
    client = w.client()
    client.send(request(target="/1"), request(target="/2"))
    server = up.accept()
    assert server.read_request().target == "/1"
    w.signal()
    wait_for("the port refuses", lambda: refuses(w.port))
    server.send(response(body=b"1"))
    answer = client.read_response()
    assert answer.body == b"1"
    assert "close" in [m.lower() for m in answer.fields.list("connection")]
    client.expect_end()
    assert w.await_exit() == 0


def end_in_the_middle(weir, serve):
    """Incident 5: dials, WebSockets, event streams and plain requests under way as it ends."""

    def events(wire):
        wire.read_request()
        wire.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
        while True:
            wire.send_chunk("data: x\n\n")
            if not wire.is_quiet(0.01):
                wire.read_abort()
                return

    def upgrade(wire):
        wire.read_request_head()
        wire.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        wire.read_abort()

    with socket.socket() as blackhole:
        fillers = fill_backlog(blackhole)
        limits = {"concurrency": 100, "connections": 100, "streams": 100}
        servers = {
            "/sse": serve(events).endpoint,
            "/raw": serve(upgrade).endpoint,
            "/plain": serve(answering(pause=0.01)).endpoint,
            "/dial": f"127.0.0.1:{blackhole.getsockname()[1]}",
        }
        w = weir(
            config=lambda d: {
                "server": {"threads": 2, "drain": {"shutdown": "300ms"}},
                "admin": {"listen": f"127.0.0.1:{free_port()}"},
                "listener": [
                    {"name": "http", "listen": f"127.0.0.1:{free_port()}"}
                ],
                "pipeline": [
                    {"name": p[1:], "endpoints": [e], "limits": limits} for p, e in servers.items()
                ],
                "route": [{"match": {"path": p}, "pipeline": p[1:]} for p in servers],
            }
        )
        clients = []
        for path in list(servers) * 6:
            client = w.client()
            fields = ["Connection: Upgrade", "Upgrade: raw"] if path == "/raw" else []
            client.send(request(target=path, fields=fields))
            clients.append(client)
        stop = threading.Event()

        def busy():
            with w.client() as client:
                while not stop.is_set():
                    if not client.try_send(request(target="/plain")):
                        return
                    try:
                        client.read_response()
                    except (AssertionError, OSError):
                        return

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for("all are under way", lambda: w.metrics().sum("weir_exchanges_active") >= 18)
        w.signal()
        assert w.await_exit() == 0
        stop.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.read_abort()
        for filler in fillers:
            filler.close()


@pytest.mark.threads
def test_it_ends_cleanly_in_the_middle_of_everything(weir, serve):
    for _ in range(3):
        end_in_the_middle(weir, serve)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_it_ends_cleanly_in_the_middle_of_everything_twenty_times(weir, serve):
    for _ in range(20):
        end_in_the_middle(weir, serve)
