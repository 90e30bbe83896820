"""`weir demo`: one command, nothing to configure, and what it prints works."""

import asyncio
import base64
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
import websockets
from harness.env import free_port, is_gone, scaled, wait_for
from harness.weir import Weir, http_get, run_cli
from harness.wire import Closed, Reset, chunked, connect, request
from harness.ws import UPGRADE, frame

MIB = 1 << 20


def open_demo(directory):
    port, admin = free_port(), free_port()
    args = ("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
    w = Weir(None, directory, command="demo", args=args, wait=False)
    w.ports["http"] = port
    w.admin_port = admin
    try:
        w.await_ready(15)
        wait_for("the greeting", lambda: "Ctrl-C" in w.stdout())
    except BaseException:
        w.stop()
        raise
    [pipeline] = w.status()["pipelines"]
    w.engine_pid = pipeline["process"]["instances"][0]["pid"]
    endpoint = re.search(r"127\.0\.0\.1:(\d+)", json.dumps(w.status()["pipelines"]))
    w.engine_port = int(endpoint[1])
    return w


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    w = open_demo(tmp_path_factory.mktemp("demo"))
    yield w
    w.stop()


@pytest.fixture
def own_demo(tmp_path):
    w = open_demo(tmp_path / "demo")
    yield w
    w.stop()


@pytest.fixture
def client(demo):
    with connect(demo.port) as wire:
        yield wire


@pytest.fixture
def direct(demo):
    """To the engine itself."""
    with connect(demo.engine_port) as wire:
        yield wire


def get(demo, path):
    return http_get(demo.url(path))


# --- What it prints --------------------------------------------------------------------------------------


def run_curl(line):
    argv = shlex.split(line, comments=True)
    done = subprocess.run(
        [*argv, "--noproxy", "*", "--max-time", str(int(scaled(3))), "-sS"], capture_output=True
    )
    # 28: an endless stream, cut off by us after having answered.
    assert done.returncode in (0, 28), f"{line}: {done.stderr}"
    return done.stdout


def run_curls(lines):
    with concurrent.futures.ThreadPoolExecutor(len(lines)) as pool:
        return list(pool.map(run_curl, lines))


def test_the_curl_lines_that_it_prints_work(demo):
    assert shutil.which("curl"), "curl is not installed"
    curls = [x.strip() for x in demo.stdout().splitlines() if x.strip().startswith("curl ")]
    assert len(curls) >= 3
    answers = run_curls(curls)
    assert all(answers), answers
    words = b"\n".join(answers)
    assert b'"method": "POST"' in words and b"\nid: 2\n" in words
    assert b"502 Bad Gateway" in words and b"weir_build_info" in words


def test_the_index_lists_what_works(demo, tmp_path):
    status, fields, body = get(demo, "/")
    assert status == 200 and fields["content-type"].startswith("text/plain")
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100000)
    curls = re.findall(r"^ +\$ (curl (?:[^\n\\]|\\\n)*)", body.decode(), re.M)
    assert len(curls) >= 12
    curls = [line.replace("\\\n", " ").replace("FILE", str(file)) for line in curls]
    for line, answer in zip(curls, run_curls(curls)):
        assert answer or "/dev/null" in line, line


def test_the_index_shows_the_address_that_was_asked(demo):
    _, _, body = http_get(f"http://127.0.0.1:{demo.engine_port}/")
    assert f"http://127.0.0.1:{demo.engine_port}/echo".encode() in body


# --- Echo, upload, download ------------------------------------------------------------------------------


def test_echo_tells_what_it_got(client):
    fields = ["X-One: a", "x-one: b", "X-Latin: caf\xe9"]
    client.send(request("PATCH", "/echo?x=1&y=", fields, "gr\u00fc\u00df dich\0".encode()))
    echo = json.loads(client.read_response().body)
    assert (echo["method"], echo["path"], echo["query"]) == ("PATCH", "/echo", "x=1&y=")
    assert echo["content"] == "gr\u00fc\u00df dich\0" and echo["bytes"] == 12
    assert echo["fields"]["x-one"] == ["a", "b"] and echo["fields"]["x-latin"] == "caf\u00e9"
    assert echo["client"] == "127.0.0.1" and echo["host"] == "weir.test"


