"""Every fault that a plugin can have, with requests beside it: the one that faults gets its one status, all
others every byte, and a gateway that is left in doubt is replaced without anybody noticing."""

import itertools
import os
import signal
import socket
import time

import pytest
from harness.env import VARIANT, wait_for
from harness.handlers import PLUGINS, handler, problem, start
from harness.http2 import Http2Client
from harness.programs import descendants
from harness.traffic import Traffic
from harness.upstream import answering
from harness.wire import request, response

# Sanitizers catch what the handlers' own traps would.
pytestmark = [pytest.mark.skipif(VARIANT != "release", reason="faults are caught in release builds only"),
              pytest.mark.timeout(180)]

FAULTS = 20
# tests/plugins/fault.c says what each of them does; tests/handler/test_matrix.c has the verdicts.
CLEAN = ["null", "call_null", "stack_overflow", "fpe", "ill", "trap", "bus", "sys", "abort", "assert", "exit",
         "_exit", "pthread_exit", "strlen_null", "qsort_bad", "double_free", "double_free_large", "bad_free",
         "free_stack", "realloc_freed", "heap_overflow", "wild_write_outside", "huge"]
HARMLESS = ["heap_overflow_small", "write_after_free", "wild_write_inside"]
HANGS = ["spin", "sleep", "poll", "malloc_loop", "host_loop", "log_loop", "block_signals"]
DIRTY = {"unwind": 500, "stack_smash": 500, "stdio_bad": 500, "syslog_bad": 500, "dlopen_bad": 500,
         "free_foreign": 500, "raise_abort": 500, "stuck": 504, "vanish": 504}


class Crowd(Traffic):
    """Clients whose every request has a body of its own, which has to come back."""

    numbers = itertools.count()

    def _ask(self, wire):
        while not self.is_over:
            if not wire.is_quiet(self.pause):
                assert not wire.fill(), "bytes that nobody has asked for"
                return
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            body = b"%d:" % next(self.numbers) + os.urandom(200).hex().encode()
            wire.send(request("POST", body=body))
            answer = wire.read_response("POST")
            self.answered.append(time.monotonic())
            if answer.status != 200 or answer.body != b"x-sum " + body:
                self.wrong.append((answer.status, answer.body[:80]))
            if "close" in [m.lower() for m in answer.fields.list("connection")]:
                return


def echo(message):
    return response(body=(b"x-sum " if message.fields.get("x-sum") else b"") + message.body)


def begin(weir, serve, timeout="2s", isolation="thread", demote=False, **more):
    fault = {"quarantine_share": 0, "demote": demote}
    return start(weir, serve(answering(echo)),
                 handler(plugin="fault", timeout=timeout, isolation=isolation, fault=fault),
                 server={"handler_threads": 4}, **more)


def ask(w, kind):
    fields = [f"x-fault: {kind}", f"x-path: {PLUGINS / 'constructor.so'}"]
    return w.exchange(request(fields=fields))


def faults(w):
    return w.metrics().sum("weir_handler_faults_total", handler="a")


@pytest.mark.parametrize("kind", CLEAN)
def test_a_clean_fault_costs_its_request(weir, serve, kind):
    w = begin(weir, serve)
    gateway = w.gateway
    with Crowd(w.port, clients=4) as crowd:
        for _ in range(FAULTS):
            reply = ask(w, kind)
            assert reply.status == 500
            assert "'a'" in problem(reply)["detail"]
        n = len(crowd.answered)
        wait_for("it goes on", lambda: len(crowd.answered) > n + 20)
    crowd.expect_no_failure()
    w.await_metric("weir_handler_faults_total", FAULTS, handler="a")
    assert w.metrics().sum("weir_handler_dirty_faults_total") == 0
    w.await_metric("weir_handler_workers_replaced_total", FAULTS)
    assert w.gateway == gateway
    assert ", clean xid=" in w.log()


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_stays_within_an_instance_is_no_fault(weir, serve, kind):
    w = begin(weir, serve)
    for _ in range(FAULTS):
        assert ask(w, kind).status == 200
    w.await_metric("weir_handler_calls_total", FAULTS, handler="a", outcome="continue")
    assert faults(w) == 0


