"""[pipeline.process]: an engine that weir starts, watches, and starts again."""

import json
import os
import signal
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from harness.env import PATIENCE, VARIANT, free_port, scaled, wait_for
from harness.programs import (PYTHON, await_none, descendants, engine_config, minders, nursery, pids_with,
                              process_of)
from harness.weir import run_cli, toml
from harness.wire import request

WITHIN_S = 1.0 if VARIANT == "release" else 3.0


@pytest.fixture
def engine_weir(weir, tmp_path):
    """Waits until its engine is ready, unless is_ready=False."""
    def make(is_ready=True, limit_nofile=None, **options):
        w = weir(config=lambda directory: engine_config(directory, **options), limit_nofile=limit_nofile)
        w.code = str(w.directory / "engine.py")
        if is_ready:
            await_state(w, "ready")
        return w

    return make


def await_state(w, state, timeout=PATIENCE):
    wait_for(f"its engine is {state}", lambda: process_of(w).get("state") == state, timeout)


def ask(w, target="/"):
    with w.client() as client:
        client.send(request(target=target))
        return client.read_response()


def engine_pid(w):
    return int(ask(w).body.split()[0])


def post(w, path):
    asked = urllib.request.Request(f"http://127.0.0.1:{w.admin_port}{path}", method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=5) as reply:
        return reply.status


def reload(w, config=None, expect=True):
    served = w.log().count(" serves (")
    if config is not None:
        w.file.write_text(toml(config))
    w.signal(signal.SIGHUP)
    if expect:
        wait_for("the next one serves", lambda: w.log().count(" serves (") > served)


def starts(w):
    return w.log().count("'up' was started")


# --- Its life ---------------------------------------------------------------------------------------------

def test_an_engine_is_started_serves_and_ends_with_weir(engine_weir):
    w = engine_weir()
    reply = ask(w)
    assert reply.status == 200 and reply.body.split()[1:] == [b"0", b"None"]
    assert [int(reply.body.split()[0])] == pids_with(w.code)
    shown = process_of(w)["instances"][0]
    assert shown["state"] == "ready" and shown["pid"] == engine_pid(w)
    wait_for("its size is known", lambda: process_of(w)["instances"][0]["resident_bytes"] > 1 << 20)
    m = w.metrics()
    assert m.sum("weir_children", pipeline="up", state="ready") == 1
    assert m.sum("weir_child_starts_total", pipeline="up") == 1
    health = json.loads(w.admin("/healthz")[2])["children"]
    assert health["ready"] == health["instances"] == 1 and health["held"] == 0
    wait_for("its words are in the log", lambda: "'up' says: now listening" in w.log())
    w.signal()
    assert w.await_exit() == 0
    assert pids_with(w.code) == [] and "census: children=0" in w.log()


def test_weir_status_has_a_table_of_programs(engine_weir):
    w = engine_weir()
    status, out, _ = run_cli("status", w.file)
    assert status == 0
    [line] = [x for x in out.splitlines() if PYTHON in x]
    assert line.split() == ["up", PYTHON, "supervised", "ready", "-", "1", "0", "0"]


@pytest.mark.parametrize("ready", [
    {"check": "tcp"},
    {"check": "http", "path": "/healthz"},
    {"check": "line", "line": "now listening"},
    {"check": "none"},
])
def test_ready_checks(engine_weir, ready):
    w = engine_weir(process={"ready": ready})
    wait_for("it answers", lambda: ask(w).status == 200)


def test_a_grpc_engine_is_asked_by_its_health_service(weir):
    code = """
import os, sys, time
from concurrent import futures
import grpc
began = time.monotonic()
def check(request, context):
    print("asked for", request, flush=True)
    return b"\\x08\\x01" if time.monotonic() - began > 0.5 else b"\\x08\\x02"
class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(2), [Handler()])
server.add_insecure_port(os.environ["WEIR_LISTEN"])
server.start()
server.wait_for_termination()
"""
    w = weir(config=lambda directory: engine_config(
        directory, code=code, pipeline={"protocol": "http2"}, process={
            "command": [PYTHON, str(directory / "engine.py")], "ready": {"check": "grpc", "service": "app.Games"}}))
    await_state(w, "ready", 20)
    assert "app.Games" in w.log()
    took = float(w.log().partition("is ready: instance 0, after ")[2].split()[0])
    assert took > 0.5