def test_echo_gives_content_that_is_no_text_in_base64(client):
    content = bytes(range(256)) * 100
    client.send(request("POST", "/echo", ["Transfer-Encoding: chunked"]) + chunked(content))
    echo = json.loads(client.read_response().body)
    assert base64.b64decode(echo["content_base64"]) == content and "content" not in echo


@pytest.mark.parametrize("is_chunked", [False, True])
def test_echo_takes_a_mebibyte_and_no_more(demo, is_chunked):
    for size, status in (MIB, 200), (MIB + 1, 413):
        with connect(demo.port) as wire:
            if is_chunked:
                wire.send(request("POST", "/echo", ["Transfer-Encoding: chunked"]) + chunked(b"x" * size))
            else:
                wire.send(request("POST", "/echo", body=b"x" * size))
            answer = wire.read_response()
            assert answer.status == status
            assert status != 200 or json.loads(answer.body)["content"] == "x" * size


def test_echo_waits_for_content_that_waits_for_100_continue(client):
    client.send(request("POST", "/echo", ["Expect: 100-continue", "Content-Length: 2"]))
    assert client.read_response_head().status == 100
    client.send(b"hi")
    assert json.loads(client.read_response().body)["content"] == "hi"


@pytest.mark.parametrize("is_chunked", [False, True])
def test_upload_counts(client, is_chunked):
    part = b"x" * 65536
    if is_chunked:
        client.send(request("POST", "/upload", ["Transfer-Encoding: chunked"]) + chunked(*[part] * 160))
    else:
        client.send(request("POST", "/upload", [f"Content-Length: {160 * 65536}"]))
        for _ in range(160):
            client.send(part)
    assert json.loads(client.read_response().body) == {"bytes": 160 * 65536}


@pytest.mark.parametrize("n", [0, 1, 32768, 5 * MIB + 7])
def test_bytes_gives_that_many(client, n):
    for _ in range(2):  # on one connection
        client.send(request(target=f"/bytes?n={n}"))
        assert len(client.read_response().body) == n


def test_bytes_waits_for_a_slow_reader(demo, direct):
    def rss():
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{demo.engine_pid}/status").read_text())[1])

    before = rss()
    direct.send(request(target="/bytes?n=1073741824"))
    direct.read_response_head()
    direct.read_exactly(50 * MIB)
    time.sleep(0.2)  # the time to do it wrong: everything would be in its memory by then
    assert rss() - before < 16 * 1024


# --- Streams ---------------------------------------------------------------------------------------------


def test_slow_takes_its_time(client):
    start = time.monotonic()
    client.send(request(target="/slow?ms=300"))
    assert client.read_response().status == 200
    assert 0.3 <= time.monotonic() - start < scaled(2)


def test_stream_trickles(client):
    start = time.monotonic()
    client.send(request(target="/stream?chunks=4&ms=100&bytes=20"))
    assert client.read_response_head().is_chunked
    seen = [(client.read_chunk(), time.monotonic() - start) for _ in range(4)]
    assert client.read_chunk() == b""
    assert [text for text, _ in seen] == [b"chunk %d of 4 ......\n" % (i + 1) for i in range(4)]
    for i, (_, at) in enumerate(seen):
        assert 0.1 * i <= at < 0.1 * i + scaled(1)


def test_stream_without_a_pause_gives_all(client):
    client.send(request(target="/stream?chunks=20000&ms=0&bytes=100"))
    assert len(client.read_response().body) == 2000000


def test_events_come_one_by_one(client):
    start = time.monotonic()
    client.send(request(target="/events/sse?ms=200"))
    answer = client.read_response_head()
    assert answer.fields.get("content-type") == "text/event-stream"
    for i in range(4):
        chunk = client.read_chunk()
        assert chunk.startswith(b"id: %d\ndata: {" % (i + 1)) and chunk.endswith(b"}\n\n")
        assert 0.2 * i <= time.monotonic() - start < 0.2 * i + scaled(1)


