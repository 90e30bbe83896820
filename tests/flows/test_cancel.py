"""A client that leaves is noticed while its upstream still works, and the upstream's part is ended
within a second."""

import threading
import time

import pytest
from harness.env import scaled, wait_for
from harness.wire import request, response

# The bar is 1 s in release; a sanitizer's slowness is not weir's.
BAR = 1.0


def gone_within_bar(server):
    start = time.monotonic()
    server.read_abort(BAR + 4)
    took = time.monotonic() - start
    assert took <= scaled(BAR), f"the upstream was cancelled only after {took:.2f} s"


def at_rest(w):
    wait_for("no exchange is left", lambda: w.metrics().sum("weir_exchanges_active") == 0)
    wait_for("nothing is in flight", lambda: w.metrics().sum("weir_pipeline_inflight") == 0)


LEAVE = {"closes": lambda c: c.close(), "resets": lambda c: c.reset(), "half-closes": lambda c: c.shutdown()}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
def test_a_client_that_leaves_while_it_waits_is_noticed(weir, up, leave):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    leave(client)
    gone_within_bar(server)
    at_rest(w)


@pytest.mark.parametrize("leave", ["closes", "resets"])
def test_a_client_that_leaves_during_the_response_is_noticed(weir, up, leave):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Transfer-Encoding: chunked"]))
    server.send_chunk("some")
    client.read_response_head()
    client.read_chunk()
    LEAVE[leave](client)
    gone_within_bar(server)
    at_rest(w)


@pytest.mark.parametrize("leave", ["closes", "resets", "half-closes"])
def test_a_client_that_leaves_during_its_upload_is_noticed(weir, up, leave):
    w = weir(up)
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 1000"]), b"some")
    server = up.accept()
    server.read_request_head()
    server.read_exactly(4)
    LEAVE[leave](client)
    gone_within_bar(server)
    at_rest(w)


@pytest.mark.parametrize("leave", ["closes", "resets"])
def test_a_client_that_leaves_an_event_stream_is_noticed(weir, up, leave):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    server.send_chunk("data: 1\n\n")
    client.read_response_head()
    client.read_chunk()
    LEAVE[leave](client)
    gone_within_bar(server)
    at_rest(w)


def test_a_client_that_leaves_while_nobody_reads_the_response_is_noticed(weir, up):
    """Reading is paused for nobody's sake here: weir's buffers towards the client are full."""
    w = weir(up)
    client = w.client(receive_buffer=8192)
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    server.send_until_stuck(b"x" * 65536, 256 << 20, quiet=0.3)
    client.reset()
    gone_within_bar(server)
    at_rest(w)


def test_a_client_that_leaves_behind_pipelined_requests_is_noticed(weir, up):
    w = weir(up, threads=1)
    client = w.client()
    client.send(request(target="/1"), request(target="/2"), request(target="/3"))
    server = up.accept()
    assert server.read_request().target == "/1"
    client.close()
    gone_within_bar(server)
    at_rest(w)


@pytest.mark.parametrize("leave", ["closes", "resets"])
def test_a_client_that_leaves_the_queue_is_gone_at_once(weir, up, leave):
    w = weir(
        up,
        pipeline={"limits": {"concurrency": 1, "connections": 1}, "queue": {"size": 8, "max_wait": "20s"}},
    )
    first = w.client()
    first.send(request(target="/first"))
    server = up.accept()
    server.read_request()
    waiting = w.client()
    waiting.send(request(target="/waiting"))
    w.await_metric("weir_pipeline_queue_length", 1, pipeline="up")
    LEAVE[leave](waiting)
    w.await_metric("weir_pipeline_queue_length", 0, timeout=BAR, pipeline="up")
    server.send(response(body=b"first"))
    assert first.read_response().body == b"first"
    assert server.is_quiet(0.2) and not up.has_connection(), "what nobody waits for is not sent"
    at_rest(w)


def test_half_close_is_no_leaving_where_the_listener_says_so(weir, up):
    w = weir(up, listener={"half_close": True})
    client = w.client()
    client.send(request())
    client.shutdown()
    server = up.accept()
    server.read_request()
    assert server.is_quiet(0.5)
    server.send(response(body=b"still here"))
    assert client.read_response().body == b"still here"
    client.expect_end()


def test_half_close_after_pipelined_requests_answers_them_all(weir, serve):
    w = weir(serve(), listener={"half_close": True})
    client = w.client()
    client.send(*(request(target=f"/{i}") for i in range(5)))
    client.shutdown()
    for _ in range(5):
        assert client.read_response().status == 200
    client.expect_end()


def test_half_close_inside_an_upload_is_leaving_even_then(weir, up):
    w = weir(up, listener={"half_close": True})
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 10"]), b"12345")
    server = up.accept()
    server.read_request_head()
    server.read_exactly(5)
    client.shutdown()
    gone_within_bar(server)
    at_rest(w)


def test_leaving_frees_the_place_for_the_next(weir, up):
    w = weir(
        up, pipeline={"limits": {"concurrency": 1, "connections": 1}, "queue": {"size": 8, "max_wait": "20s"}}
    )
    first = w.client()
    first.send(request(target="/first"))
    server = up.accept()
    server.read_request()
    second = w.client()
    second.send(request(target="/second"))
    w.await_metric("weir_pipeline_queue_length", 1, pipeline="up")
    first.reset()
    gone_within_bar(server)
    server.close()
    server = up.accept()
    assert server.read_request().target == "/second"
    server.send(response(body=b"second"))
    assert second.read_response().body == b"second"


def test_a_cancelled_upstream_connection_is_not_used_again(weir, up):
    w = weir(up, threads=1)
    client = w.client()
    client.send(request(target="/1"))
    server = up.accept()
    server.read_request()
    client.close()
    gone_within_bar(server)
    server.try_send(response(body=b"the answer to /1"))
    client = w.client()
    client.send(request(target="/2"))
    second = up.accept()
    assert second.read_request().target == "/2"
    second.send(response(body=b"the answer to /2"))
    assert client.read_response().body == b"the answer to /2"


@pytest.mark.threads
def test_a_hundred_clients_that_leave_cancel_a_hundred_exchanges(weir, serve):
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)

    def never_answer(wire):
        wire.read_request()
        begun.release()
        try:
            wire.read_abort(60)
        finally:
            ended.release()

    w = weir(serve(never_answer), pipeline={"limits": {"concurrency": 200, "connections": 200}})
    clients = [w.client() for _ in range(100)]
    for client in clients:
        client.send(request())
    for _ in clients:
        assert begun.acquire(timeout=scaled(10))
    start = time.monotonic()
    for i, client in enumerate(clients):
        client.reset() if i % 2 else client.close()
    for _ in clients:
        assert ended.acquire(timeout=scaled(10))
    assert time.monotonic() - start < scaled(BAR + 1)
    at_rest(w)