@pytest.mark.parametrize("ready", [
    {"check": "http", "path": "/never", "timeout": "500ms"},
    {"check": "line", "line": "never said", "timeout": "500ms"},
])
def test_an_engine_that_does_not_become_ready_is_a_death(engine_weir, ready):
    w = engine_weir(is_ready=False, process={"ready": ready})
    wait_for("it is given up", lambda: "was not ready in time" in w.log())
    wait_for("and started again", lambda: starts(w) >= 2)
    assert process_of(w)["deaths_total"] >= 1 and len(pids_with(w.code)) <= 1


def test_a_unix_socket(weir, tmp_path):
    code = """
import http.server, os, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "3"); self.end_headers()
        self.wfile.write(b"ok\\n")
    def address_string(self): return "-"
    def log_message(self, *args): pass
class Server(socketserver.ThreadingUnixStreamServer): pass
Server(os.environ["WEIR_SOCKET"], Handler).serve_forever()
"""
    socket = tmp_path / "engine.sock"
    w = weir(config=lambda directory: engine_config(directory, code=code,
                                                    pipeline={"endpoints": [f"unix:{socket}"]}))
    await_state(w, "ready")
    assert ask(w).body == b"ok\n"
    os.kill(process_of(w)["instances"][0]["pid"], signal.SIGKILL)  # it leaves its socket behind
    wait_for("another one serves", lambda: ask(w).status == 200)


def test_one_that_dies_is_started_again(engine_weir):
    w = engine_weir()
    first = engine_pid(w)
    os.kill(first, signal.SIGKILL)
    wait_for("the log has it", lambda: "'up' died by signal 9 (Killed): instance 0 is started again" in w.log())
    wait_for("another one serves", lambda: starts(w) == 2 and process_of(w)["state"] == "ready")
    assert engine_pid(w) != first
    assert process_of(w)["deaths_total"] == 1
    assert w.metrics().sum("weir_child_deaths_total", pipeline="up") == 1


def test_requests_wait_while_it_is_started_again(engine_weir):
    """And at the very start, for an engine that takes its time."""
    from harness.programs import ENGINE
    w = engine_weir(is_ready=False, code="import time\ntime.sleep(0.7)\n" + ENGINE)
    assert ask(w).status == 200
    for _ in range(2):
        await_state(w, "ready")  # it may answer before that is seen
        os.kill(engine_pid(w), signal.SIGKILL)
        wait_for("it is gone", lambda: process_of(w)["state"] != "ready")
        assert ask(w).status == 200


def test_what_it_left_behind_is_gone_before_the_next_one_starts(engine_weir):
    """Also who has got away from its process group: two of them would fight for the port."""
    code = ("import subprocess\nsubprocess.Popen(['setsid', 'sleep', '751'])\n")
    from harness.programs import ENGINE
    w = engine_weir(code=code + ENGINE, process={"stop": {"grace": "300ms"}})
    wait_for("its child is there", lambda: len(pids_with("sleep\x00751")) == 1)
    [old] = pids_with("sleep\x00751")
    os.kill(engine_pid(w), signal.SIGKILL)
    wait_for("another one serves", lambda: starts(w) == 2 and process_of(w)["state"] == "ready")
    wait_for("with one child", lambda: len(pids_with("sleep\x00751")) == 1)
    assert pids_with("sleep\x00751") != [old]


def test_a_program_that_cannot_be_executed_is_held(engine_weir):
    w = engine_weir(is_ready=False, process={"command": ["/nonexistent/engine"], "crash": {"deaths": 2}})
    await_state(w, "held")
    assert "cannot execute it: No such file or directory" in w.log()
    reply = ask(w)
    problem = json.loads(reply.body)
    assert reply.status == 503 and problem["type"] == "urn:weir:process_held"
    assert "it died 3 times lately" in problem["detail"] and reply.fields.get("retry-after")


# --- The crash loop ---------------------------------------------------------------------------------------

CRASHING = {"process": {"crash": {"deaths": 3, "hold": "2s"}}}


def test_a_crash_loop_is_held_told_once_and_tried_again_after_the_hold(engine_weir):
    w = engine_weir(is_ready=False, argv=[0.2], **CRASHING)
    await_state(w, "held")
    held = time.monotonic()
    assert starts(w) == 4 and pids_with(w.code) == []
    assert w.log().count("it is not started again") == 1
    assert w.metrics().sum("weir_child_held", pipeline="up") == 1
    assert json.loads(w.admin("/healthz")[2])["children"]["held"] == 1
    wait_for("it is tried again", lambda: starts(w) == 5)
    assert time.monotonic() - held > 1.5
    await_state(w, "held")  # one death is enough now
    assert starts(w) == 5


