"""server.state_file: what weir has learnt is there after a restart, and a file that cannot be used or
written is no reason not to serve."""

import json
import os
import resource
import signal
import time

import pytest
from harness.env import free_port, wait_for
from harness.upstream import answering
from harness.weir import toml
from harness.wire import request, response


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.json"


def sections(path):
    state = json.loads(path.read_text())
    assert state["weir_state"] == 1
    return state["sections"]


def await_sections(path, condition=lambda s: True):
    """What is in the file, once it is there and @condition holds."""
    def look():
        if path.exists() and condition(sections(path)):
            return [sections(path)]
        return None

    return wait_for("the state file has it", look)[0]


def end(w):
    w.signal()
    assert w.await_exit() == 0


def kill_gateway(w):
    old = w.gateway
    os.kill(old, signal.SIGKILL)
    wait_for("another gateway serves",
             lambda: any(p != old and f"gateway {p} serves" in w.log() for p in w.gateways()))


def stale(failures, address, age_ms=0, **others):
    """A file with one endpoint of pipeline "up" that could not be dialled @age_ms ago."""
    return json.dumps({"weir_state": 1, "sections": {"endpoints": {"up": {address: {
        "failures": failures, "reason": "connect_refused",
        "dial_after": int(time.time() * 1000) - age_ms}}}, **others}})


def test_deaths_of_gateways_count_after_a_restart(weir, serve, path):
    upstream = serve()
    w = weir(upstream, server={"state_file": str(path)})
    assert await_sections(path)["deaths"] == {"at": []}
    for _ in range(5):
        kill_gateway(w)
    end(w)
    assert "more than 5 times" not in w.log()
    assert len(sections(path)["deaths"]["at"]) == 5
    assert not path.with_name("state.json.bad").exists() and not path.with_name("state.json.new").exists()
    w = weir(upstream, server={"state_file": str(path)})
    wait_for("it says so", lambda: "5 gateways died in the last 60 s, before this start" in w.log())
    assert w.exchange(request()).status == 200
    os.kill(w.gateway, signal.SIGKILL)
    wait_for("it is slow", lambda: "gateways died more than 5 times in 60 s" in w.log())


def test_they_do_not_without_a_file(weir, serve, path):
    upstream = serve()
    w = weir(upstream)
    for _ in range(5):
        kill_gateway(w)
    end(w)
    assert not path.exists()
    w = weir(upstream)
    kill_gateway(w)
    end(w)
    assert "more than 5 times" not in w.log() and "before this start" not in w.log()


def test_failed_dials_are_there_after_a_restart(weir, path):
    address = f"127.0.0.1:{free_port()}"
    w = weir(address, server={"state_file": str(path)}, pipeline={"hold": 0})
    assert w.exchange(request()).status == 502
    end(w)
    failures = sections(path)["endpoints"]["up"][address]["failures"]
    assert failures >= 1 and sections(path)["endpoints"]["up"][address]["reason"] == "connect_refused"
    # The next one goes on from what is there, and drops what nobody knows.
    path.write_text(stale(500, address, age_ms=500, what_is_this={"x": 1}))
    w = weir(address, server={"state_file": str(path)}, pipeline={"hold": 0})
    found = await_sections(path, lambda s: "what_is_this" not in s)
    assert found["endpoints"]["up"][address]["failures"] == 500
    assert w.exchange(request()).status == 502
    end(w)
    assert sections(path)["endpoints"]["up"][address]["failures"] > 500


@pytest.mark.parametrize("age_ms", [3600_000, -3600_000], ids=["long ago", "the clock was set back"])
def test_an_old_backoff_is_not_held(weir, serve, path, age_ms):
    upstream = serve()
    path.write_text(stale(500, upstream.endpoint, age_ms))
    w = weir(upstream, server={"state_file": str(path)})
    assert await_sections(path, lambda s: "deaths" in s)["endpoints"] == {}
    assert w.exchange(request()).status == 200


@pytest.mark.parametrize("text", ["", "{\"weir_state\": 1, \"sections\": {", "[server]\nthreads = 2\n",
                                  "{\"weir_state\": 99, \"sections\": {}}", "x" * (2 << 20)],
                         ids=["empty", "cut", "foreign", "later", "large"])