@pytest.mark.parametrize("kind", HANGS)
def test_a_call_that_hangs_is_answered_in_time_and_ended(weir, serve, kind):
    w = begin(weir, serve, timeout="200ms")
    gateway = w.gateway
    for _ in range(3):
        begun = time.monotonic()
        assert ask(w, kind).status == 504
        assert 0.19 < time.monotonic() - begun < 2
    w.await_metric("weir_handler_faults_total", 3, handler="a", kind="hang")
    w.await_metric("weir_handler_workers_replaced_total", 3)
    assert w.metrics().sum("weir_handler_dirty_faults_total") == 0
    assert w.metrics().sum("weir_handler_workers_stuck") == 0
    for _ in range(20):
        assert w.exchange(request()).status == 200
    assert w.gateway == gateway


@pytest.mark.parametrize("kind, status", DIRTY.items())
def test_a_gateway_left_in_doubt_is_replaced_and_nobody_is_refused(weir, serve, kind, status):
    w = begin(weir, serve, timeout="500ms")
    w.must_be_clean = False  # it ends without a census
    gateway = w.gateway
    with Crowd(w.port, clients=4) as crowd:
        wait_for("there is traffic", lambda: len(crowd.answered) > 20)
        assert ask(w, kind).status == status
        wait_for("another gateway serves", lambda: w.gateways()[-1:] not in ([], [gateway]) and
                 f"gateway {w.gateways()[-1]} serves" in w.log())
        n = len(crowd.answered)
        wait_for("it goes on", lambda: len(crowd.answered) > n + 20)
        wait_for("the old one has gone", lambda: w.gateways() == [w.gateway])
    crowd.expect_no_failure()
    assert "dirty: the gateway will be replaced" in w.log()
    assert f"gateway {gateway} is in doubt" in w.log()
    assert "ends without a census" in w.log()


PROCESS = {**dict.fromkeys(["null", "stack_overflow", "abort", "double_free_large", "exit", "unwind", "stdio_bad",
                            "syslog_bad", "dlopen_bad", "free_foreign", "vanish", "huge"], 500),
           **dict.fromkeys(["spin", "sleep", "stuck"], 504)}


@pytest.mark.parametrize("kind, status", PROCESS.items())
def test_in_a_process_every_fault_costs_its_request_only(weir, serve, kind, status):
    w = begin(weir, serve, timeout="300ms" if status == 504 else "2s", isolation="process")
    gateway = w.gateway
    n = 3 if status == 504 else FAULTS
    with Crowd(w.port, clients=4) as crowd:
        for _ in range(n):
            assert ask(w, kind).status == status
        answered = len(crowd.answered)
        wait_for("it goes on", lambda: len(crowd.answered) > answered + 20)
    crowd.expect_no_failure()
    w.await_metric("weir_handler_faults_total", n, handler="a")
    assert w.metrics().sum("weir_handler_dirty_faults_total") == 0
    assert w.status()["handlers"][0]["isolation"] == "process"
    assert w.gateway == gateway


def test_a_dirty_fault_moves_a_handler_into_a_process(weir, serve):
    w = begin(weir, serve, demote=True)
    w.must_be_clean = False
    assert w.status()["handlers"][0]["isolation"] == "thread"
    gateway = w.gateway
    with Crowd(w.port, clients=4) as crowd:
        assert ask(w, "raise_abort").status == 500
        wait_for("another gateway serves", lambda: w.gateways()[-1:] not in ([], [gateway]) and
                 f"gateway {w.gateways()[-1]} serves" in w.log())
        successor = w.gateways()[-1]
        wait_for("the old one has gone", lambda: w.gateways() == [successor])
        # It is the same there, and what would be dirty costs no gateway any more.
        told = w.status()["handlers"][0]
        assert (told["isolation"], told["reason"]) == ("process", "a dirty fault")
        for _ in range(FAULTS):
            assert ask(w, "raise_abort").status == 500
    crowd.expect_no_failure()
    assert w.gateway == successor
    assert "runs in processes of its own from now on" in w.log()