def test_the_history_lasts_over_reloads_and_gateways(engine_weir):
    w = engine_weir(is_ready=False, argv=[0.3], process={"crash": {"deaths": 4, "hold": "60s"}})
    w.must_be_clean = VARIANT == "release"
    for _ in range(3):
        reload(w)
        os.kill(w.gateway, signal.SIGKILL)
        wait_for("another gateway serves", lambda: w.log().count(" serves (") >= 2 and w.gateways())
    await_state(w, "held", 20)
    assert starts(w) == 5
    reload(w)
    os.kill(w.gateway, signal.SIGKILL)
    wait_for("weir answers", lambda: process_of_or_none(w))
    assert process_of(w)["state"] == "held" and starts(w) == 5


def process_of_or_none(w):
    try:
        return process_of(w)
    except (OSError, AssertionError, ValueError):
        return None


def test_the_history_lasts_over_all_of_weir(weir, tmp_path):
    state = tmp_path / "state.json"
    config = engine_config(tmp_path, argv=[0.2], server={"state_file": str(state)},
                           process={"crash": {"deaths": 3, "hold": "60s"}})
    first = weir(config=config)
    await_state(first, "held")
    first.signal()
    assert first.await_exit() == 0
    second = weir(config=config)
    await_state(second, "held")
    assert starts(second) == 0 and "has died 4 times before this start" in second.log()
    assert ask(second).status == 503


def test_the_operator_may_reset_it(engine_weir):
    w = engine_weir(is_ready=False, argv=[0.2], process={"crash": {"deaths": 2, "hold": "60s"}})
    await_state(w, "held")
    assert post(w, "/reset?pipeline=other") == 202
    assert post(w, "/reset?pipeline=up") == 202
    wait_for("it is started again", lambda: starts(w) == 4)
    await_state(w, "held")
    assert starts(w) == 6
    assert post(w, "/reset") == 202
    wait_for("it is started again", lambda: starts(w) == 7)


def test_sustained_uptime_clears_the_history(engine_weir):
    w = engine_weir(process={"crash": {"deaths": 2, "window": "1s", "hold": "60s"}})
    for _ in range(2):
        os.kill(engine_pid(w), signal.SIGKILL)
        wait_for("another one serves", lambda: process_of(w)["state"] == "ready" and ask(w).status == 200)
    wait_for("all is forgiven", lambda: process_of(w)["deaths_lately"] == 0)
    for _ in range(2):
        os.kill(engine_pid(w), signal.SIGKILL)
        wait_for("another one serves", lambda: process_of(w)["state"] == "ready" and ask(w).status == 200)
    assert process_of(w)["deaths_total"] == 4


def test_other_pipelines_do_not_notice(weir, serve):
    upstream = serve()

    def config(directory):
        made = engine_config(directory, argv=[0.1], process={"crash": {"deaths": 2, "hold": "60s"}})
        made["pipeline"].append({"name": "other", "endpoints": [upstream.endpoint]})
        made["route"].append({"match": {"path": "/other"}, "pipeline": "other"})
        return made

    w = weir(config=config)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert ask(w, "/other").status == 200
    await_state(w, "held")


# --- Reloads ----------------------------------------------------------------------------------------------

def test_a_reload_that_does_not_change_it_leaves_it_alone(engine_weir):
    w = engine_weir()
    pid = engine_pid(w)
    w.config["pipeline"][0]["deadline"] = "5s"
    reload(w, w.config)
    os.kill(w.gateway, signal.SIGKILL)
    wait_for("another gateway serves", lambda: process_of_or_none(w))
    assert engine_pid(w) == pid and starts(w) == 1


def test_a_reload_that_changes_it_replaces_it(engine_weir):
    w = engine_weir()
    pid = engine_pid(w)
    w.config["pipeline"][0]["process"]["env"] = {"COLOUR": "red"}
    reload(w, w.config)
    wait_for("the new one serves", lambda: ask(w).body.endswith(b" red"))
    assert pids_with(w.code) == [engine_pid(w)] and engine_pid(w) != pid
    assert process_of(w)["deaths_total"] == 0


