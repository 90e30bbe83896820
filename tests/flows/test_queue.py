"""A pipeline's queue: who is next, who is refused and why, and the limit that weir finds by itself."""

import json
import threading
import time

import pytest
from harness.env import wait_for
from harness.replies import expect_problem
from harness.upstream import answering
from harness.wire import request, response

ONE = {"concurrency": 1, "connections": 1}


def occupied(weir, up, **more):
    """A pipeline of one place, which is taken: (weir, the client in it, the upstream's side)."""
    w = weir(up, **more)
    client = w.client()
    client.send(request(target="/first"))
    server = up.accept()
    server.read_request()
    return w, client, server


def wait_in_line(w, count, target, fields=(), source=None):
    client = w.client(source=source)
    client.send(request(target=target, fields=list(fields)))
    wait_for(f"{count} wait", lambda: w.metrics().sum("weir_pipeline_queue_length", pipeline="up") == count)
    return client


def served(server, count):
    """Answers what is in flight and then @count more; what those asked for, in order."""
    server.send(response())
    order = []
    for _ in range(count):
        order.append(server.read_request().target)
        server.send(response())
    return order


def routes(*more):
    return [{"name": "all", "listener": "http", "match": {"path": "/"}, "pipeline": "up"}, *more]


def test_a_higher_priority_goes_first(weir, up):
    w, first, server = occupied(weir, up, pipeline={"limits": ONE}, routes=routes(
        *({"name": p, "listener": "http", "match": {"path": f"/{p}"}, "pipeline": "up", "priority": p}
          for p in ("critical", "background"))))
    waiting = [wait_in_line(w, i + 1, target)
               for i, target in enumerate(["/background", "/other", "/critical", "/critical/2"])]
    lengths = w.status()["pipelines"][0]["queued_by_priority"]
    assert lengths == {"critical": 2, "default": 1, "background": 1}
    assert served(server, 4) == ["/critical", "/critical/2", "/other", "/background"]
    assert [c.read_response().status for c in waiting] == [200] * 4


@pytest.mark.parametrize("trust,order", [(["127.0.0.1/32"], ["/c", "/a", "/b"]), ([], ["/a", "/b", "/c"])])
def test_only_a_trusted_client_may_say_its_priority(weir, up, trust, order):
    w, first, server = occupied(weir, up, listener={"trust": trust},
                                pipeline={"limits": ONE, "queue": {"priority_field": "x-priority"}})
    waiting = [wait_in_line(w, 1, "/a"), wait_in_line(w, 2, "/b", ["X-Priority: background"]),
               wait_in_line(w, 3, "/c", ["X-Priority: critical"])]
    assert served(server, 3) == order
    assert [c.read_response().status for c in waiting] == [200] * 3


def test_clients_take_turns(weir, up):
    w, first, server = occupied(weir, up, pipeline={"limits": ONE})
    waiting = [wait_in_line(w, i + 1, f"/{i}", source=source)
               for i, source in enumerate(["127.0.0.2"] * 3 + ["127.0.0.3", "127.0.0.4"])]
    assert served(server, 5) == ["/0", "/3", "/4", "/1", "/2"]
    assert [c.read_response().status for c in waiting] == [200] * 5


def test_who_has_most_waiting_makes_room(weir, up):
    w, first, server = occupied(weir, up, pipeline={"limits": ONE, "queue": {"size": 3}})
    greedy = [wait_in_line(w, i + 1, f"/{i}", source="127.0.0.2") for i in range(3)]
    other = w.client(source="127.0.0.3")
    other.send(request(target="/other"))
    expect_problem(greedy[2].read_response(), 503, pipeline="up")
    late = w.client(source="127.0.0.2")
    late.send(request(target="/late"))
    problem = expect_problem(late.read_response(), 503, pipeline="up")
    assert problem["type"] == "urn:weir:queue_full"
    assert served(server, 3) == ["/0", "/other", "/1"]
    dropped = w.metrics().sum("weir_pipeline_queue_dropped_total", pipeline="up", priority="default")
    assert dropped == 2


def test_turns_may_be_by_a_field_or_not_at_all(weir, up):
    w, first, server = occupied(weir, up, pipeline={"limits": ONE, "queue": {"fair_by": "x-tenant"}})
    waiting = [wait_in_line(w, i + 1, f"/{i}", [f"X-Tenant: {tenant}"]) for i, tenant in enumerate("aab")]
    assert served(server, 3) == ["/0", "/2", "/1"]
    assert [c.read_response().status for c in waiting] == [200] * 3


def test_what_cannot_be_answered_in_time_is_refused_at_once(weir, serve):
    """The engine takes 300 ms, as is known after a few; a call that has 200 ms is not sent while it would wait."""
    engine = serve(answering(pause=0.3))
    w = weir(engine, pipeline={"limits": ONE}, routes=routes(
        {"name": "hasty", "listener": "http", "match": {"path": "/hasty"}, "pipeline": "up", "deadline": "200ms"}))
    with w.client() as client:
        for _ in range(2):
            client.send(request())
            assert client.read_response().status == 200
        client.send(request())
        w.await_metric("weir_pipeline_inflight", 1, pipeline="up")
        with w.client() as hasty:
            hasty.send(request(target="/hasty"))
            problem = expect_problem(hasty.read_response(), 503, pipeline="up")
        assert problem["type"] == "urn:weir:deadline_unmet"
        assert client.read_response().status == 200
    assert all(r.target != "/hasty" for r in engine.requests)


@pytest.mark.threads
def test_overload_is_told_and_ends(weir, serve):
    """Forty clients that ask again and again for one place of 20 ms; what is refused says why and when to come back."""
    engine = serve(answering(pause=0.02))
    w = weir(engine, threads=2, pipeline={"limits": ONE, "queue": {"max_wait": "20s", "target": "20ms"}})
    reasons, answered, is_over = set(), [0], threading.Event()

    def ask():
        with w.client() as client:
            while not is_over.is_set():
                client.send(request())
                answer = client.read_response()
                if answer.status == 200:
                    answered[0] += 1
                else:
                    reasons.add(expect_problem(answer, 503, pipeline="up")["type"])
                    time.sleep(0.02)

    clients = [threading.Thread(target=ask) for _ in range(40)]
    for client in clients:
        client.start()
    try:
        wait_for("overload", lambda: w.status()["pipelines"][0]["queue_state"] == "overloaded")
        wait_for("refusals", lambda: "urn:weir:overloaded" in reasons)
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert answered[0] > 0
    assert reasons <= {"urn:weir:overloaded", "urn:weir:queue_dropped"}
    assert engine.most_busy == 1
    w.await_metric("weir_pipeline_queue_length", 0, pipeline="up")
    with w.client() as client:
        client.send(request())
        assert client.read_response().status == 200


def test_a_limit_that_was_found_survives_a_restart(weir, serve, tmp_path):
    path = tmp_path / "state.json"
    config = {"server": {"state_file": str(path)}, "pipeline": {"limits": {"concurrency": "auto"}}}
    engine = serve(answering())
    w = weir(engine, **config)
    assert w.metrics().sum("weir_pipeline_concurrency_limit", pipeline="up") == 20
    assert w.status()["pipelines"][0]["limit_by"] == "auto"
    w.signal()
    assert w.await_exit() == 0
    state = json.loads(path.read_text())
    assert state["sections"]["limits"] == {"up": 20}
    state["sections"]["limits"]["up"] = 123
    path.write_text(json.dumps(state))
    w = weir(engine, **config)
    assert w.metrics().sum("weir_pipeline_concurrency_limit", pipeline="up") == 123
