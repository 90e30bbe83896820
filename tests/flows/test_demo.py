"""`weir demo`: one command, nothing to configure, and what it prints works."""

import asyncio
import re
import shlex
import shutil
import subprocess
import time

import pytest
import websockets
from harness.env import scaled, wait_for
from harness.weir import Weir, http_get
from harness.wire import connect, request


@pytest.fixture
def demo(tmp_path):
    w = Weir(None, tmp_path / "demo", command="demo", wait=False)
    try:

        def printed():
            if not w.is_running():
                raise AssertionError(f"the demo ended with {w.process.returncode}:\n{w.log()}")
            text = w.stdout() + w.log()
            lines = [x.strip().removeprefix("$ ") for x in text.splitlines()]
            curls = [x for x in lines if x.startswith("curl ")]
            return curls if len(curls) >= 3 else None

        w.curls = wait_for("the demo prints three curl lines", printed, 15)
        w.text = w.stdout() + w.log()
        url = re.search(r"https?://[^/\s\"']+", w.curls[0])[0]
        w.base = url
        w.demo_port = int(url.rpartition(":")[2])

        def answers():
            try:
                connect(w.demo_port).close()
                return True
            except OSError:
                return False

        wait_for("the demo answers", answers)
        yield w
    finally:
        w.stop()


def test_the_curl_lines_that_it_prints_work(demo):
    assert shutil.which("curl"), "curl is not installed"
    for line in demo.curls[:3]:
        argv = shlex.split(line.partition(" #")[0].partition(" |")[0])
        done = subprocess.run(
            [*argv, "--noproxy", "*", "--max-time", str(int(scaled(8))), "-sS"],
            capture_output=True,
            text=True,
        )
        # 28: an endless stream of events, cut off by us after having answered.
        assert done.returncode in (0, 28), f"{line}: {done.stderr}"
        assert done.stdout.strip(), f"{line}: no output"


def linked(demo, *words):
    """The path of the demo engine that is printed for one of @words."""
    for word in words:
        found = re.search(rf"(?:https?://[^/\s]+|wss?://[^/\s]+)?(/[\w./?=&-]*{word}[\w./?=&-]*)", demo.text)
        if found:
            return found[1]
    return f"/{words[0]}"


def test_the_demo_echoes_json(demo):
    with connect(demo.demo_port) as client:
        client.send(request("POST", linked(demo, "echo"), ["Content-Type: text/plain"], b"hello demo"))
        answer = client.read_response()
    assert answer.status == 200
    assert "json" in answer.fields.get("content-type")
    assert b"hello demo" in answer.body and b"POST" in answer.body


def test_the_demo_streams_events(demo):
    with connect(demo.demo_port, timeout=10) as client:
        client.send(request(target=linked(demo, "events", "sse")))
        answer = client.read_response_head()
        assert answer.fields.get("content-type").startswith("text/event-stream")
        start = time.monotonic()
        seen = b""
        while seen.count(b"data:") < 2:
            seen += client.read_chunk()
        assert time.monotonic() - start < scaled(10)


def test_the_demo_echoes_websocket_messages(demo):
    async def talk():
        async with websockets.connect(f"ws://127.0.0.1:{demo.demo_port}{linked(demo, 'ws')}") as socket:
            await socket.send("hello")
            while await socket.recv() != "hello":
                pass

    asyncio.run(asyncio.wait_for(talk(), scaled(15)))


@pytest.mark.parametrize("status", [404, 500, 503])
def test_the_demo_fails_on_demand(demo, status):
    path = linked(demo, "status", "fail")
    path = re.sub(r"/\d{3}\b", f"/{status}", path) if re.search(r"/\d{3}\b", path) else f"{path.rstrip('/')}/{status}"
    assert http_get(f"{demo.base}{path}")[0] == status


def test_the_demo_has_an_admin_plane(demo):
    admin = re.search(r"(https?://\S+:\d+)/(metrics|status|healthz)", demo.text)
    assert admin, f"no admin address in:\n{demo.text}"
    status, _, body = http_get(admin[1] + "/metrics")
    assert status == 200 and b"weir_build_info" in body