def test_a_file_that_cannot_be_used_is_set_aside(weir, serve, path, text):
    path.write_text(text)
    w = weir(serve(), server={"state_file": str(path)})
    assert w.exchange(request()).status == 200
    assert await_sections(path)["deaths"] == {"at": []}
    assert path.with_name("state.json.bad").read_text() == text
    said = f"cannot use the state file '{path}', starting without and setting it aside as '{path}.bad': "
    wait_for("it says so", lambda: said in w.log())


def test_a_file_that_cannot_be_written_is_told_of_once_and_serving_goes_on(weir, serve, tmp_path):
    directory = tmp_path / "not-yet"
    w = weir(serve(), server={"state_file": str(directory / "state.json")})
    assert f"warning: server.state_file: no file can be written in '{directory}/': No such file" in w.log()
    wait_for("it says so", lambda: "cannot write the state file" in w.log())
    assert w.exchange(request()).status == 200
    directory.mkdir()
    w.signal(signal.SIGHUP)
    await_sections(directory / "state.json")
    wait_for("a new gateway is alone", lambda: len(w.gateways()) == 1)
    assert w.exchange(request()).status == 200
    end(w)
    assert w.log().count("cannot write the state file") == 1


def test_a_full_disk_leaves_what_was_there(weir, serve, path, tmp_path):
    # The limit below holds for every file, so the log goes into a pipe.
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    log = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    address = f"127.0.0.1:{free_port()}"
    w = weir(serve(answering()).endpoint, address, server={"state_file": str(path)},
             log={"file": str(fifo), "access": "off"}, pipeline={"retry": {"attempts": 2}})
    before = await_sections(path)
    resource.prlimit(w.gateway, resource.RLIMIT_FSIZE, (16, 16))
    pid = w.gateway
    for _ in range(30):
        assert w.exchange(request()).status == 200  # of those that try the other endpoint first, a retry
    end(w)
    said = b""
    try:
        while True:
            said += os.read(log, 1 << 16)
    except BlockingIOError:
        pass
    os.close(log)
    assert f"cannot write the state file '{path}'".encode() in said and b"File too large" in said
    assert b"died" not in said and pid != 0
    assert sections(path) == before
    assert not path.with_name("state.json.new").exists()


def test_what_changed_is_written_before_a_reload(weir, path):
    address = f"127.0.0.1:{free_port()}"
    w = weir(address, server={"state_file": str(path)}, pipeline={"hold": 0})
    await_sections(path)
    assert w.exchange(request()).status == 502
    w.file.write_text("broken")
    w.signal(signal.SIGHUP)  # refused, but that turns out only later
    assert address in await_sections(path, lambda s: s["endpoints"])["endpoints"]["up"]


@pytest.mark.threads
def test_a_gateway_that_finishes_does_not_write_what_its_successor_keeps(weir, serve, up, path):
    gone = f"127.0.0.1:{free_port()}"
    w = weir(up, server={"state_file": str(path)}, routes=[
        {"match": {}, "pipeline": "up"}])
    config = dict(w.config, pipeline=w.config["pipeline"] + [{"name": "gone", "endpoints": [gone], "hold": 0}],
                  route=w.config["route"] + [{"match": {"path": "/gone"}, "pipeline": "gone"}])
    w.file.write_text(toml(config))
    w.signal(signal.SIGHUP)
    wait_for("the second generation serves", lambda: "(generation 2)" in w.log() and len(w.gateways()) == 1)
    await_sections(path)
    stream = w.client()
    stream.send(request())
    upstream = up.accept()
    upstream.read_request()
    upstream.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    upstream.send_chunk("data: x\n\n")
    client = w.client()
    client.send(request(target="/gone"))
    assert client.read_response().status == 502
    w.file.write_text(w.text)
    w.signal(signal.SIGHUP)
    wait_for("the third generation serves", lambda: "(generation 3)" in w.log() and
             w.admin("/readyz")[0] == 200)
    assert len(w.gateways()) == 2  # the stream is not over
    await_sections(path, lambda s: s["endpoints"] == {})
    client.send(request(target="/gone"))  # the old one learns something, for nobody
    assert client.read_response().status == 502
    upstream.send_chunk("")
    wait_for("the second one has ended", lambda: len(w.gateways()) == 1)
    assert sections(path)["endpoints"] == {}
    end(w)
    assert sections(path)["endpoints"] == {}
    assert "state file" not in w.log()