def test_events_go_on_behind_the_last_one_that_was_seen(client):
    client.send(request(target="/events/sse?n=5&ms=1", fields=["Last-Event-ID: 3"]))
    assert re.findall(rb"id: (\d+)", client.read_response().body) == [b"4", b"5"]
    client.send(request(target="/events/sse?n=5&ms=1", fields=["Last-Event-ID: 5"]))
    assert client.read_response().status == 204


# --- WebSocket -------------------------------------------------------------------------------------------


def talk(demo, conversation, **options):
    async def run():
        options.setdefault("max_size", None)
        async with websockets.connect(f"ws://127.0.0.1:{demo.port}/ws", **options) as socket:
            return await conversation(socket)

    return asyncio.run(asyncio.wait_for(run(), scaled(20)))


@pytest.mark.parametrize("message", ["", "hello", "gr\u00fc\u00df", b"\x00\xff" * 100, b"x" * 65535, "y" * 65536,
                                     b"z" * MIB], ids=lambda m: f"{type(m).__name__}{len(m)}")
def test_websocket_says_what_you_say(demo, message):
    async def conversation(socket):
        await socket.send(message)
        assert await socket.recv() == message

    talk(demo, conversation)


def test_websocket_puts_fragments_together_and_answers_pings(demo):
    async def conversation(socket):
        async def fragments():
            yield "one "
            await (await socket.ping(b"between"))
            yield "two "
            yield "three"

        await socket.send(fragments())
        assert await socket.recv() == "one two three"
        await socket.close(4001, "enough")
        assert socket.close_code == 4001

    talk(demo, conversation)


def test_websocket_takes_many_messages_before_one_is_read(demo):
    async def conversation(socket):
        async def send():
            for i in range(300):
                await socket.send(bytes([i % 256]) * 20000)

        sending = asyncio.ensure_future(send())
        await asyncio.sleep(0.2)
        for i in range(300):
            assert await socket.recv() == bytes([i % 256]) * 20000
        await sending

    talk(demo, conversation)


CLOSES = {
    "unmasked": (frame(1, b"hi", mask=b""), 1002),
    "reserved bit": (frame(1, b"hi", reserved=0x40), 1002),
    "reserved opcode": (frame(3), 1002),
    "continuation of nothing": (frame(0), 1002),
    "text in the middle": (frame(1, b"a", final=False) + frame(1, b"b"), 1002),
    "fragmented ping": (frame(9, final=False), 1002),
    "long ping": (frame(9, b"x" * 126), 1002),
    "long form of a short length": (b"\x81\xfe\0\1" + b"\0" * 5, 1002),
    "not UTF-8": (frame(1, b"\xc0\x80"), 1007),
    "too big": (b"\x82\xff" + struct.pack(">Q", MIB + 1) + b"\0\0\0\0", 1009),
    "too big in pieces": (frame(2, b"x" * MIB, final=False) + frame(0, b"x"), 1009),
    "close with a code": (frame(8, struct.pack(">H", 3000) + b"bye"), 3000),
    "close with half a code": (frame(8, b"x"), 1002),
    "close with a code that is none": (frame(8, struct.pack(">H", 1005)), 1002),
    "close without a code": (frame(8), None),
}


@pytest.mark.parametrize("frames, code", CLOSES.values(), ids=CLOSES.keys())
def test_websocket_closes(client, frames, code):
    client.send(request(target="/ws", fields=UPGRADE))
    answer = client.read_response_head()
    assert answer.status == 101
    assert answer.fields.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    client.send(frames)
    close = b"" if code is None else struct.pack(">H", code)
    assert client.read_exactly(2 + len(close)) == bytes([0x88, len(close)]) + close
    client.expect_end()


def test_websocket_notices_who_leaves_without_a_word(demo, direct):
    direct.send(request(target="/ws", fields=UPGRADE) + frame(1, b"first"))
    assert direct.read_response_head().status == 101
    assert direct.read_exactly(7) == b"\x81\5first"
    direct.shutdown()
    direct.expect_end()


@pytest.mark.parametrize("fields", [[], UPGRADE[:3], [*UPGRADE[:2], "Sec-WebSocket-Version: 8", UPGRADE[3]],
                                    [*UPGRADE[:3], "Sec-WebSocket-Key: short"]])
