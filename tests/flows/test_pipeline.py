"""Pipelines: limits that hold whatever the number of loops, a queue with an end, endpoints by
address and by name, and what happens when they are not there."""

import socket
import threading
import time

import pytest
from harness.env import AT_ONCE, free_port, has_ipv6, scaled, wait_for
from harness.replies import expect_problem
from harness.upstream import answering, fill_backlog
from harness.wire import request, response

BUSY = {"connection_limit_reached", "destination_unavailable", "http_request_denied"}


def flood(w, n, data=None, timeout=30):
    """@n requests at once, each on a connection of its own: their responses."""
    answers, failures = [], []

    def one():
        try:
            with w.client(timeout=timeout) as client:
                client.send(data or request())
                answers.append(client.read_response())
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    threads = [threading.Thread(target=one) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return answers


# Limits.


@pytest.mark.threads
@pytest.mark.parametrize("limit", [1, 3])
def test_concurrency_holds_over_all_loops(weir, serve, limit):
    upstream = serve(answering(pause=0.02))
    w = weir(
        upstream,
        threads=2,
        pipeline={"limits": {"concurrency": limit}, "queue": {"size": 100, "max_wait": "30s"}},
    )
    answers = flood(w, 40)
    assert [a.status for a in answers] == [200] * 40
    assert upstream.most_busy == limit, "it is reached, and never exceeded"


@pytest.mark.threads
@pytest.mark.parametrize("limit", [1, 2])
def test_connections_hold_over_all_loops(weir, serve, limit):
    """Also where there are more loops than connections."""
    upstream = serve(answering(pause=0.01))
    w = weir(
        upstream,
        threads=3,
        pipeline={
            "limits": {"concurrency": 50, "connections": limit},
            "queue": {"size": 100, "max_wait": "30s"},
        },
    )
    answers = flood(w, 40)
    assert [a.status for a in answers] == [200] * 40
    assert upstream.most_open <= limit


@pytest.mark.threads
def test_a_connection_is_counted_until_it_is_closed(weir, serve):
    """An upstream that closes after each answer: the next dial waits for the close."""

    def once(wire):
        wire.read_request()
        wire.send(response(fields=["Connection: close"], body=b"once"))
        wire.read_to_end()  # weir's close

    upstream = serve(once)
    w = weir(upstream, pipeline={"limits": {"connections": 1}, "queue": {"size": 50, "max_wait": "30s"}})
    assert [a.body for a in flood(w, 20)] == [b"once"] * 20
    assert upstream.most_open == 1
    wait_for("none is left", lambda: w.metrics().sum("weir_endpoint_connections") == 0)


def test_the_number_of_connections_is_told(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    wait_for("1 connection", lambda: w.metrics().sum("weir_endpoint_connections", pipeline="up") == 1)
    assert w.metrics().sum("weir_pipeline_inflight", pipeline="up") == 1
    server.send(response(fields=["Connection: close"]))
    client.read_response()
    server.expect_end()
    server.close()
    wait_for("no connection", lambda: w.metrics().sum("weir_endpoint_connections", pipeline="up") == 0)
    w.await_metric("weir_pipeline_inflight", 0, pipeline="up")


# The queue.


def occupied(weir, up, **queue):
    """A pipeline of one place, which is taken."""
    w = weir(up, pipeline={"limits": {"concurrency": 1, "connections": 1}, "queue": queue})
    client = w.client()
    client.send(request(target="/first"))
    server = up.accept()
    server.read_request()
    return w, client, server


def test_a_full_queue_refuses_at_once_and_says_why(weir, up):
    w, first, server = occupied(weir, up, size=2, max_wait="20s")
    waiting = []
    for i in range(2):
        waiting.append(w.client())
        waiting[-1].send(request(target=f"/waiting/{i}"))
        w.await_metric("weir_pipeline_queue_length", i + 1, pipeline="up")
    start = time.monotonic()
    over = w.client()
    over.send(request(target="/over"))
    answer = over.read_response()
    assert time.monotonic() - start < scaled(AT_ONCE)
    problem = expect_problem(answer, 503, pipeline="up", errors=BUSY)
    assert "queue" in problem["detail"].lower()
    w.await_metric("weir_rejected_total", 1, pipeline="up")
    over.send(request(target="/over/again"))  # a refusal is no reason to lose the connection
    assert over.read_response().status == 503
    server.send(response(body=b"first"))
    assert first.read_response().body == b"first"
    for i in range(2):
        got = server.read_request()
        server.send(response(body=got.target))
    assert {c.read_response().body for c in waiting} == {b"/waiting/0", b"/waiting/1"}


def test_a_queue_of_no_places_refuses_at_once(weir, up):
    w, first, server = occupied(weir, up, size=0, max_wait="20s")
    over = w.client()
    over.send(request())
    expect_problem(over.read_response(), 503, pipeline="up", errors=BUSY)


def test_waiting_has_an_end(weir, up):
    w, first, server = occupied(weir, up, size=8, max_wait="300ms")
    start = time.monotonic()
    client = w.client()
    client.send(request())
    expect_problem(client.read_response(), 503, pipeline="up", errors=BUSY)
    took = time.monotonic() - start
    assert 0.25 < took < scaled(3)
    assert w.metrics().sum("weir_pipeline_queue_length") == 0


def test_the_deadline_counts_the_wait(weir, up):
    w = weir(
        up,
        pipeline={
            "deadline": "400ms",
            "limits": {"concurrency": 1, "connections": 1},
            "queue": {"size": 8, "max_wait": "20s"},
        },
        routes=[
            {"name": "long", "listener": "http", "match": {"path": "/first"}, "pipeline": "up", "deadline": "20s"},
            {"name": "all", "listener": "http", "match": {"path": "/"}, "pipeline": "up"},
        ],
    )
    first = w.client()
    first.send(request(target="/first"))
    server = up.accept()
    server.read_request()
    client = w.client()
    client.send(request())
    assert client.read_response().status in (503, 504)
    server.send(response(body=b"first"))
    assert first.read_response().body == b"first"


def test_first_come_first_served(weir, up):
    w, first, server = occupied(weir, up, size=8, max_wait="20s")
    waiting = []
    for i in range(4):
        waiting.append(w.client())
        waiting[-1].send(request(target=f"/{i}"))
        w.await_metric("weir_pipeline_queue_length", i + 1, pipeline="up")
    server.send(response())
    for i in range(4):
        assert server.read_request().target == f"/{i}"
        server.send(response(body=f"{i}"))
        assert waiting[i].read_response().body == f"{i}".encode()


def test_a_client_that_stalls_in_mid_upload_gives_its_place_back(weir, up):
    w = weir(
        up,
        listener={"timeouts": {"body": "400ms"}},
        pipeline={
            "limits": {"concurrency": 1, "connections": 1},
            "queue": {"size": 8, "max_wait": "20s"},
        },
    )
    stalled = w.client()
    stalled.send(request("POST", fields=["Content-Length: 10"]), b"12345")
    server = up.accept()
    server.read_request_head()
    client = w.client()
    client.send(request(target="/next"))
    server.read_abort()
    server.close()
    server = up.accept()
    assert server.read_request().target == "/next"
    server.send(response())
    assert client.read_response().status == 200


# Retry.


def warm(weir, up, **options):
    """A connection to the upstream that is idle: weir, the client, the upstream's wire."""
    w = weir(up, threads=1, **options)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response())
    client.read_response()
    return w, client, server


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_the_keepalive_race_is_retried_where_that_is_safe(weir, up, method):
    """The upstream closes an idle connection just as a request goes out on it."""
    w, client, server = warm(weir, up)
    client.send(request(method, "/again"))
    server.read_request()
    server.close()  # without a byte of an answer
    second = up.accept()
    got = second.read_request()
    assert (got.method, got.target) == (method, "/again")
    second.send(response(body=b"" if method == "HEAD" else b"second"))
    assert client.read_response(method).status == 200
    w.await_metric("weir_pipeline_retries_total", 1, pipeline="up")


def test_the_keepalive_race_is_retried_after_a_reset_too(weir, up):
    w, client, server = warm(weir, up)
    client.send(request(target="/again"))
    server.read_request()
    server.reset()
    second = up.accept()
    assert second.read_request().target == "/again"
    second.send(response(body=b"second"))
    assert client.read_response().body == b"second"


@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPPATCH"])
def test_what_may_have_been_done_is_not_done_twice(weir, up, method):
    w, client, server = warm(weir, up)
    client.send(request(method, "/pay", body=b"100"))
    assert server.read_request().body == b"100"
    server.close()
    expect_problem(client.read_response(), 502, pipeline="up")
    assert not up.has_connection(0.2)


def test_a_connection_that_was_closed_before_is_not_tried_at_all(weir, up):
    """Then even a POST is safe: nothing of it was sent."""
    w, client, server = warm(weir, up)
    server.close()
    wait_for("weir has seen the end", lambda: w.metrics().sum("weir_endpoint_connections") == 0)
    client.send(request("POST", "/pay", body=b"100"))
    second = up.accept()
    assert second.read_request().body == b"100"
    second.send(response(body=b"paid"))
    assert client.read_response().body == b"paid"


def test_an_answer_that_has_begun_is_not_retried(weir, up):
    w, client, server = warm(weir, up)
    client.send(request(target="/again"))
    server.read_request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Len")
    server.close()
    expect_problem(client.read_response(), 502, pipeline="up")


def test_a_fresh_connection_that_fails_is_not_the_keepalive_race(weir, up):
    w = weir(up, threads=1)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.close()
    if up.has_connection(0.5):  # retried once at the most, where that is configured
        up.accept().close()
    expect_problem(client.read_response(), 502, pipeline="up")
    assert not up.has_connection(0.2)


@pytest.mark.threads
def test_an_upstream_that_closes_at_random_loses_no_get(weir, serve):
    """Keepalive of 1 to 5 requests, closed without notice."""
    import random

    def moody(wire):
        for _ in range(random.randrange(1, 6)):
            wire.read_request()
            wire.send(response(body=b"ok"))

    w = weir(serve(moody), pipeline={"retry": {"attempts": 3}})

    def run(failures):
        try:
            with w.client() as client:
                for _ in range(50):
                    client.send(request())
                    assert client.read_response().status == 200
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    failures = []
    threads = [threading.Thread(target=run, args=(failures,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


# Endpoints.


def test_a_refused_dial_is_told(weir):
    w = weir(f"127.0.0.1:{free_port()}", pipeline={"deadline": "5s", "hold": 0})
    client = w.client()
    client.send(request())
    expect_problem(
        client.read_response(), 502, 503, pipeline="up", errors={"connection_refused", "destination_unavailable"}
    )
    wait_for(
        "it is counted", lambda: w.metrics().sum("weir_endpoint_connects_total", result="refused") >= 1
    )


def test_a_unix_socket_that_is_not_there_is_told(weir, tmp_path):
    w = weir(f"unix:{tmp_path}/nobody.sock", pipeline={"deadline": "5s", "hold": 0})
    client = w.client()
    client.send(request())
    expect_problem(client.read_response(), 502, 503, pipeline="up")


def test_the_second_endpoint_is_used_when_the_first_refuses(weir, serve):
    upstream = serve()
    w = weir(f"127.0.0.1:{free_port()}", upstream, pipeline={"retry": {"attempts": 2}})
    for _ in range(20):
        with w.client() as client:
            client.send(request("POST", body=b"never sent to the first"))
            assert client.read_response().status == 200


def test_dials_back_off(weir, serve):
    """While an endpoint refuses, requests do not each dial it."""
    dead = free_port()
    w = weir(f"127.0.0.1:{dead}", serve(), pipeline={"retry": {"attempts": 2}})
    with w.client() as client:
        for _ in range(300):
            client.send(request(fields=["Connection: keep-alive"]))
            assert client.read_response().status == 200
    refused = w.metrics().sum("weir_endpoint_connects_total", result="refused")
    assert refused <= 60, f"{refused:.0f} dials to a dead endpoint for 300 requests"


def test_an_endpoint_that_comes_back_is_used_again(weir, serve):
    port = free_port()
    w = weir(f"127.0.0.1:{port}", pipeline={"deadline": "5s", "hold": 0})
    client = w.client()
    client.send(request())
    assert client.read_response().status in (502, 503)
    upstream = serve(port=port)

    def works():
        client.send(request())
        return client.read_response().status == 200

    wait_for("it is found again", works)
    assert upstream.accepted >= 1


def test_dials_under_way_are_bounded(weir):
    with socket.socket() as blackhole:
        fillers = fill_backlog(blackhole)
        w = weir(
            f"127.0.0.1:{blackhole.getsockname()[1]}",
            pipeline={
                "limits": {"dials": 2, "connections": 50, "concurrency": 50},
                "timeouts": {"dial": "10s"},
                "deadline": "1s",
            },
        )
        before = w.fds()
        clients = [w.client() for _ in range(20)]
        for client in clients:
            client.send(request())
        wait_for("all have arrived", lambda: w.metrics().sum("weir_exchanges_active") == 20)
        assert w.fds() - before <= 20 + 2 + 3  # and a metrics scrape
        for client in clients:
            assert client.read_response().status in (502, 503, 504)
        for filler in fillers:
            filler.close()


def test_a_hanging_endpoint_does_not_stop_its_neighbour(weir, serve):
    with socket.socket() as blackhole:
        fillers = fill_backlog(blackhole)
        w = weir(
            f"127.0.0.1:{blackhole.getsockname()[1]}",
            serve(),
            pipeline={"timeouts": {"dial": "300ms"}, "deadline": "10s", "retry": {"attempts": 2, "on": ["connect"]}},
        )
        for answer in flood(w, 20):
            assert answer.status == 200
        for filler in fillers:
            filler.close()


@pytest.mark.threads
def test_the_less_busy_endpoint_gets_more(weir, serve):
    """Least in flight of two choices: a slow server gets less than its share."""
    slow, fast = serve(answering(pause=0.2)), serve(answering(pause=0.005))
    w = weir(slow, fast, pipeline={"limits": {"concurrency": 64, "connections": 64}})
    stop = time.monotonic() + 1.5

    def run():
        with w.client() as client:
            while time.monotonic() < stop:
                client.send(request())
                assert client.read_response().status == 200

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fast.requests) > 2 * len(slow.requests)
    assert slow.requests, "but it is not forgotten"


def test_equal_endpoints_share_the_work(weir, serve):
    a, b = serve(answering(pause=0.005)), serve(answering(pause=0.005))
    w = weir(a, b)
    flood(w, 60)
    assert min(len(a.requests), len(b.requests)) >= 10


def test_a_pipeline_in_trouble_is_no_trouble_for_another(weir, up, serve):
    w = weir(
        config=lambda d: {
            "server": {"threads": 2, "drain": {"shutdown": "1s"}},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
            "listener": [{"name": "http", "listen": f"127.0.0.1:{free_port()}"}],
            "pipeline": [
                {"name": "stuck", "endpoints": [up.endpoint], "limits": {"concurrency": 2}},
                {"name": "fine", "endpoints": [serve().endpoint]},
            ],
            "route": [
                {"match": {"path": "/stuck"}, "pipeline": "stuck"},
                {"match": {"path": "/fine"}, "pipeline": "fine"},
            ],
        }
    )
    stuck = [w.client() for _ in range(20)]
    for client in stuck:
        client.send(request(target="/stuck"))
    wait_for("all have arrived", lambda: w.metrics().sum("weir_exchanges_active") == 20)
    for answer in flood(w, 20, request(target="/fine")):
        assert answer.status == 200


# Names.


def test_a_name_is_resolved_and_dialled(weir, names, serve):
    upstream = serve(address="127.0.0.2")
    names.records["engine.test"] = ["127.0.0.2"]
    w = weir(f"engine.test:{upstream.port}", server={"resolver": names.address})
    assert flood(w, 3)[0].status == 200
    assert ("engine.test", 1) in names.queries


def test_a_name_with_an_ipv6_address(weir, names, serve):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    upstream = serve(address="::1")
    names.records["engine.test"] = ["::1"]
    w = weir(f"engine.test:{upstream.port}", server={"resolver": names.address})
    assert flood(w, 3)[0].status == 200


def test_all_addresses_of_a_name_are_used(weir, names, serve):
    a = serve(address="127.0.0.2")
    b = serve(address="127.0.0.3", port=a.port)
    names.records["engine.test"] = ["127.0.0.2", "127.0.0.3"]
    w = weir(f"engine.test:{a.port}", server={"resolver": names.address})
    for _ in range(10):
        flood(w, 6)
    assert a.requests or a.accepted
    assert b.requests or b.accepted


def test_traffic_moves_when_a_name_does(weir, names, serve):
    a = serve(address="127.0.0.2")
    b = serve(address="127.0.0.3", port=a.port)
    names.records["engine.test"] = ["127.0.0.2"]
    w = weir(f"engine.test:{a.port}", server={"resolver": names.address, "resolve_interval": "200ms"})
    flood(w, 2)
    assert len(a.requests) == 2 and not b.requests
    names.records["engine.test"] = ["127.0.0.3"]

    def moved():
        before = len(a.requests)
        flood(w, 1)
        return len(a.requests) == before

    wait_for("requests go to the new address", moved)
    before = len(a.requests)
    flood(w, 5)
    assert len(a.requests) == before


def test_a_name_that_stops_resolving_keeps_its_last_addresses(weir, names, serve):
    upstream = serve(address="127.0.0.2")
    names.records["engine.test"] = ["127.0.0.2"]
    w = weir(f"engine.test:{upstream.port}", server={"resolver": names.address, "resolve_interval": "200ms"})
    flood(w, 1)
    del names.records["engine.test"]
    asked = len(names.queries)
    wait_for("weir has asked again and again", lambda: len(names.queries) >= asked + 4)
    assert all(a.status == 200 for a in flood(w, 5))


def test_a_name_server_that_falls_silent_blocks_nobody(weir, names, serve):
    upstream = serve(address="127.0.0.2")
    names.records["engine.test"] = ["127.0.0.2"]
    w = weir(f"engine.test:{upstream.port}", server={"resolver": names.address, "resolve_interval": "200ms"})
    flood(w, 1)
    names.is_silent = True
    asked = len(names.queries)
    wait_for("weir has asked in vain", lambda: len(names.queries) > asked)
    start = time.monotonic()
    assert all(a.status == 200 for a in flood(w, 5))
    assert time.monotonic() - start < scaled(2)


# Admission.


def test_connections_beyond_the_limit_wait_or_are_told(weir, serve):
    w = weir(serve(), admission={"max_connections": 8})
    held = [w.client() for _ in range(8)]
    for client in held:
        client.send(request())
        assert client.read_response().status == 200
    over = w.client()
    over.try_send(request())
    for client in held[:4]:
        client.close()
    try:
        assert over.read_response().status in (200, 503)
    except AssertionError as gone:
        assert "ended" in str(gone) or "reset" in str(gone)
    assert w.metrics().sum("weir_connections_max") == 8
