"""What a handler costs that fails: its request, and, if too many do, its turn. Also who is answered while
a call is under way: clients that leave, deadlines, a queue that is full."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from concurrent import futures

import grpc
import pytest
from harness.env import VARIANT, scaled, wait_for
from harness.handlers import do, handler, problem, start
from harness.http2 import Http2Client
from harness.wire import request

# Sanitizers catch what the handlers' own traps would.
pytestmark = [pytest.mark.skipif(VARIANT != "release", reason="faults are caught in release builds only"),
              pytest.mark.timeout(120)]

HTTP2 = {"protocol": "http2"}
# Faults of few calls already, and held till somebody lets it out.
TOUCHY = {"fault": {"quarantine_share": 0.5, "min_calls": 4, "window": "60s", "demote": False}, "hold": "1h"}


def crash(w):
    return w.exchange(request(fields=[do("crash")]))


def state(w, name="a"):
    return next(h["state"] for h in w.status()["handlers"] if h["name"] == name)


def bring_in(w):
    for _ in range(4):
        assert crash(w).status == 500
    wait_for("it is in quarantine", lambda: state(w) == "quarantine")


def reset(w, query="name=a", **fields):
    """The status that POST /handler/reset gets."""
    url = f"http://127.0.0.1:{w.admin_port}/handler/reset?{query}"
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                urllib.request.Request(url, method="POST", headers=fields), timeout=scaled(5)) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_crash_costs_its_request(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(fault={"quarantine_share": 0}))
    with w.client() as client:
        client.send(request(fields=[do("crash")]))
        reply = client.read_response()
        assert reply.status == 500
        said = problem(reply)
        assert said["type"] == "urn:weir:handler_fault" and said["handler"] == "a"
        assert said["detail"].startswith("handler 'a'; ")
        client.send(request())
        assert client.read_response().status == 200
        client.send(request(fields=[do("crash", tag="a-response")]))
        assert client.read_response().status == 500
        client.send(request())
        assert client.read_response().status == 200
    assert len(upstream.requests) == 3
    w.await_metric("weir_handler_faults_total", 2, handler="a", kind="segv")
    w.await_metric("weir_handler_calls_total", 2, handler="a", outcome="fault")
    line = w.await_access(1)[0]
    assert (line["status"], line["reason"], line["handler"]) == (500, "handler_fault", "a")


def test_a_hang_is_answered_in_time(weir, serve):
    w = start(weir, serve(), handler(timeout="100ms", fault={"quarantine_share": 0}))
    reply = w.exchange(request(fields=[do("hang")]))
    assert reply.status == 504 and problem(reply)["type"] == "urn:weir:handler_hang"
    assert w.exchange(request()).status == 200
    w.await_metric("weir_handler_calls_total", 1, handler="a", outcome="hang")


def test_the_deadline_and_the_client_do_not_wait_for_a_call(weir, serve):
    w = start(weir, serve(), handler(timeout="2s", fault={"quarantine_share": 0}), route={"deadline": "100ms"})
    reply = w.exchange(request(fields=[do("hang")]))
    assert reply.status == 504 and problem(reply)["type"] == "urn:weir:deadline"
    w = start(weir, serve(), handler(timeout="2s", fault={"quarantine_share": 0}))
    client = w.client()
    client.send(request(fields=[do("hang")]))
    w.await_metric("weir_exchanges_active", 1)
    client.close()
    w.await_metric("weir_exchanges_active", 0)
    with Http2Client(start(weir, serve(), handler(timeout="2s", fault={"quarantine_share": 0}),
                           listener=HTTP2).port) as client:
        client.cancel(client.ask("GET", "/", [("x-do-a", "hang")]))
        assert client.get().status == 200


def test_a_full_queue_is_503(weir, serve):
    w = start(weir, serve(), handler(timeout="2s", queue=1, fault={"quarantine_share": 0}),
              server={"handler_threads": 1})
    busy, waiting = w.client(), w.client()
    busy.send(request(fields=[do("hang")]))
    w.await_metric("weir_exchanges_active", 1)
    waiting.send(request())
    wait_for("one waits", lambda: w.metrics().sum("weir_handler_queue_length", handler="a") == 1)
    reply = w.exchange(request())
    assert reply.status == 503 and problem(reply)["type"] == "urn:weir:handler_full"
    assert problem(reply)["handler"] == "a" and reply.fields.get("retry-after")
    w.await_metric("weir_handler_calls_total", 1, handler="a", outcome="full")
    waiting.close()
    busy.close()


def test_grpc_clients_are_told_in_trailers(weir):
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    upstream = type("Upstream", (), {"endpoint": f"127.0.0.1:{port}"})
    w = start(weir, upstream, handler(timeout="100ms", **TOUCHY), listener=HTTP2, pipeline=HTTP2)
    with grpc.insecure_channel(f"127.0.0.1:{w.port}") as channel:
        def told(command):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/weir.test.Echo/Echo")(b"", timeout=scaled(10), metadata=(("x-do-a", command),))
            assert "handler 'a'" in caught.value.details()
            return caught.value.code()

        assert [told("crash"), told("hang"), told("crash"), told("crash")] == [
            grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL,
            grpc.StatusCode.INTERNAL]
        wait_for("it is in quarantine", lambda: state(w) == "quarantine")
        assert told("show") == grpc.StatusCode.UNAVAILABLE
    server.stop(None).wait()


# Quarantine.


def test_a_share_of_faults_brings_it_in_and_the_operator_lets_it_out(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(**TOUCHY))
    bring_in(w)
    reply = w.exchange(request())
    assert reply.status == 503 and reply.fields.get("retry-after")
    said = problem(reply)
    assert said["type"] == "urn:weir:handler_quarantined" and said["handler"] == "a"
    assert upstream.accepted == 0
    assert w.metrics().sum("weir_handler_quarantined", handler="a") == 1
    w.await_metric("weir_rejected_total", 1, reason="handler_quarantined")
    w.await_metric("weir_handler_calls_total", 1, handler="a", outcome="quarantined")
    wait_for("the log has it", lambda: w.log().count("goes into quarantine") == 1)
    assert reset(w, "name=b") == 404 and reset(w, "") == 400
    assert reset(w, Origin="http://evil.test") == 403
    assert w.admin("/handler/reset?name=a")[0] == 405
    assert w.exchange(request()).status == 503
    assert reset(w) == 200
    assert state(w) == "ok" and w.exchange(request()).status == 200


def test_many_good_calls_outweigh_a_few_bad_ones(weir, serve):
    w = start(weir, serve(), handler(**TOUCHY))
    with w.client() as client:
        for _ in range(50):
            client.send(request())
            assert client.read_response().status == 200
    for _ in range(20):
        assert crash(w).status == 500
    assert w.exchange(request()).status == 200 and state(w) == "ok"


def test_after_the_hold_one_call_tries_it(weir, serve):
    w = start(weir, serve(), handler(**{**TOUCHY, "hold": "300ms"}))
    bring_in(w)
    assert w.exchange(request()).status in (503, 200)
    wait_for("it is tried again", lambda: w.exchange(request()).status == 200)
    assert state(w) == "ok"
    wait_for("the log has it", lambda: "leaves quarantine" in w.log())
    wait_for("it is in again", lambda: crash(w).status == 503)
    wait_for("it is tried again", lambda: crash(w).status == 500)
    wait_for("and held again", lambda: "stays in quarantine" in w.log())


def test_who_may_be_passed_by_is(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(plugin="puppet_skippable", on_quarantine="bypass", **TOUCHY))
    bring_in(w)
    assert w.exchange(request(fields=[do("add x-one 1")])).status == 200
    assert "x-one" not in upstream.requests[0].fields
    w.await_metric("weir_handler_calls_total", 2, handler="a", outcome="bypassed")  # and the response
    assert reset(w) == 200
    assert w.exchange(request(fields=[do("add x-one 1")])).status == 200
    assert upstream.requests[1].fields.get("x-one") == "1"


def test_a_reload_keeps_it(weir, serve, tmp_path):
    path = tmp_path / "state.json"
    w = start(weir, serve(), handler(**TOUCHY), server={"state_file": str(path)})
    bring_in(w)
    wait_for("the state file has it", lambda: path.exists() and '"a"' in path.read_text())
    old = w.gateway
    w.signal(signal.SIGHUP)
    wait_for("another one serves", lambda: any(g != old and f"gateway {g} serves" in w.log() for g in w.gateways()))
    wait_for("and answers", lambda: w.status()["pid"] != old)
    assert state(w) == "quarantine" and w.exchange(request()).status == 503
    wait_for("the log has it", lambda: "still in quarantine" in w.log())
    w.signal()
    assert w.await_exit() == 0
    saved = json.loads(path.read_text())["sections"]["handlers"]
    assert list(saved) == ["a"]
    w = start(weir, serve(), handler(**TOUCHY), server={"state_file": str(path)})
    assert w.exchange(request()).status == 503
    assert reset(w) == 200
    assert w.exchange(request()).status == 200
    w.signal()
    assert w.await_exit() == 0
    assert json.loads(path.read_text())["sections"]["handlers"] == {}


def test_counters_go_on_in_the_next_gateway(weir, serve):
    w = start(weir, serve(), handler(fault={"quarantine_share": 0}))
    crash(w)
    w.exchange(request(fields=[do("count|count")]))
    wait_for("it is counted", lambda: w.metrics().sum("weir_handler_faults_total", kind="segv") == 1)
    assert w.metrics().sum("weir_handler_events_total", handler="a", event="counted") == 2
    old = w.gateway
    os.kill(old, signal.SIGKILL)
    wait_for("another one answers", lambda: set(w.gateways()) - {old} and is_answering(w, old))
    assert w.metrics().sum("weir_handler_faults_total", kind="segv") == 1


def is_answering(w, old):
    try:
        return w.status()["pid"] != old
    except (OSError, AssertionError):
        return False


def test_status_shows_handlers(weir, serve):
    w = start(weir, serve(), handler(**TOUCHY), handler("b", isolation="process"))
    bring_in(w)
    table = os.popen(f"{w.process.args[0]} status --admin 127.0.0.1:{w.admin_port}").read()
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
    assert rows["HANDLER"][:3] == ["HANDLER", "STATE", "ISOLATION"]
    assert rows["a"] == ["a", "quarantine", "thread", "0/256", "4", "4", "0", "-"]
    assert rows["b"][:3] == ["b", "ok", "process"]


def test_a_drain_waits_for_calls(weir, serve):
    w = start(weir, serve(), handler(timeout="500ms", fault={"quarantine_share": 0}))
    answers = []

    def ask():
        answers.append(w.exchange(request(fields=[do("hang")])).status)

    thread = threading.Thread(target=ask)
    thread.start()
    w.await_metric("weir_exchanges_active", 1)
    w.signal()
    thread.join()
    assert answers == [504]
    assert w.await_exit() == 0


def test_the_end_does_not_wait_for_a_hang_that_nobody_waits_for(weir, serve):
    w = start(weir, serve(), handler(timeout="60s", fault={"quarantine_share": 0}))
    client = w.client()
    client.send(request(fields=[do("hang")]))
    w.await_metric("weir_exchanges_active", 1)
    client.close()
    w.await_metric("weir_exchanges_active", 0)
    w.signal()
    assert w.await_exit(5) == 0