def test_websocket_wants_a_handshake(client, fields):
    client.send(request(target="/ws", fields=fields))
    answer = client.read_response()
    assert answer.status == 426 and answer.fields.get("sec-websocket-version") == "13"


# --- Failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 205, 304, 404, 418, 500, 503, 599])
def test_status_is_any_status(client, status):
    for _ in range(2):
        client.send(request(target=f"/status/{status}"))
        assert client.read_response().status == status


@pytest.mark.parametrize("target", ["/status/199", "/status/600", "/status/", "/status/2000", "/status/abc",
                                    "/slow?ms=60001", "/slow?ms=-1", "/slow?ms=", "/stream?chunks=0", "/bytes?n=2000000000",
                                    "/bytes?n=99999999999999999999", "/fail", "/fail?how=no", "/flaky?percent=101"])
def test_a_parameter_out_of_range_is_refused(client, target):
    client.send(request(target=target))
    answer = client.read_response()
    assert answer.status == 400 and answer.body


def test_what_is_not_there_is_404(client):
    client.send(request(target="/nowhere") + request(target="/healthz"))
    assert client.read_response().status == 404
    assert client.read_response().status == 200


@pytest.mark.parametrize("how, status", [("reset", 502), ("close", 502), ("garbage", 502), ("hang", 504)])
def test_weir_answers_for_an_engine_that_fails(demo, how, status):
    with connect(demo.port) as wire:
        wire.send(request(target=f"/fail?how={how}"))
        answer = wire.read_response()
    assert answer.status == status and answer.fields.get("proxy-status")


def test_truncated_content_stays_truncated(client):
    client.send(request(target="/fail?how=truncate"))
    with pytest.raises((Closed, Reset)):
        client.read_response()


def test_the_failures_are_what_they_say(demo):
    def engine(how):
        wire = connect(demo.engine_port)
        wire.send(request("POST", f"/fail?how={how}", body=b"x" * 100))
        return wire

    with engine("reset") as wire, pytest.raises(Reset):
        wire.read_response()
    with engine("close") as wire:
        wire.expect_end()
    with engine("truncate") as wire:
        assert wire.read_response_head().length == 1000
        assert 0 < len(wire.read_to_end()) < 1000
    with engine("garbage") as wire:
        assert re.match(rb"HTTP/\d\.\d \d\d\d", wire.read_to_end()) is None
    with engine("hang") as wire:
        assert wire.is_quiet(0.3)


def test_early_answers_before_the_content_is_there(direct):
    direct.send(request("POST", "/early", ["Content-Length: 200000"]))
    assert b" 0 bytes" in direct.read_response().body
    direct.send(b"x" * 200000 + request(target="/healthz"))  # the connection goes on
    assert direct.read_response().status == 200


@pytest.mark.parametrize("percent, statuses", [(0, {200}), (100, {503}), (50, {200, 503})])
def test_flaky_fails_for_a_share(client, percent, statuses):
    seen = set()
    for _ in range(50):
        client.send(request(target=f"/flaky?percent={percent}"))
        seen.add(client.read_response().status)
    assert seen == statuses


# --- The engine as a user of the codec -------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(direct):
    wanted = [f"/slow?ms={ms}" for ms in (80, 5, 40, 0)]
    direct.send(b"".join(request(target=t) for t in wanted))
    for target in wanted:
        assert f" {target.partition('=')[2]} ms" in direct.read_response().body.decode()


def test_requests_behind_long_content_are_answered(direct):
    body = request("POST", "/upload", ["Transfer-Encoding: chunked"]) + chunked(*[b"x" * 3000] * 100)
    direct.send((body + request(target="/bytes?n=300000") + request("HEAD", "/bytes?n=7")) * 3)
    for _ in range(3):
        assert json.loads(direct.read_response().body) == {"bytes": 300000}
        assert len(direct.read_response().body) == 300000
        assert direct.read_response("HEAD").length == 7


def test_http_1_0_gets_its_content_up_to_the_end(direct):
    direct.send(request(target="/stream?chunks=3&ms=1&bytes=20", version="HTTP/1.0"))
    answer = direct.read_response()
    assert not answer.is_chunked and len(answer.body) == 60
    direct.expect_end()


