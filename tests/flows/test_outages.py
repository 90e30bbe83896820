"""What weir needs of its surroundings fails: a disk, a log file, the clock, DNS. weir keeps serving, says
what is wrong, and takes up again what comes back."""

import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
from harness.env import VARIANT, scaled, wait_for
from harness.replies import expect_problem
from harness.upstream import answering
from harness.weir import base_config
from harness.wire import request, response

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def serves(w, target="/"):
    answer = w.exchange(request(target=target))
    return answer.status == 200


# A full disk.


def test_a_disk_that_fills_up_costs_lines_and_nothing_else(weir, serve, tmp_path):
    """As by a quota: from some size on no byte more goes into a file (RLIMIT_FSIZE)."""
    log = tmp_path / "weir.log"
    w = weir(serve(), log={"file": str(log)})
    assert serves(w, "/before")
    w.await_access(1)
    full = max(log.stat().st_size, w.access_path.stat().st_size)
    pids = [w.pid, w.gateway]
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    for _ in range(100):
        assert serves(w, "/while-it-is-full")
    wait_for("it is said where there is room", lambda: "lines are lost: File too large" in w.log())
    wait_for("it is counted", lambda: w.metrics().sum("weir_log_dropped_total") > 0)
    assert w.admin("/healthz")[0] == 200
    # The supervisor has something to log, too, and no room to examine the file in: the reload fails.
    w.signal(signal.SIGHUP)
    wait_for("it has tried", lambda: w.metrics().sum("weir_config_reloads_total") == 1)
    assert serves(w) and w.gateways() == pids[1:]
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def is_written():
        assert serves(w, "/after")
        return "/after" in w.access_path.read_text()

    wait_for("lines are written again", is_written)
    w.signal(signal.SIGHUP)
    wait_for("a reload works", lambda: w.metrics().sum("weir_config_reloads_total", result="ok") == 1)


def test_a_log_on_a_full_device(weir, serve):
    w = weir(serve(), log={"access": "/dev/full"})
    for _ in range(20):
        assert serves(w)
    wait_for("it is said", lambda: "cannot write to '/dev/full', lines are lost: No space left" in w.log())
    wait_for("it is counted", lambda: w.metrics().sum("weir_log_dropped_total") > 0)


# Log files that are gone.


def test_log_files_that_are_gone_are_made_anew_on_sigusr1(weir, serve, tmp_path):
    log = tmp_path / "weir.log"
    w = weir(serve(), log={"file": str(log)})
    assert serves(w)
    w.await_access(1)
    log.unlink()
    w.access_path.unlink()
    assert serves(w)
    w.signal(signal.SIGUSR1)
    wait_for("there are new files", lambda: log.exists() and w.access_path.exists())
    assert serves(w, "/in-the-new-one")
    wait_for("they are used", lambda: "/in-the-new-one" in w.access_path.read_text())


def test_a_log_directory_that_is_gone_is_complained_of(weir, serve, tmp_path):
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    w = weir(serve(), log={"access": str(folder / "access.log")})
    assert serves(w, "/1")
    wait_for("the first line is there", lambda: "/1" in (folder / "access.log").read_text())
    folder.rename(moved)
    w.signal(signal.SIGUSR1)
    wait_for("it is said", lambda: "the old file stays in use: No such file" in w.log())
    assert serves(w, "/2")
    wait_for("the old file is used", lambda: "/2" in (moved / "access.log").read_text())
    folder.mkdir()
    w.signal(signal.SIGUSR1)
    wait_for("there is a new file", (folder / "access.log").exists)
    assert serves(w, "/3")
    wait_for("it is used", lambda: "/3" in (folder / "access.log").read_text())


# The clock.


