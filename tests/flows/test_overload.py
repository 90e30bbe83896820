"""When connections, memory or time run short: who is evicted, told to close, refused, let wait."""

import threading

import os
import signal
import time

import pytest
from harness.env import scaled, wait_for
from harness.http2 import Http2Client
from harness.replies import expect_problem
from harness.upstream import answering
from harness.wire import connect, request


def overload(w, action):
    return w.metrics().sum("weir_overload_state", action=action)


def await_overload(w, action, state=1):
    wait_for(f"'{action}' is {state}", lambda: overload(w, action) == state)


def test_at_rest_nothing_is_under_pressure(weir, serve):
    w = weir(serve(answering()))
    assert w.exchange(request()).status == 200
    assert w.metrics().sum("weir_overload_state") == 0
    assert w.metrics().sum("weir_memory_limit_bytes") > 0
    assert w.status()["overload"] == []


@pytest.mark.threads
def test_each_address_has_so_many_connections(weir, serve):
    w = weir(serve(answering()), admission={"max_connections_per_address": 3})
    first = [w.client() for _ in range(3)]
    for client in first:
        client.send(request())
        assert client.read_response().status == 200
    late = w.client()
    late.try_send(request())
    refusal = late.read_response()
    problem = expect_problem(refusal, 503)
    assert problem["type"] == "urn:weir:address_connections"
    assert refusal.fields.get("retry-after") in ("1", "2")
    assert refusal.fields.get("connection") == "close"
    late.expect_end()
    w.await_metric("weir_rejected_total", 1, reason="address_connections")
    first.pop().close()
    wait_for("its place is free", lambda: w.metrics().sum("weir_fds", **{"class": "client"}) == 2)
    again = w.client()
    again.send(request())
    assert again.read_response().status == 200


def test_idle_connections_are_evicted_to_make_room(weir, serve):
    """Who asks is left alone; who idles longest goes first."""
    w = weir(serve(answering()), admission={"max_connections": 20}, threads=1)
    idle = [w.client() for _ in range(17)]
    for client in idle:
        client.send(request())
        assert client.read_response().status == 200
    busy = w.client()

    def ask():
        busy.send(request())
        response = busy.read_response()
        assert response.status == 200
        assert response.fields.get("connection") != "close"
        return w.metrics().sum("weir_evicted_total") >= 2

    wait_for("some were evicted", ask)
    for client in idle[:2]:
        client.expect_end()
    wait_for("'evict' has ended", lambda: overload(w, "evict") == 0 or ask() is None)
    busy.send(request())
    assert busy.read_response().status == 200
    assert w.metrics().sum("weir_evicted_total") < 10, "no more than had to be"


def test_close_to_the_limit_answers_say_close(weir, serve):
    w = weir(serve(answering()), admission={"max_connections": 10}, threads=1)
    clients = [w.client() for _ in range(10)]
    for client in clients:
        client.send(request("POST", "/x", fields=["Content-Length: 1"]))  # and no content
    await_overload(w, "close")
    for client in clients:
        client.send(b"x")
        response = client.read_response()
        assert response.status == 200
        assert response.fields.get("connection") == "close"
        client.expect_end()
    await_overload(w, "close", 0)
    with w.client() as client:
        client.send(request())
        assert client.read_response().fields.get("connection") != "close"


@pytest.mark.threads
def test_ten_times_as_many_clients_as_places_are_all_served(weir, serve):
    """Keepalive clients must not starve those in the backlog."""
    w = weir(serve(answering()), admission={"max_connections": 8})
    served = 0
    clients = [w.client() for _ in range(80)]
    for client in clients:
        client.try_send(request())
    for client in clients:
        assert client.read_response().status == 200
        served += 1
    assert served == 80
    assert w.metrics().sum("weir_listener_accept_errors_total") == 0


ROUTES = [
    {"match": {"path": "/critical"}, "pipeline": "up", "priority": "critical"},
    {"match": {"path": "/background"}, "pipeline": "up", "priority": "background"},
    {"pipeline": "up"},
]


def status_of(w, path):
    with w.client() as client:
        client.try_send(request("GET", path))
        return client.read_response()


def test_without_memory_only_what_is_critical_is_served(weir, serve):
    """The limit is set below what weir has at rest."""
    w = weir(serve(answering()), admission={"memory": "16MiB", "shed_at": {"memory": 0.10}}, threads=1,
             routes=ROUTES)
    await_overload(w, "shed_more")
    wait_for("it accepts nothing", lambda: overload(w, "stop") == 1)
    waiting = w.client()  # it is in the backlog: neither refused nor reset
    waiting.send(request())
    assert waiting.is_quiet(scaled(0.3))
    assert w.admin("/healthz")[0] == 200
    assert set(w.status()["overload"]) == {"evict", "close", "shed", "shed_more", "stop"}
    assert "overload: 'stop' begins" in w.log()