def test_in_a_gateway_that_waits_to_be_replaced_calls_run_in_processes(weir, serve):
    def told():
        return {h["name"]: (h["isolation"], h.get("reason")) for h in w.status()["handlers"]}

    def replaced():
        wait_for("another gateway serves", lambda: w.gateways()[-1:] not in ([], [gateway]) and
                 f"gateway {w.gateways()[-1]} serves" in w.log() and w.status()["pid"] == w.gateways()[-1])

    # The second change of gateways within SUPERVISOR_TAINT_NS has to wait.
    handlers = [handler(name, plugin="fault", timeout="2s", fault={"quarantine_share": 0}) for name in "abc"]
    routes = [{"listener": "http", "match": {"path": f"/{h['name']}"}, "handlers": [h["name"]], "pipeline": "up"}
              for h in handlers]
    w = start(weir, serve(answering(echo)), *handlers, routes=routes, server={"handler_threads": 4})
    w.must_be_clean = False
    gateway = w.gateway
    assert w.exchange(request(target="/a", fields=["x-fault: raise_abort"])).status == 500
    replaced()
    gateway = w.gateways()[-1]
    assert told() == {"a": ("process", "a dirty fault"), "b": ("thread", None), "c": ("thread", None)}
    assert w.metrics().sum("weir_gateway_in_doubt") == 0
    assert w.exchange(request(target="/b", fields=["x-fault: raise_abort"])).status == 500
    w.await_metric("weir_gateway_in_doubt", 1)
    assert w.gateways()[-1] == gateway
    waits = ("process", "the gateway is to be replaced")
    wait_for("all are in processes", lambda: told() == {"a": ("process", "a dirty fault"),
                                                        "b": ("process", "a dirty fault"), "c": waits})
    for _ in range(FAULTS):
        assert w.exchange(request(target="/c", fields=["x-fault: raise_abort"])).status == 500
        assert w.exchange(request(target="/c")).status == 200
    assert w.metrics().sum("weir_handler_dirty_faults_total", handler="c") == 0
    wait_for("its turn has come", lambda: w.gateways()[-1] != gateway, timeout=30)
    replaced()
    assert told()["c"] == ("thread", None)


def await_replacement(w, gateway, crowd):
    """Another one serves, the crowd among others, and @gateway is gone."""
    wait_for("another gateway serves", lambda: w.gateways()[-1:] not in ([], [gateway]) and
             f"gateway {w.gateways()[-1]} serves" in w.log())
    n = len(crowd.answered)
    wait_for("it goes on", lambda: len(crowd.answered) > n + 20)
    wait_for("the old one has gone", lambda: gateway not in w.gateways())


def test_memory_that_faults_lose_has_the_gateway_replaced(weir, serve):
    w = start(weir, serve(answering(echo)), handler(plugin="fault", timeout="2s",
                                                    fault={"quarantine_share": 0, "demote": False}),
              server={"handler_threads": 4, "handler_loss": "1MiB"})
    w.must_be_clean = False
    gateway = w.gateway
    with Crowd(w.port, clients=4) as crowd:
        for _ in range(3):
            assert ask(w, "leak").status == 500
        wait_for("it is counted", lambda: w.metrics().sum("weir_handler_lost_bytes") > 3 * 256 * 1024)
        assert w.metrics().sum("weir_handler_lost_bytes_max") == 1024 * 1024
        assert w.gateways() == [gateway]
        assert ask(w, "leak").status == 500
        await_replacement(w, gateway, crowd)
    crowd.expect_no_failure()
    assert "the gateway is to be replaced: faults of handlers have lost" in w.log()
    assert w.metrics().sum("weir_handler_dirty_faults_total") == 0
    assert w.metrics().sum("weir_handler_lost_bytes") == 0


def test_files_that_faults_leave_open_have_the_gateway_replaced(weir, serve):
    w = start(weir, serve(answering(echo)), handler(plugin="fault", timeout="2s",
                                                    fault={"quarantine_share": 0, "demote": False}),
              server={"handler_threads": 4})
    w.must_be_clean = False
    gateway = w.gateway
    with Crowd(w.port, clients=4) as crowd:
        for _ in range(40):
            assert ask(w, "leak_file").status == 500
        wait_for("they are counted", lambda: 40 <= w.metrics().sum("weir_handler_lost_fds") < 60)
        assert w.gateways() == [gateway]
        for _ in range(30):
            assert ask(w, "leak_file").status == 500
        await_replacement(w, gateway, crowd)
    crowd.expect_no_failure()
    assert "the gateway is to be replaced: faults of handlers have left" in w.log()


