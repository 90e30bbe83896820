"""Further tries: on what the upstream says, and within a budget. What may have been done is not done twice."""

import itertools
import threading
import time

import pytest
from h2.errors import ErrorCodes
from harness.env import AT_ONCE, free_port, scaled, wait_for
from harness.http2 import Http2Client
from harness.replies import expect_problem
from harness.upstream import answering
from harness.wire import request, response

pytestmark = pytest.mark.timeout(120)

GRPC = [("content-type", "application/grpc")]


@pytest.fixture
def weir(weir):
    """The upstreams here fail a lot, and are to be asked all the same."""
    def make(*upstreams, pipeline=None, **options):
        off = {"hold": 0, "breaker": {"consecutive_failures": 0, "failure_share": 0}}
        return weir(*upstreams, pipeline={**off, **(pipeline or {})}, **options)

    return make


def failing_first(n, failure, serve, ok=b"second"):
    """An upstream whose first @n answers are @failure."""
    tries = itertools.count()
    return serve(answering(lambda message: failure if next(tries) < n else response(body=ok)))


def retries(w, result):
    return w.metrics().sum("weir_pipeline_retries_total", pipeline="up", result=result)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_listed_status_is_tried_again(weir, serve, status):
    upstream = failing_first(1, response(status, body=b"not now"), serve)
    w = weir(upstream, pipeline={"retry": {"on": [str(status)]}})
    assert w.exchange(request()).body == b"second"
    w.await_metric("weir_pipeline_retries_total", 1, result="ok")


def test_a_status_that_is_not_listed_is_an_answer(weir, serve):
    upstream = failing_first(1, response(503, body=b"not now"), serve)
    w = weir(upstream, pipeline={"retry": {"on": ["502", "504"]}})
    reply = w.exchange(request())
    assert (reply.status, reply.body) == (503, b"not now")


def test_the_last_try_is_the_answer(weir, serve):
    """As the upstream has given it."""
    tries = itertools.count(1)
    upstream = serve(answering(lambda m: response(503, body=b"try %d" % next(tries))))
    w = weir(upstream, pipeline={"retry": {"attempts": 3, "on": ["503"]}})
    reply = w.exchange(request())
    assert (reply.status, reply.body) == (503, b"try 3")
    w.await_metric("weir_pipeline_retries_total", 2, result="failed")


@pytest.mark.parametrize("after, tries", [("0", 2), ("1", 1), ("Fri, 31 Dec 1999 23:59:59 GMT", 1)])
def test_what_the_upstream_says_of_coming_again_is_heeded(weir, serve, after, tries):
    upstream = serve(answering(response(503, fields=[f"Retry-After: {after}"])))
    w = weir(upstream, pipeline={"retry": {"on": ["503"]}})
    reply = w.exchange(request())
    assert (reply.status, reply.fields.get("retry-after")) == (503, after)
    assert len(upstream.requests) == tries


def test_a_post_is_not_repeated(weir, serve):
    upstream = failing_first(1, response(503), serve)
    w = weir(upstream, pipeline={"retry": {"on": ["reset", "503"]}})
    assert w.exchange(request("POST", body=b"pay")).status == 503
    assert len(upstream.requests) == 1


def test_a_post_of_an_idempotent_route_is(weir, serve):
    upstream = failing_first(1, response(503), serve)
    w = weir(upstream, pipeline={"retry": {"on": ["503"]}}, route={"idempotent": True})
    assert w.exchange(request("POST", body=b"look this up")).body == b"second"
    assert [m.body for m in upstream.requests] == [b"look this up"] * 2


def test_content_that_cannot_be_said_again_is_not_repeated(weir, serve):
    upstream = failing_first(1, response(503), serve)
    w = weir(upstream, pipeline={"retry": {"on": ["503"]}})
    assert w.exchange(request("PUT", body=b"x" * 100_000)).status == 503
    assert w.exchange(request("PUT", body=b"x" * 100_000)).status == 200
    assert len(upstream.requests) == 2


def test_content_that_can_is(weir, serve):
    upstream = failing_first(1, response(503), serve)
    w = weir(upstream, pipeline={"retry": {"on": ["503"]}})
    body = bytes(range(256)) * 128
    assert w.exchange(request("PUT", body=body)).status == 200
    assert [m.body for m in upstream.requests] == [body] * 2


def test_another_endpoint_is_tried(weir, serve):
    bad = serve(answering(response(503)))
    w = weir(bad, serve(), pipeline={"retry": {"on": ["503"]}})
    assert {w.exchange(request()).status for _ in range(20)} == {200}
    assert bad.requests


# Time.


def test_a_try_that_takes_too_long_is_given_up_for_another(weir, serve):
    tries = itertools.count()

    def slow_first(wire):
        while True:
            wire.server.record(wire.read_request())
            if next(tries) == 0:
                time.sleep(scaled(2 * AT_ONCE))
            wire.send(response(body=b"quick"))

    w = weir(serve(slow_first), pipeline={"retry": {"on": ["timeout"], "timeout": "200ms"}})
    start = time.monotonic()
    assert w.exchange(request()).body == b"quick"
    assert 0.2 <= time.monotonic() - start < scaled(AT_ONCE)


