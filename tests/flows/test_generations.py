"""Limits hold on the sum of all gateways, the old ones that are still finishing included."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from harness.env import AT_ONCE, scaled, wait_for
from harness.h2_upstream import H2Server
from harness.traffic import Traffic
from harness.upstream import answering
from harness.weir import toml
from harness.wire import request, response

sys.path.append(str(Path(__file__).resolve().parents[2] / "load"))

from one_connection import OneConnection  # noqa: E402

QUEUE = {"size": 100, "max_wait": "30s"}
QUIET_S = 0.5  # long enough for what must not happen to happen


def reload(w, config=None, number=signal.SIGHUP):
    """Writes @config, if there is one, and waits until another gateway serves."""
    old = w.gateways()
    if config is not None:
        w.file.write_text(toml(config))
    w.signal(number)
    wait_for("another gateway serves",
             lambda: any(f"gateway {p} serves" in w.log() for p in w.gateways() if p not in old), 15)
    wait_for("it answers", lambda: w.admin("/readyz")[0] == 200)


class Held:
    """An upstream that answers when it is told to."""

    def __init__(self):
        self.release = threading.Semaphore(0)

    def __call__(self, wire):
        while True:
            message = wire.read_request()
            wire.server.enter()
            wire.server.record(message)
            self.release.acquire(timeout=scaled(60))
            wire.server.leave()
            wire.send(response(body=b"held"))


def ask(w):
    client = w.client(timeout=30)
    client.send(request())
    return client


@pytest.mark.parametrize("refuse", ["reset", "close"])
def test_a_bound_of_one_connection_holds_over_reloads_under_load(weir, refuse):
    upstream = OneConnection(refuse)
    try:
        w = weir(f"127.0.0.1:{upstream.port}", pipeline={
            "limits": {"connections": 1}, "queue": QUEUE, "retry": {"attempts": 1}})
        with Traffic(w.port, clients=4) as traffic:
            for _ in range(3):
                n = len(traffic.answered)
                wait_for("there is traffic", lambda n=n: len(traffic.answered) > n + 10)
                reload(w)
        traffic.expect_no_failure()
        assert upstream.counts.refused == 0
        assert upstream.counts.open_max == 1
        wait_for("one gateway is left", lambda: len(w.gateways()) == 1)
    finally:
        upstream.stop()


def test_a_bound_of_one_http2_connection_holds_over_reloads_under_load(weir):
    up = H2Server()
    try:
        w = weir(up, pipeline={"protocol": "http2", "limits": {"connections": 1}, "queue": QUEUE})
        with Traffic(w.port, clients=4) as traffic:
            for _ in range(3):
                n = len(traffic.answered)
                wait_for("there is traffic", lambda n=n: len(traffic.answered) > n + 50)
                reload(w)
        traffic.expect_no_failure()
        assert up.most_open == 1
        wait_for("one gateway is left", lambda: len(w.gateways()) == 1)
    finally:
        up.close()
    up.check()


def test_an_idle_connection_of_an_old_gateway_makes_room(weir, serve):
    up = serve(answering())
    w = weir(up, pipeline={"limits": {"connections": 1}, "queue": QUEUE})
    kept = w.client()
    kept.send(request())
    kept.read_response()
    reload(w)
    assert len(w.gateways()) == 2 and up.open == 1
    assert w.metrics().sum("weir_endpoint_connections") == 1  # of the old one, but it counts
    start = time.monotonic()
    assert w.exchange(request()).status == 200
    assert time.monotonic() - start < scaled(AT_ONCE)
    kept.send(request())  # and back
    assert kept.read_response().status == 200
    assert up.most_open == 1 and up.accepted >= 3


def test_an_idle_http2_connection_of_an_old_gateway_makes_room(weir):
    up = H2Server()
    try:
        w = weir(up, pipeline={"protocol": "http2", "limits": {"connections": 1}, "queue": QUEUE}, threads=1)
        kept = w.client()
        kept.send(request())
        assert kept.read_response().status == 200
        reload(w)
        assert len(w.gateways()) == 2
        start = time.monotonic()
        assert w.exchange(request()).status == 200
        assert time.monotonic() - start < scaled(AT_ONCE)
        kept.send(request())
        assert kept.read_response().status == 200
        assert up.most_open == 1
    finally:
        up.close()
    up.check()


@pytest.mark.threads
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2], ids=["reload", "upgrade"])
def test_concurrency_holds_on_the_sum(weir, serve, number):
    held = Held()
    up = serve(held)
    w = weir(up, pipeline={"limits": {"concurrency": 2}, "queue": QUEUE})
    old = [ask(w), ask(w)]
    up.await_requests(2)
    reload(w, number=number)
    assert w.metrics().sum("weir_pipeline_inflight") == 2
    new = [ask(w), ask(w)]
    wait_for("they are in line", lambda: w.metrics().sum("weir_pipeline_queue_length") == 2)
    assert new[0].is_quiet(QUIET_S) and len(up.requests) == 2
    held.release.release()
    up.await_requests(3)
    assert new[1].is_quiet(QUIET_S) and len(up.requests) == 3
    for _ in range(3):
        held.release.release()
    for client in old + new:
        assert client.read_response().body == b"held"
    assert up.most_busy == 2
    wait_for("one gateway is left", lambda: len(w.gateways()) == 1)


@pytest.mark.threads
def test_concurrency_holds_on_the_sum_under_load(weir, serve):
    up = serve(answering(pause=0.01))
    w = weir(up, pipeline={"limits": {"concurrency": 3}, "queue": QUEUE})
    with Traffic(w.port, clients=12) as traffic:
        for _ in range(3):
            n = len(traffic.answered)
            wait_for("there is traffic", lambda n=n: len(traffic.answered) > n + 50)
            reload(w)
    traffic.expect_no_failure()
    assert up.most_busy == 3


def test_each_gateway_has_its_own_limit_for_the_sum(weir, serve):
    held = Held()
    up = serve(held)
    w = weir(up, pipeline={"limits": {"concurrency": 2}, "queue": QUEUE})
    clients = [ask(w), ask(w)]
    up.await_requests(2)
    w.config["pipeline"][0]["limits"] = {"concurrency": 3}
    reload(w, w.config)
    clients += [ask(w), ask(w)]
    up.await_requests(3)
    assert w.metrics().sum("weir_pipeline_queue_length") == 1
    for _ in range(4):
        held.release.release()
    for client in clients:
        assert client.read_response().status == 200
    assert up.most_busy == 3


@pytest.mark.parametrize("is_old", [True, False])
def test_what_a_killed_gateway_had_is_free_again(weir, serve, is_old):
    held = Held()
    up = serve(held)
    w = weir(up, pipeline={"limits": {"concurrency": 2, "connections": 2}, "queue": QUEUE,
                           "retry": {"attempts": 1}})
    ask(w)
    ask(w)
    up.await_requests(2)
    victim = w.gateway
    if is_old:
        reload(w)
        late = [ask(w), ask(w)]
        wait_for("they are in line", lambda: w.metrics().sum("weir_pipeline_queue_length") == 2)
        assert len(up.requests) == 2
    os.kill(victim, signal.SIGKILL)
    if not is_old:
        late = [ask(w), ask(w)]
    up.await_requests(4)
    for _ in range(4):
        held.release.release()
    for client in late:
        assert client.read_response().status == 200


def test_limits_beyond_the_table_are_each_gateways_own(weir, serve):
    up = serve(answering())
    w = weir(up)
    more = [{"name": f"p{i}", "endpoints": [up.endpoint]} for i in range(400)]
    config = dict(w.config, pipeline=w.config["pipeline"] + more)
    reload(w, config)
    assert w.log().count("counted by each gateway for itself") == 1
    assert w.exchange(request()).status == 200
    reload(w, dict(w.config))
    wait_for("one gateway is left", lambda: len(w.gateways()) == 1)
    reload(w)
    assert w.log().count("counted by each gateway for itself") == 1