def test_a_bad_reload_changes_nothing(engine_weir):
    w = engine_weir()
    pid = engine_pid(w)
    config = json.loads(json.dumps(w.config))
    config["pipeline"][0]["process"]["command"] = []
    reload(w, config, expect=False)
    wait_for("it is refused", lambda: "the old configuration stays" in w.log())
    assert engine_pid(w) == pid


def test_a_reload_that_removes_it_ends_it_and_one_that_brings_it_back_starts_it(engine_weir, serve):
    w = engine_weir()
    upstream = serve()
    config = json.loads(json.dumps(w.config))
    config["pipeline"][0] = {"name": "up", "endpoints": [upstream.endpoint]}
    reload(w, config)
    await_none(w.code)
    assert ask(w).status == 200
    reload(w, w.config)
    wait_for("it is back", lambda: pids_with(w.code))
    await_state(w, "ready")


def test_programs_may_come_with_a_reload(weir, serve):
    upstream = serve()
    w = weir(upstream)
    config = json.loads(json.dumps(w.config))
    config["pipeline"][0] = {"name": "up", "protocol": "exec", "process": {"command": ["echo", "hi"]}}
    reload(w, config)
    wait_for("the program answers", lambda: ask(w).body == b"hi\n")
    assert nursery(w)


def test_two_instances_are_replaced_one_after_the_other(weir):
    """Under load: no request fails, and one of them is always ready. They end at once when they are told to,
    so what is on them then has to be asked for again."""
    def config(directory):
        made = engine_config(directory, process={"instances": 2, "stop": {"grace": "2s"}},
                             pipeline={"retry": {"attempts": 3, "on": ["connect", "refused", "reset"]},
                                       "breaker": {"open_for": "500ms"}})
        port = free_port()
        made["pipeline"][0]["endpoints"] = [f"127.0.0.1:{port}"]
        return made

    w = weir(config=config)
    await_state(w, "ready")
    assert len(process_of(w)["instances"]) == 2
    assert {ask(w).body.split()[1] for _ in range(40)} == {b"0", b"1"}
    wrong, is_over = [], threading.Event()

    def load():
        while not is_over.is_set():
            try:
                reply = ask(w)
                if reply.status != 200:
                    wrong.append((reply.status, reply.body))
            except AssertionError as failure:
                wrong.append(failure)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    w.config["pipeline"][0]["process"]["env"] = {"COLOUR": "blue"}
    reload(w, w.config)
    wait_for("both are new", lambda: starts(w) == 4 and process_of(w)["state"] == "ready")
    is_over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    # A breaker may be open for a moment yet.
    wait_for("both are used", lambda: {tuple(ask(w).body.split()[1:]) for _ in range(40)} ==
             {(b"0", b"blue"), (b"1", b"blue")}, 15)
    log = w.log()
    # The second was ended only when the first of the new ones was ready.
    assert log.index("'up' is ready: instance 0", log.index("is defined otherwise")) < \
        log.index("'up' has ended: instance 1")


# --- What else may be killed ------------------------------------------------------------------------------

def test_when_the_supervisor_is_killed_the_engine_ends(engine_weir):
    w = engine_weir()
    w.must_be_clean = False
    os.kill(w.pid, signal.SIGKILL)
    await_none(w.code, WITHIN_S)


def test_when_the_nursery_is_killed_the_engine_comes_back_with_its_history(engine_weir):
    w = engine_weir()
    os.kill(engine_pid(w), signal.SIGKILL)
    wait_for("another one serves", lambda: starts(w) == 2 and process_of(w)["state"] == "ready")
    os.kill(nursery(w), signal.SIGKILL)
    wait_for("it is back", lambda: starts(w) == 3 and process_of(w)["state"] == "ready")
    assert pids_with(w.code) == [engine_pid(w)]
    assert process_of(w)["deaths_lately"] == 1


def test_an_upgrade_keeps_nursery_and_engine(engine_weir):
    w = engine_weir()
    pid, old = engine_pid(w), nursery(w)
    w.signal(signal.SIGUSR2)
    wait_for("it took over", lambda: "took over from the binary before" in w.log())
    reload_count = w.log().count(" serves (")
    assert engine_pid(w) == pid and nursery(w) == old
    wait_for("a gateway of the new binary serves", lambda: w.log().count(" serves (") >= reload_count)
    os.kill(pid, signal.SIGKILL)
    wait_for("another one serves", lambda: starts(w) == 2 and process_of(w)["state"] == "ready")
    reload(w)
    assert len(minders(w)) == 1 and len([p for p in descendants(w.pid)]) >= 3