def test_malformed_content_is_refused(direct):
    direct.send(request("POST", "/echo", ["Transfer-Encoding: chunked"]) + b"zz\r\n")
    assert direct.read_response().status == 400
    direct.expect_end()


def test_many_connections_at_once(demo):
    statuses = []

    def visit():
        with connect(demo.port) as wire:
            for target in "/slow?ms=20", "/bytes?n=100000", "/status/404", "/flaky?percent=0":
                wire.send(request(target=target))
                statuses.append(wire.read_response().status)

    threads = [threading.Thread(target=visit) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 90 + [404] * 30


# --- How it starts and ends ------------------------------------------------------------------------------


def test_sigterm_ends_both(own_demo):
    own_demo.signal()
    assert own_demo.await_exit() == 0
    assert is_gone(own_demo.engine_pid)
    assert "killed" not in own_demo.log()


def test_ctrl_c_lets_what_is_under_way_finish(own_demo):
    with connect(own_demo.port) as wire:
        wire.send(request(target="/slow?ms=700"))
        own_demo.await_metric("weir_exchanges_active", 1)
        os.killpg(own_demo.pid, signal.SIGINT)  # as a terminal does: to both
        assert wire.read_response().status == 200
    assert own_demo.await_exit() == 0
    assert is_gone(own_demo.engine_pid)


def test_the_engine_goes_when_weir_is_killed(own_demo):
    own_demo.must_be_clean = False
    with connect(own_demo.port) as wire:
        wire.send(request(target="/events/sse"))
        wire.read_response_head()
        own_demo.signal(signal.SIGKILL)
        own_demo.await_exit()
        wait_for("the engine is gone", lambda: is_gone(own_demo.engine_pid))


def test_an_engine_that_is_told_to_end_ends_its_streams(own_demo):
    with connect(own_demo.engine_port) as events, connect(own_demo.engine_port) as socket:
        events.send(request(target="/events/sse"))
        events.read_response_head()
        socket.send(request(target="/ws", fields=UPGRADE))
        assert socket.read_response_head().status == 101
        os.kill(own_demo.engine_pid, signal.SIGTERM)
        while events.read_chunk():
            pass
        assert socket.read_exactly(4) == b"\x88\x02" + struct.pack(">H", 1001)
        socket.expect_end()
    wait_for("the engine is gone", lambda: is_gone(own_demo.engine_pid))


def test_an_engine_that_dies_is_started_again(own_demo):
    os.kill(own_demo.engine_pid, signal.SIGKILL)
    wait_for("it is gone", lambda: is_gone(own_demo.engine_pid))
    wait_for("another one answers", lambda: http_get(own_demo.url("/"))[0] == 200)


@pytest.mark.parametrize("args, words", [
    (["--listen"], "--listen needs an address"),
    (["--listen", "nonsense"], "--listen: found 'nonsense', expected an address"),
    (["--listen=8080"], "did you mean"),
    (["--admin", "[::1:1"], "--admin: found"),
    (["--port", "1"], "unexpected '--port'"),
    (["weir.toml"], "unexpected 'weir.toml'"),
])
def test_unusable_arguments_are_named(args, words):
    status, out, err = run_cli("demo", *args)
    assert status == 2 and not out and words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--listen", "--admin"])
def test_a_busy_address_is_named_with_a_way_out(demo, option):
    other = "--admin" if option == "--listen" else "--listen"
    busy = f"127.0.0.1:{demo.port}"
    status, _, err = run_cli("demo", option, busy, other, f"127.0.0.1:{free_port()}")
    assert status == 2 and busy in err and f"{option} ADDRESS" in err


def test_it_listens_on_a_unix_socket_and_goes_without_an_admin_plane(tmp_path):
    path = tmp_path / "weir.sock"
    w = Weir(None, tmp_path / "demo", command="demo", wait=False,
             args=("--listen", f"unix:{path}", "--admin", "off"))
    try:
        wait_for("the greeting", lambda: "Ctrl-C" in w.stdout())
        assert "metrics" not in w.stdout()
        line = re.search(r"curl .*/echo", w.stdout())[0]
        assert json.loads(run_curl(line))["content"] == "hello"
    finally:
        w.stop()
    assert not path.exists()