def test_background_is_refused_first(weir, serve):
    """At the last connections, before anything else is."""
    w = weir(serve(answering()), admission={"max_connections": 10, "shed_at": {"fds": 0.90}}, threads=1,
             routes=ROUTES)
    clients = [w.client() for _ in range(9)]
    for client in clients:
        client.send(request("POST", "/x", fields=["Content-Length: 1"]))
    await_overload(w, "shed")
    refused = status_of(w, "/background")
    assert expect_problem(refused, 503)["type"] == "urn:weir:overload_fds"
    assert refused.fields.get("retry-after") in ("1", "2")
    assert status_of(w, "/else").status == 200
    assert status_of(w, "/critical").status == 200
    assert w.metrics().sum("weir_rejected_total", reason="overload_fds") == 1



@pytest.mark.threads
def test_with_all_fds_in_use_none_is_missing(weir, serve):
    """Clients, upstreams and the admin plane, each with as many connections as it may have, and more of all
    who wait: what weir has planned is what there is."""
    release = threading.Event()
    w = weir(serve(answering(pause=release)), pipeline={"limits": {"concurrency": 1000}}, limit_nofile=256)
    places = int(w.metrics().sum("weir_connections_max"))
    clients = [w.client() for _ in range(places + 40)]
    for client in clients:
        client.send(request())
    w.await_metric("weir_fds", places, **{"class": "client"})
    w.await_metric("weir_fds", w.status()["pipelines"][0]["endpoints"][0]["connections_max"],
                   **{"class": "upstream"})
    monitors = [connect(w.admin_port) for _ in range(80)]
    for monitor in monitors:
        monitor.send(request("GET", "/readyz"))
    assert monitors[0].read_response().status == 200
    assert monitors[10].read_response().status == 200
    for monitor in monitors:
        monitor.close()
    assert w.fds() <= 256
    assert w.admin("/healthz")[0] == 200
    release.set()
    for client in clients:
        assert client.read_response().status == 200
    assert w.metrics().sum("weir_listener_accept_errors_total") == 0
    assert "cannot accept" not in w.log()


def test_http2_connections_are_ended_too(weir, serve):
    """One that has been served gets GOAWAY, and its streams finish."""
    w = weir(serve(answering()), listener={"protocol": "auto"}, admission={"max_connections": 10}, threads=1)
    with Http2Client(w.port) as client:
        stream = client.ask("POST", "/x", end=False)
        wait_for("it is there", lambda: w.metrics().sum("weir_exchanges_active") == 1)
        busy = [w.client() for _ in range(9)]
        for one in busy:
            one.send(request("POST", "/x", fields=["Content-Length: 1"]))
        client.await_("GOAWAY", lambda: client.goaways)
        assert not client.is_closed
        client.send(stream, b"x", end=True)
        assert client.response(stream).status == 200
        client.await_end()
    for one in busy:
        one.send(b"x")
        assert one.read_response().status == 200


def test_a_late_loop_sheds(weir, serve):
    w = weir(serve(answering()), admission={"shed_at": {"loop_lag": "100ms"}}, threads=1)
    for _ in range(3):  # each time the next tick falls into the next stop
        os.kill(w.gateway, signal.SIGSTOP)
        time.sleep(0.5)  # that is how late it is to be
        os.kill(w.gateway, signal.SIGCONT)
        time.sleep(0.02)
    wait_for("it says so", lambda: "overload: 'shed_more' begins on loop 0, because of loop_lag" in w.log())
    await_overload(w, "shed_more", 0)
    assert w.exchange(request()).status == 200


def test_a_loop_that_was_held_up_once_serves_what_came_meanwhile(weir, serve):
    w = weir(serve(answering()), admission={"shed_at": {"loop_lag": "100ms"}}, threads=1)
    os.kill(w.gateway, signal.SIGSTOP)
    clients = [w.client() for _ in range(8)]
    for client in clients:
        client.send(request())
    time.sleep(0.5)
    os.kill(w.gateway, signal.SIGCONT)
    assert [client.read_response().status for client in clients] == [200] * 8
    assert w.metrics().sum("weir_overload_state") == 0 and "overload:" not in w.log()