@pytest.mark.skipif(VARIANT != "release", reason="libfaketime and sanitizers want to be loaded first, both")
@pytest.mark.skipif(not FAKETIME.exists(), reason=f"there is no {FAKETIME}")
def test_the_clock_may_be_set_back_and_forward(weir, serve, tmp_path):
    """The wall clock only dates: what is timed is timed by CLOCK_MONOTONIC, which nobody can set."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    go_on = threading.Event()

    def answer(asked):
        if asked.target == "/slow":
            go_on.wait(scaled(60))
        return response(body=b"ok")

    env = {
        **os.environ,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    w = weir(serve(answering(answer)), pipeline={"deadline": "30s"}, env=env,
             routes=[{"match": {"path": "/slow"}, "pipeline": "up", "deadline": "1s"}, {"pipeline": "up"}])

    with w.client() as waiting, w.client() as idle:
        idle.send(request())
        assert idle.read_response().status == 200
        waiting.send(request(method="POST", target="/upload", fields=["Content-Length: 4"]), b"ha")
        for days in (-30, 30, -3000, 0):
            clock.write_text(f"{days:+d}d")
            start = time.monotonic()
            assert serves(w)
            expect_problem(w.exchange(request(target="/slow")), 504)
            assert 0.9 <= time.monotonic() - start < scaled(5)
            assert w.admin("/healthz")[0] == 200
            assert w.gateways() and w.metrics().sum("weir_gateway_restarts_total") == 0
        go_on.set()
        waiting.send(b"lf")
        assert waiting.read_response().body == b"ok"
        idle.send(request())
        assert idle.read_response().status == 200
    stamps = {line["time"][:4] for line in w.await_access(10)}
    assert len(stamps) > 1, f"the clock was not set: {stamps}"


# Dead DNS.


def test_dns_that_is_dead_at_run_time_changes_nothing(weir, serve, names):
    upstream = serve(address="127.0.0.2")
    names.records["engine.test"] = ["127.0.0.2"]
    w = weir(f"engine.test:{upstream.port}", server={"resolver": names.address, "resolve_interval": "200ms"})
    assert serves(w)
    names.close()
    wait_for("it is said", lambda: "cannot resolve 'engine.test', keeping its 1 addresses" in w.log())
    assert all(serves(w) for _ in range(20))


@pytest.mark.threads
@pytest.mark.parametrize("is_silent", [False, True])
def test_a_gateway_that_dies_while_dns_is_dead_starts_again(weir, serve, names, is_silent):
    upstream = serve(address="127.0.0.2")
    names.records["engine.test"] = ["127.0.0.2"]

    def config(directory):
        made = base_config(directory, [f"engine.test:{upstream.port}"])
        made["server"].update(resolver=names.address, resolve_interval="1s")
        made["pipeline"][0]["hold"] = 0  # it is told at once
        made["pipeline"].append({"name": "literal", "endpoints": [f"127.0.0.2:{upstream.port}"]})
        made["route"].append({"match": {"path": "/literal"}, "pipeline": "literal"})
        return made

    w = weir(config=config)
    assert serves(w)
    names.is_silent = is_silent
    del names.records["engine.test"]
    dead = w.gateway
    os.kill(dead, signal.SIGKILL)
    wait_for("it is gone", lambda: dead not in w.gateways())
    # Served at once by what has an address, and refused with the reason by what has none.
    start = time.monotonic()
    assert serves(w, "/literal")
    assert time.monotonic() - start < scaled(5)
    problem = expect_problem(w.exchange(request()), 503, pipeline="up")
    assert "endpoint" in problem["type"]
    assert "cannot resolve 'engine.test', which has no address until that works" in w.log()
    names.is_silent = False
    names.records["engine.test"] = ["127.0.0.2"]
    wait_for("it is served again", lambda: serves(w))
    assert w.metrics().sum("weir_gateway_restarts_total") == 1


def test_a_reload_while_dns_is_dead_is_refused_and_the_old_gateway_stays(weir, serve, names):
    upstream = serve(address="127.0.0.2")
    names.records["engine.test"] = ["127.0.0.2"]
    w = weir(f"engine.test:{upstream.port}", server={"resolver": names.address, "resolve_interval": "1s"})
    del names.records["engine.test"]
    w.signal(signal.SIGHUP)
    wait_for("it has failed", lambda: w.metrics().sum("weir_config_reloads_total", result="failed") == 1)
    assert "cannot resolve 'engine.test' of pipeline 'up': no such name" in w.log()
    assert all(serves(w) for _ in range(5))