def test_an_engine_that_writes_without_end_harms_nobody(engine_weir):
    """Its lines are limited, and weir is as quick and small as before."""
    from harness.programs import ENGINE
    code = "import threading\nthreading.Thread(target=lambda: [print('x' * 5000, flush=True) " \
           "for _ in iter(int, 1)], daemon=True).start()\n"
    w = engine_weir(code=code + ENGINE)
    time.sleep(1)
    assert ask(w).status == 200
    lines = [x for x in w.log().splitlines() if "'up' says: xxx" in x]
    assert 1 <= len(lines) < 400 and all(len(x) < 1200 for x in lines)
    status = Path(f"/proc/{nursery(w)}/status").read_text()
    rss = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS"))
    assert rss < 64 << 10 or VARIANT != "release"


# --- The configuration ------------------------------------------------------------------------------------

@pytest.mark.parametrize("pipeline, error", [
    ({"protocol": "exec"}, "pipeline.process: found none with protocol = \"exec\""),
    ({"protocol": "exec", "process": {}}, "pipeline.process.command: found nothing"),
    ({"protocol": "exec", "process": {"command": "ls"}}, "pipeline.process.command: found \"ls\""),
    ({"protocol": "exec", "process": {"command": ["ls"]}, "endpoints": ["127.0.0.1:1"]},
     "pipeline.endpoints: found with protocol = \"exec\""),
    ({"protocol": "exec", "process": {"command": ["ls"], "crash": {"deaths": 1}}},
     "pipeline.process.crash: found with protocol = \"exec\", expected only without"),
    ({"protocol": "exec", "process": {"command": ["ls"]}, "limits": {"connections": 3}},
     "pipeline.limits.connections: found with protocol = \"exec\""),
    ({"process": {"command": ["ls"]}}, "pipeline.endpoints: found nothing"),
    ({"endpoints": ["engine.example:80"], "process": {"command": ["ls"]}}, "it listens on this host"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"command": ["ls"], "output": "sse"}},
     "pipeline.process.output: found with protocol = \"http1\", expected only with"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"command": ["ls"], "ready": {"check": "http"}}},
     "expected check = \"http\" and path together"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"command": ["ls"], "ready": {"check": "line"}}},
     "expected check = \"line\" and line together"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"command": ["ls"], "ready": {"service": "x"}}},
     "pipeline.process.ready.service: found with check = \"tcp\""),
    ({"endpoints": ["127.0.0.1:80", "127.0.0.1:81"], "process": {"command": ["ls"], "instances": 3}},
     "pipeline.process.instances: found 3 with 2 endpoints"),
    ({"endpoints": ["127.0.0.1:65535"], "process": {"command": ["ls"], "instances": 2}},
     "pipeline.process.instances: found 2 with 1 endpoints"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"command": ["ls"], "env": {"WEIR_X": "1"}}},
     "not WEIR_"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"comand": ["ls"]}}, "did you mean \"command\"?"),
    ({"endpoints": ["127.0.0.1:80"], "process": {"command": ["ls"], "crash": {"deaths": 0}}},
     "expected an integer from 1 to 31"),
])
def test_what_makes_no_sense_is_an_error(tmp_path, pipeline, error):
    config = engine_config(tmp_path)
    config["pipeline"][0] = {"name": "up", **pipeline}
    file = tmp_path / "weir.toml"
    file.write_text(toml(config))
    status, _, err = run_cli("check", file)
    assert status == 2 and error in err


def test_affinity_needs_endpoints(tmp_path):
    config = engine_config(tmp_path)
    config["pipeline"][0] = {"name": "up", "protocol": "exec", "process": {"command": ["ls"]}}
    config["route"][0]["affinity"] = {"cookie": "w"}
    (tmp_path / "weir.toml").write_text(toml(config))
    status, _, err = run_cli("check", tmp_path / "weir.toml")
    assert status == 2 and "route.affinity: found with pipeline = \"up\"" in err


def test_too_much_to_say_of_programs_is_an_error(tmp_path):
    config = engine_config(tmp_path, process={"command": ["x" * 4000] * 20})
    (tmp_path / "weir.toml").write_text(toml(config))
    status, _, err = run_cli("check", tmp_path / "weir.toml")
    assert status == 2 and "at most 65536 can be had" in err


def test_a_nursery_is_not_started_by_hand():
    status, _, err = run_cli("nursery")
    assert status == 2 and "this is started by weir run" in err
    assert scaled(1) >= 1