def test_the_last_try_has_all_the_time_there_is(weir, serve):
    """It is given up for another try only."""
    upstream = serve(answering(response(body=b"slow"), pause=0.5))
    w = weir(upstream, pipeline={"retry": {"on": ["timeout"], "timeout": "100ms"}})
    assert w.exchange(request()).body == b"slow"
    assert len(upstream.requests) == 2
    assert w.exchange(request("POST", body=b"once")).body == b"slow"
    assert len(upstream.requests) == 3


def test_the_backoff_is_bounded(weir, serve):
    upstream = serve(answering(response(503)))
    w = weir(upstream, pipeline={"retry": {"attempts": 10, "on": ["503"]}})
    start = time.monotonic()
    assert w.exchange(request()).status == 503
    assert time.monotonic() - start < scaled(9 * 0.25 + 0.5)
    assert len(upstream.requests) == 10


# The budget.


@pytest.mark.threads
def test_a_storm_adds_no_more_than_the_budget_has(weir, serve):
    upstream = serve(answering(response(503)))
    w = weir(upstream, pipeline={"retry": {"attempts": 4, "on": ["503"]}})
    asked = 0
    lock = threading.Lock()

    def run():
        nonlocal asked
        with w.client(timeout=30) as client:
            for _ in range(100):
                client.send(request())
                assert client.read_response().status == 503
                with lock:
                    asked += 1

    threads = [threading.Thread(target=run) for _ in range(8)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    windows = 1 + (time.monotonic() - start) // 10
    assert asked == 800
    assert len(upstream.requests) <= asked * 1.2 + 30 * windows
    assert len(upstream.requests) >= asked + 30, "but what there is of it is used"
    wait_for("it is counted", lambda: w.metrics().sum("weir_pipeline_retries_over_budget_total") > 0)
    assert retries(w, "failed") == len(upstream.requests) - asked


def test_what_is_left_of_the_budget_is_told(weir, serve):
    w = weir(failing_first(1, response(503), serve), threads=1, pipeline={"retry": {"on": ["503"]}})
    assert w.metrics().sum("weir_pipeline_retry_budget_remaining", pipeline="up") == 30
    assert w.exchange(request()).status == 200
    w.await_metric("weir_pipeline_retry_budget_remaining", 29, pipeline="up")


# gRPC.


def over_grpc(weir, server, **pipeline):
    return weir(server, listener={"protocol": "http2"}, pipeline={"protocol": "http2", **pipeline},
                route={"idempotent": True})


def call(w):
    client = Http2Client(w.port)
    try:
        return client.response(client.ask("POST", "/a.B/C", [("te", "trailers"), *GRPC], b"\0\0\0\0\2hi"))
    finally:
        client.sock.close()


@pytest.mark.parametrize("status, tries", [("14", 2), ("13", 1)])
@pytest.mark.parametrize("pushback, may", [(None, True), ("10", True), ("-1", False), ("60000", False)])
def test_unavailable_without_an_answer_is_a_503(weir, h2_serve, status, tries, pushback, may):
    said = [("grpc-retry-pushback-ms", pushback)] if pushback else []

    def serve(stream, event):
        if event == "end":
            stream.respond(fields=[*GRPC, ("grpc-status", status), *said])

    upstream = h2_serve(serve)
    w = over_grpc(weir, upstream, retry={"on": ["503"]})
    assert call(w).fields.get("grpc-status") == status
    assert len(upstream.streams) == (tries if may else 1)


def test_a_call_that_has_begun_to_be_answered_is_not_repeated(weir, h2_serve):
    def serve(stream, event):
        if event == "end":
            stream.respond(fields=GRPC, body=b"\0\0\0\0\2hi", trailers=[("grpc-status", "14")])

    upstream = h2_serve(serve)
    w = over_grpc(weir, upstream, retry={"on": ["503", "reset"]})
    assert call(w).trailers.get("grpc-status") == "14"
    assert len(upstream.streams) == 1


def test_a_reset_is_repeated_where_it_may_be(weir, h2_serve):
    tries = itertools.count()

    def serve(stream, event):
        if event == "end" and next(tries) == 0:
            stream.reset(ErrorCodes.INTERNAL_ERROR)
        elif event == "end":
            stream.respond(fields=[*GRPC, ("grpc-status", "0")])

    upstream = h2_serve(serve)
    w = over_grpc(weir, upstream, retry={"on": ["reset"]})
    assert call(w).fields.get("grpc-status") == "0"
    assert [r.body for r in upstream.streams] == [b"\0\0\0\0\2hi"] * 2


def test_never_sent_is_tried_elsewhere_whatever_the_budget(weir, serve):
    w = weir(f"127.0.0.1:{free_port()}", serve(), pipeline={"retry": {"budget": 0.01}})
    for i in range(60):
        assert w.exchange(request("POST", f"/{i}", body=b"x")).status == 200
    assert w.metrics().sum("weir_pipeline_retries_over_budget_total") == 0


def test_a_failure_that_is_no_reason_is_told(weir, up):
    w = weir(up, threads=1, pipeline={"retry": {"on": ["503"]}})
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.reset()
    expect_problem(client.read_response(), 502, pipeline="up")
    assert not up.has_connection(0.2)
