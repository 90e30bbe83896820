"""Time is bounded: of a head, of content, of idleness, of a dial, of an exchange as a whole. The
values are short, and each bound is measured from below as well: not before its time."""

import socket
import time

import pytest
from harness.env import free_port, scaled, wait_for
from harness.replies import expect_problem, expect_refused
from harness.upstream import fill_backlog
from harness.wire import request, response

BLOCK = b"x" * 65536
LATE = 2.5  # how much later than asked for something may happen


class Clock:
    def __init__(self):
        self.start = time.monotonic()

    def between(self, low, high):
        took = time.monotonic() - self.start
        assert low * 0.9 <= took <= high + scaled(LATE), f"took {took:.3f} s, expected {low} to {high}"


def test_a_head_that_does_not_end_is_408(weir, up):
    w = weir(up, listener={"timeouts": {"header": "300ms"}})
    client = w.client()
    clock = Clock()
    client.send(b"GET / HTTP/1.1\r\nHost: we")
    expect_refused(client, 408)
    clock.between(0.3, 0.3)
    assert not up.has_connection()


def test_a_head_that_trickles_in_is_408(weir, up):
    """The bound is on the whole head, not on the pause between two bytes."""
    w = weir(up, listener={"timeouts": {"header": "500ms"}})
    client = w.client()
    clock = Clock()
    client.send(b"GET / HTTP/1.1\r\nX-Slow: ")
    while client.is_quiet(0.05):
        client.try_send(b"x")
        assert time.monotonic() - clock.start < scaled(5), "a slow head is never cut off"
    assert client.read_response().status == 408
    clock.between(0.5, 0.5)


def test_the_second_head_on_a_connection_has_its_own_time(weir, up):
    w = weir(up, threads=1, listener={"timeouts": {"header": "300ms", "idle": "10s"}})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response())
    client.read_response()
    assert client.is_quiet(0.4), "an idle connection has no head to be late with"
    clock = Clock()
    client.send(b"GET /ne")
    answer = client.read_response()
    assert answer.status == 408
    clock.between(0.3, 0.3)


def test_an_idle_connection_is_closed_without_a_word(weir, up):
    w = weir(up, listener={"timeouts": {"idle": "300ms"}})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response())
    client.read_response()
    clock = Clock()
    client.expect_end()
    clock.between(0.3, 0.3)


def test_a_request_in_time_starts_the_idle_time_anew(weir, up):
    w = weir(up, threads=1, listener={"timeouts": {"idle": "400ms"}})
    client = w.client()
    server = None
    clock = Clock()
    while time.monotonic() - clock.start < 1.0:
        client.send(request())
        server = server or up.accept()
        server.read_request()
        server.send(response())
        client.read_response()
        assert client.is_quiet(0.1)


def test_content_that_stops_coming_is_408(weir, up):
    w = weir(up, listener={"timeouts": {"body": "300ms"}})
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 10"]), b"12345")
    server = up.accept()
    server.read_request_head()
    clock = Clock()
    expect_refused(client, 408)
    clock.between(0.2, 0.3)
    server.read_abort()  # and the upstream is not kept waiting either


def test_content_that_trickles_in_is_in_time(weir, up):
    """The bound is on the pause between two reads."""
    w = weir(up, listener={"timeouts": {"body": "400ms"}})
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 12"]))
    server = up.accept()
    server.read_request_head()
    for _ in range(12):
        client.send(b"x")
        server.read_exactly(1)
        assert client.is_quiet(0.08)
    server.send(response(body=b"fine"))
    assert client.read_response().body == b"fine"


def test_a_client_that_does_not_read_is_cut_off(weir, up):
    w = weir(up, listener={"timeouts": {"body": "500ms"}})
    client = w.client(receive_buffer=8192)
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    try:
        sent = server.send_until_stuck(BLOCK, 512 << 20, quiet=5)
        assert sent < 64 << 20
    except OSError:
        pass  # cut off while we were still writing
    assert b"" == server.read_abort()
    wait_for("the slot is free again", lambda: w.metrics().sum("weir_exchanges_active") == 0)


def test_a_client_that_reads_slowly_is_served(weir, up):
    w = weir(up, listener={"timeouts": {"body": "500ms"}})
    client = w.client(receive_buffer=8192)
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(body=b"y" * 100000))
    client.read_response_head()
    left = 100000
    while left:
        n = min(left, 6000)
        client.read_exactly(n)
        left -= n
        client.is_quiet(0.06)
    assert left == 0


def test_an_upstream_that_does_not_read_is_given_up(weir, up):
    w = weir(up, listener={"timeouts": {"body": "500ms"}})
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 1000000000"]))
    server = up.accept()
    server.read_request_head()
    try:
        client.send_until_stuck(BLOCK, 512 << 20, quiet=5)
    except OSError:
        pass
    try:
        answer = client.read_response()
        assert answer.status in (408, 502, 504)
    except AssertionError as gone:
        assert "ended" in str(gone) or "reset" in str(gone)
    wait_for("the slot is free again", lambda: w.metrics().sum("weir_exchanges_active") == 0)


def test_an_upstream_that_does_not_answer_is_504(weir, up):
    w = weir(up, pipeline={"deadline": "400ms"})
    client = w.client()
    clock = Clock()
    client.send(request())
    server = up.accept()
    server.read_request()
    expect_problem(
        client.read_response(),
        504,
        pipeline="up",
        errors={"http_response_timeout", "connection_read_timeout"},
    )
    clock.between(0.4, 0.4)
    server.expect_gone()