def test_a_process_that_burns_beside_its_calls_is_ended(weir, serve):
    w = start(weir, serve(answering(echo)), handler(plugin="fault", timeout="2s", isolation="process",
                                                    process={"cpu": "100ms"}), server={"handler_threads": 1})
    gateway = w.gateway
    assert ask(w, "burn").status == 200
    w.await_metric("weir_handler_faults_total", 1, handler="a", kind="cpu")
    assert "of CPU beyond the time of its calls), clean" in w.log()
    for _ in range(FAULTS):
        assert w.exchange(request()).status == 200
    assert faults(w) == 1 and w.gateway == gateway


@pytest.mark.parametrize("kind", ["hoard", "hoard_maps", "hoard_shared"])
def test_a_process_may_have_so_much_memory(weir, serve, kind):
    upstream = serve(answering(echo))
    w = start(weir, upstream, handler(plugin="fault", timeout="5s", isolation="process",
                                      process={"memory": "24MiB"}), server={"handler_threads": 1})
    assert ask(w, kind).status == 200
    assert 15 < int(upstream.requests[0].fields.get("x-count")) <= 24


def test_processes_end_with_their_gateway(weir, serve):
    w = begin(weir, serve, isolation="process")
    w.must_be_clean = False
    assert w.exchange(request()).status == 200
    gateway = w.gateway
    found = descendants(gateway)
    assert len(found) >= 2  # the zygote, and who has run the call
    os.kill(gateway, 9)
    wait_for("all have ended", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in found))
    wait_for("another one serves", lambda: w.gateways()[-1:] not in ([], [gateway]))
    assert w.exchange(request()).status == 200


def test_gateways_are_not_replaced_more_often_than_every_so_often(weir, serve):
    w = begin(weir, serve)
    w.must_be_clean = False
    begun = time.monotonic()
    for _ in range(16):
        assert ask(w, "raise_abort").status == 500
        assert w.exchange(request()).status == 200
    wait_for("a gateway was replaced", lambda: "is in doubt" in w.log())
    for _ in range(16):
        assert ask(w, "raise_abort").status == 500
    # SUPERVISOR_TAINT_NS
    assert w.log().count("is in doubt") <= 1 + (time.monotonic() - begun) // 10


def test_a_grpc_call_gets_its_status(weir, serve):
    w = begin(weir, serve, timeout="200ms", listener={"protocol": "http2"})
    grpc = [("content-type", "application/grpc"), ("te", "trailers")]
    with Http2Client(w.port) as client:
        for kind, status in (("null", "13"), ("spin", "4"), ("abort", "13")):
            stream = client.response(client.ask("POST", "/a.B/C", [*grpc, ("x-fault", kind)], body=b"\0\0\0\0\0"))
            assert dict(stream.fields)["grpc-status"] == status


def test_memory_does_not_grow_with_faults(weir, serve):
    w = begin(weir, serve)
    for _ in range(100):
        assert ask(w, "null").status == 500
    before = w.rss()
    for _ in range(300):
        assert ask(w, "null").status == 500
    assert w.rss() - before < 2 * 1024 * 1024
    wait_for("no thread is left over", lambda: faults(w) == 400)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_fault_of_weirs_own_is_told_and_ends_the_gateway(weir, serve, number):
    w = begin(weir, serve)
    w.must_be_clean = False
    assert w.exchange(request()).status == 200
    gateway = w.gateway
    os.kill(gateway, number)
    wait_for("another one serves", lambda: w.gateways()[-1:] not in ([], [gateway]))
    assert w.exchange(request()).status == 200
    assert f"gateway {gateway}: stack of thread" in w.log()
    assert f"died by signal {int(number)} " in w.log()


def test_the_supervisor_takes_its_gateway_and_all_workers_along(weir, serve):
    w = begin(weir, serve)
    w.must_be_clean = False
    gateway = w.gateway
    os.kill(w.process.pid, 9)
    wait_for("no process is left", lambda: not os.path.exists(f"/proc/{gateway}"))