def test_the_deadline_of_a_route_beats_that_of_its_pipeline(weir, up):
    w = weir(up, pipeline={"deadline": "30s"}, route={"deadline": "300ms"})
    client = w.client()
    clock = Clock()
    client.send(request())
    up.accept().read_request()
    expect_problem(client.read_response(), 504)
    clock.between(0.3, 0.3)


def test_a_deadline_inside_the_content_cuts_it_off(weir, up):
    w = weir(up, pipeline={"deadline": "500ms"})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Transfer-Encoding: chunked"]))
    server.send_chunk("hello")
    client.read_response_head()
    assert client.read_chunk() == b"hello"
    clock = Clock()
    assert not client.read_abort().endswith(b"0\r\n\r\n")
    clock.between(0.0, 0.5)
    server.expect_gone()


def test_an_event_stream_has_no_deadline(weir, up):
    w = weir(up, pipeline={"deadline": "300ms"})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    client.read_response_head()
    for i in range(8):
        server.send_chunk(f"data: {i}\n\n")
        assert client.read_chunk() == f"data: {i}\n\n".encode()
        assert client.is_quiet(0.1)


def test_a_route_that_is_a_stream_has_no_deadline(weir, up):
    w = weir(up, pipeline={"deadline": "300ms"}, route={"stream": True})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    assert client.is_quiet(0.6)
    server.send(response(body=b"late"))
    assert client.read_response().body == b"late"


def test_a_silent_stream_ends_at_stream_idle(weir, up):
    w = weir(up, listener={"timeouts": {"stream_idle": "400ms"}})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    server.send_chunk("data: 1\n\n")
    client.read_response_head()
    client.read_chunk()
    clock = Clock()
    client.read_abort()
    clock.between(0.4, 0.4)
    server.expect_gone()


def test_a_silent_tunnel_ends_at_stream_idle(weir, up):
    w = weir(up, listener={"timeouts": {"stream_idle": "400ms"}})
    client = w.client()
    client.send(request(fields=["Connection: Upgrade", "Upgrade: raw"]))
    server = up.accept()
    server.read_request_head()
    server.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
    client.read_response_head()
    for _ in range(4):  # bytes in either direction keep it
        client.send(b"x")
        assert server.read_exactly(1) == b"x"
        assert client.is_quiet(0.2)
        server.send(b"y")
        assert client.read_exactly(1) == b"y"
        assert client.is_quiet(0.2)
    clock = Clock()
    client.expect_gone()
    server.expect_gone()
    clock.between(0.1, 0.4)


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_dial_that_is_not_answered_is_given_up(weir, attempts):
    with socket.socket() as blackhole:
        fillers = fill_backlog(blackhole)
        w = weir(
            f"127.0.0.1:{blackhole.getsockname()[1]}",
            pipeline={"timeouts": {"dial": "300ms"}, "deadline": "20s", "hold": 0, "retry": {"attempts": attempts}},
        )
        client = w.client()
        clock = Clock()
        client.send(request())
        expect_problem(
            client.read_response(),
            502,
            503,
            504,
            pipeline="up",
            errors={"connection_timeout", "destination_unavailable"},
        )
        clock.between(0.3, 0.3 * attempts + 1)
        wait_for(
            "the dial is counted as timed out",
            lambda: w.metrics().sum("weir_endpoint_connects_total", result="timeout") >= 1,
        )
        for filler in fillers:
            filler.close()


def test_the_deadline_holds_while_dialling(weir):
    with socket.socket() as blackhole:
        fillers = fill_backlog(blackhole)
        w = weir(
            f"127.0.0.1:{blackhole.getsockname()[1]}",
            pipeline={"timeouts": {"dial": "30s"}, "deadline": "400ms"},
        )
        client = w.client()
        clock = Clock()
        client.send(request())
        expect_problem(client.read_response(), 502, 503, 504, pipeline="up")
        clock.between(0.4, 0.4)
        for filler in fillers:
            filler.close()


def test_an_idle_upstream_connection_is_closed(weir, up):
    w = weir(up, pipeline={"timeouts": {"idle": "300ms"}})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response())
    client.read_response()
    clock = Clock()
    server.expect_end()
    clock.between(0.3, 0.3)


def test_zero_means_no_bound(weir, up):
    w = weir(
        up, listener={"timeouts": {"idle": "0s", "body": "0s", "header": "0s"}}, pipeline={"deadline": "0s"}
    )
    client = w.client()
    client.send(b"GET / HTTP/1.1\r\n")
    assert client.is_quiet(0.5)
    client.send(b"Host: weir.test\r\n\r\n")
    server = up.accept()
    server.read_request()
    assert client.is_quiet(0.5)
    server.send(response())
    assert client.read_response().status == 200
    assert client.is_quiet(0.5)


def test_silent_connections_do_not_stop_others(weir, up):
    w = weir(up, threads=1)
    silent = [w.client() for _ in range(100)]
    for s in silent[:50]:
        s.send(b"G")
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(body=b"here"))
    assert client.read_response().body == b"here"


def test_a_port_nobody_listens_on_is_told_at_once(weir):
    w = weir(f"127.0.0.1:{free_port()}", pipeline={"deadline": "10s", "hold": 0, "retry": {"attempts": 1}})
    client = w.client()
    clock = Clock()
    client.send(request())
    expect_problem(
        client.read_response(),
        502,
        503,
        pipeline="up",
        errors={"connection_refused", "destination_unavailable"},
    )
    clock.between(0, 0.5)
