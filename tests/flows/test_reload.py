"""SIGHUP: a new configuration, a new gateway, the same sockets, and nobody notices."""

import asyncio
import os
import shutil
import signal
import socket
import threading
import time

import pytest
import websockets
from harness.env import BINARY, free_port, scaled, wait_for
from harness.http2 import Http2Client
from harness.traffic import Traffic
from harness.upstream import answering
from harness.weir import http_get, toml
from harness.wire import connect, request, response


def reloads(w, result="ok"):
    return w.metrics().sum("weir_config_reloads_total", result=result)


def reload(w, config=None, result="ok"):
    """Writes @config, if there is one, and waits until it has been taken up or refused."""
    before = reloads(w, result)
    if config is not None:
        w.file.write_text(config if isinstance(config, str) else toml(config))
    w.signal(signal.SIGHUP)
    wait_for(f"a reload is {result}", lambda: reloads(w, result) == before + 1)


def sse(wire):
    """Events until the client goes."""
    wire.read_request()
    wire.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    while True:
        wire.send_chunk("data: x\n\n")
        if not wire.is_quiet(0.05):
            wire.read_abort()
            return


def test_the_new_file_is_served(weir, serve):
    old, new = serve(answering(response(body=b"old"))), serve(answering(response(body=b"new")))
    w = weir(old)
    assert w.exchange(request()).body == b"old"
    w.config["pipeline"][0]["endpoints"] = [new.endpoint]
    reload(w, w.config)
    assert w.exchange(request()).body == b"new"
    wait_for("one gateway is left", lambda: len(w.gateways()) == 1)


def test_a_reload_is_counted_when_nobody_serves_the_old_file_any_more(weir, serve):
    names = [b"even", b"odd"]
    engines = [serve(answering(response(body=name))) for name in names]
    w = weir(engines[0], server={"threads": 2})
    for i in range(1, 31):
        w.config["pipeline"][0]["endpoints"] = [engines[i % 2].endpoint]
        reload(w, w.config)
        assert [w.exchange(request()).body for _ in range(4)] == 4 * [names[i % 2]]


@pytest.mark.parametrize("text", ["this is no toml", "[server]\nthreads = 'many'\n", ""])
def test_a_bad_file_changes_nothing(weir, serve, text):
    w = weir(serve())
    pid = w.gateway
    reload(w, text, "refused")
    assert w.gateways() == [pid]
    assert "the old configuration stays" in w.log() and "weir.toml:1:" in w.log()
    assert w.exchange(request()).status == 200
    reload(w, w.text)
    assert w.gateway != pid


def test_a_file_that_has_gone_changes_nothing(weir, serve):
    w = weir(serve())
    w.file.unlink()
    w.signal(signal.SIGHUP)
    wait_for("it is refused", lambda: reloads(w, "refused") == 1)
    assert "No such file" in w.log()
    assert w.exchange(request()).status == 200


@pytest.mark.soak
def test_a_file_that_cannot_be_read_to_its_end_is_given_up(weir, serve):
    """As on a file system that hangs: nobody writes into this one, for the minute that the check may take."""
    w = weir(serve())
    w.file.unlink()
    os.mkfifo(w.file)
    w.signal(signal.SIGHUP)
    wait_for("it is given up", lambda: reloads(w, "refused") == 1, 80)
    assert "its check took more than 60 s" in w.log()
    assert w.exchange(request()).status == 200
    w.file.unlink()
    w.file.write_text(w.text)
    reload(w, w.text)


def test_a_file_that_was_not_reloaded_is_not_served_after_a_crash(weir, serve):
    w = weir(serve())
    w.file.write_text("broken")
    os.kill(w.gateway, signal.SIGKILL)
    assert w.exchange(request()).status == 200
    assert w.metrics().sum("weir_gateway_restarts_total") == 1


def test_a_gateway_that_cannot_start_changes_nothing(weir, serve, names):
    w = weir(serve())
    config = dict(w.config, server=dict(w.config["server"], resolver=names.address))
    config["pipeline"] = [{"name": "up", "endpoints": ["nowhere.test:80"]}]
    config["listener"] = w.config["listener"] + [{"name": "more", "listen": f"127.0.0.1:{free_port()}"}]
    reload(w, config, "failed")
    assert w.exchange(request()).status == 200
    with pytest.raises(OSError):
        connect(int(config["listener"][1]["listen"].rpartition(":")[2]))


def test_a_busy_address_changes_nothing(weir, serve):
    w = weir(serve())
    with socket.create_server(("127.0.0.1", 0)) as busy:
        config = dict(w.config)
        config["listener"] = w.config["listener"] + [
            {"name": "more", "listen": f"127.0.0.1:{busy.getsockname()[1]}"}]
        reload(w, config, "failed")
    assert "listener 'more'" in w.log()
    assert w.exchange(request()).status == 200


def test_listeners_come_and_go(weir, serve, tmp_path):
    w = weir(serve())
    second = free_port()
    w.config["route"] = [{"match": {}, "pipeline": "up"}]
    http = w.config["listener"][0]
    reload(w, dict(w.config, listener=[http, {"name": "second", "listen": f"127.0.0.1:{second}"},
                                       {"name": "local", "listen": f"unix:{tmp_path}/s"}]))
    assert http_get(f"http://127.0.0.1:{second}/")[0] == 200
    assert (tmp_path / "s").exists()
    reload(w, w.config)
    assert w.exchange(request()).status == 200

    def is_closed():
        try:
            connect(second, timeout=1).close()
            return False
        except OSError:
            return True

    wait_for("the second refuses", is_closed)
    assert not (tmp_path / "s").exists()


def test_the_admin_plane_can_move(weir, serve):
    w = weir(serve())
    port = free_port()
    w.file.write_text(toml(dict(w.config, admin={"listen": f"127.0.0.1:{port}"})))
    w.signal(signal.SIGHUP)
    w.admin_port, old = port, w.admin_port

    def is_up():
        try:
            return w.admin("/readyz")[0] == 200
        except OSError:
            return False

    wait_for("the new one answers", is_up)
    with pytest.raises(OSError):
        connect(old)


def test_the_number_of_threads_may_change_under_load(weir, serve):
    w = weir(serve(), threads=1)
    with Traffic(w.port, clients=12, pause=0.002) as traffic:
        for threads in (4, 1, 2, 3):
            w.config["server"]["threads"] = threads
            reload(w, w.config)
            wait_for("the new one answers", lambda threads=threads: w.status()["threads"] == threads)
            n = len(traffic.answered)
            wait_for("it goes on", lambda: len(traffic.answered) > n + 100)
    traffic.expect_no_failure()


def test_an_idle_connection_is_not_closed_but_told(weir, serve):
    w = weir(serve())
    client = w.client()
    client.send(request())
    assert "close" not in client.read_response().fields.list("connection")
    reload(w)
    assert client.is_quiet(0.3)
    client.send(request())
    answer = client.read_response()
    assert answer.status == 200 and "close" in answer.fields.list("connection")
    client.expect_end()
    wait_for("the old gateway has ended", lambda: len(w.gateways()) == 1)


def test_an_http2_connection_may_bring_its_first_request_to_the_old_gateway(weir, serve):
    w = weir(serve(), listener={"protocol": "http2"})
    with Http2Client(w.port) as new, Http2Client(w.port) as used:
        assert used.get().status == 200
        new.await_("the settings", lambda: new.settings)
        reload(w)
        used.await_end()
        new.pump(0.3)
        assert not new.goaways and not new.is_closed
        assert new.get().status == 200
        new.await_end()
        assert new.goaways[-1] == (1, 0)
    wait_for("the old gateway has ended", lambda: len(w.gateways()) == 1)


def test_an_idle_connection_that_stays_idle_runs_into_its_timeout(weir, serve):
    w = weir(serve(), listener={"timeouts": {"idle": "700ms"}})
    client = w.client()
    client.send(request())
    client.read_response()
    reload(w)
    client.expect_end()
    client.close()
    wait_for("the old gateway has ended", lambda: len(w.gateways()) == 1)


def test_a_stream_goes_on_until_its_drain_time(weir, serve):
    w = weir(serve(sse), server={"drain": {"reload": "2s"}})
    client = w.client()
    client.send(request())
    client.read_response_head()
    reload(w)
    start = time.monotonic()
    while time.monotonic() - start < 1.5:
        assert client.read_chunk()
    client.read_abort()
    assert time.monotonic() - start < scaled(4)
    wait_for("the old gateway has ended", lambda: len(w.gateways()) == 1)
    assert w.metrics().sum("weir_exchanges_active") == 0


def test_streams_of_old_gateways_are_counted(weir, serve):
    w = weir(serve(sse))
    clients = []
    for _ in range(3):
        client = w.client()
        client.send(request())
        client.read_response_head()
        clients.append(client)
        reload(w)
    assert w.metrics().sum("weir_exchanges_active") == 3
    assert w.metrics().sum("weir_accepted_total") == 3
    for client in clients:
        client.close()
    w.await_metric("weir_exchanges_active", 0)
    assert w.metrics().sum("weir_requests_total") == 3


def test_at_most_four_old_gateways_finish_and_further_reloads_become_one(weir, serve):
    w = weir(serve(sse))
    clients = []
    for _ in range(4):
        client = w.client()
        client.send(request())
        client.read_response_head()
        clients.append(client)
        reload(w)
    assert len(w.gateways()) == 5
    for _ in range(5):
        w.signal(signal.SIGHUP)
    wait_for("it waits", lambda: "the reload waits" in w.log())
    assert len(w.gateways()) == 5 and reloads(w) == 4
    for client in clients:
        assert client.read_chunk()
        client.close()
    wait_for("one more reload is done", lambda: reloads(w) == 5)
    wait_for("one gateway is left", lambda: len(w.gateways()) == 1)
    assert reloads(w) == 5


def test_the_end_reaches_old_gateways_too(weir, serve):
    w = weir(serve(sse), server={"drain": {"shutdown": "500ms"}})
    client = w.client()
    client.send(request())
    client.read_response_head()
    reload(w)
    w.signal()
    client.read_abort()
    assert w.await_exit() == 0


def reload_under_load(weir, serve, engine, times):
    w = weir(engine.endpoint, pipeline={"limits": {"concurrency": 200, "streams": 200},
                                        "timeouts": {"idle": "500ms"}})
    stop = threading.Event()
    failures = []
    fds, threads = w.fds(), w.threads()

    def events():
        """One long stream after the other; each has to be whole."""
        while not stop.is_set():
            with connect(w.port, timeout=30) as wire:
                wire.send(request(target="/sse?n=30&every=0.02"))
                try:
                    body = wire.read_response().body
                    assert body.count(b"data: ") == 30
                except AssertionError as failure:
                    failures.append(f"sse: {failure!r}")

    async def talk():
        while not stop.is_set():
            async with websockets.connect(f"ws://127.0.0.1:{w.port}/ws") as talker:
                for i in range(20):
                    await talker.send(str(i))
                    assert await asyncio.wait_for(talker.recv(), scaled(10)) == str(i)
                    await asyncio.sleep(0.02)

    def talking():
        try:
            asyncio.run(talk())
        except Exception as failure:  # noqa: BLE001 - every kind of it is one
            failures.append(f"websocket: {failure!r}")

    others = [threading.Thread(target=t) for t in (events, events, talking, talking)]
    with Traffic(w.port, clients=6, target="/slow?s=0.01") as traffic:
        for thread in others:
            thread.start()
        most = 0
        for i in range(times):
            if i % 5 == 3:
                reload(w, "broken", "refused")
                reload(w, w.text)
            else:
                reload(w)
            most = max(most, len(w.gateways()))
        stop.set()
        for thread in others:
            thread.join()
    traffic.expect_no_failure()
    assert not failures, failures[:3]
    assert most <= 6  # four that finish, one that serves, one that starts
    wait_for("one gateway is left", lambda: len(w.gateways()) == 1)
    wait_for("fds are at rest", lambda: w.fds() <= fds + 3)  # what /metrics adds
    assert w.threads() <= threads
    answered = len(traffic.answered)
    wait_for("all are counted", lambda: w.metrics().sum("weir_requests_total", code="200") >= answered)


@pytest.mark.threads
def test_nobody_notices_reloads_under_load(weir, serve, engine):
    reload_under_load(weir, serve, engine, 8)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_nobody_notices_a_hundred_reloads_under_load(weir, serve, engine):
    reload_under_load(weir, serve, engine, 100)


# --- Another binary ---------------------------------------------------------------------------------------


@pytest.fixture
def copied(weir, serve, tmp_path):
    binary = tmp_path / "weir"
    shutil.copy(BINARY, binary)
    return weir(serve(), binary=binary), binary


def inode(pid):
    try:
        return os.stat(f"/proc/{pid}/exe").st_ino
    except OSError:  # it has just ended
        return None


def replace(binary):
    shutil.copy(BINARY, f"{binary}.new")
    os.rename(f"{binary}.new", binary)


def test_another_binary_takes_over_under_load(copied):
    w, binary = copied
    with Traffic(w.port) as traffic:
        for i in range(1, 4):
            replace(binary)
            new = os.stat(binary).st_ino
            wait_for("there is traffic", lambda: len(traffic.answered) > i * 50)
            w.signal(signal.SIGUSR2)
            wait_for("the supervisor is new", lambda: inode(w.pid) == new)
            wait_for("the gateway is new", lambda: [inode(p) for p in w.gateways()] == [new])
            assert reloads(w) == i
    traffic.expect_no_failure()
    wait_for("all are counted", lambda: w.metrics().sum("weir_requests_total") >= len(traffic.answered))
    os.kill(w.gateway, signal.SIGKILL)
    assert w.exchange(request()).status == 200
    assert w.metrics().sum("weir_gateway_restarts_total") == 1
    reload(w)
    assert w.exchange(request()).status == 200


def test_a_stream_outlives_the_binary_that_began_it(weir, serve, tmp_path):
    binary = tmp_path / "weir"
    shutil.copy(BINARY, binary)
    w = weir(serve(sse), binary=binary)
    client = w.client()
    client.send(request())
    client.read_response_head()
    old = w.gateway
    replace(binary)
    w.signal(signal.SIGUSR2)
    wait_for("there are two gateways", lambda: len(w.gateways()) == 2)
    wait_for("the new one serves", lambda: f"gateway {w.gateways()[-1]} serves" in w.log())
    for _ in range(5):
        assert client.read_chunk()
    w.await_metric("weir_exchanges_active", 1)
    client.close()
    wait_for("the old one has ended", lambda: old not in w.gateways())
    assert w.metrics().sum("weir_requests_total") == 1


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho weir-plan 99\n", "no program"])
def test_a_binary_that_is_none_is_not_taken(copied, text):
    w, binary = copied
    pid, was = w.gateway, inode(w.pid)
    binary.rename(f"{binary}.old")
    binary.write_text(text)
    binary.chmod(0o755)
    w.signal(signal.SIGUSR2)
    wait_for("it says so", lambda: "is not taken up" in w.log())
    assert inode(w.pid) == was and w.gateways() == [pid]
    assert w.exchange(request()).status == 200
    os.rename(f"{binary}.old", binary)


# --- By the admin plane ----------------------------------------------------------------------------------


def post(w, path, fields=()):
    with connect(w.admin_port) as wire:
        wire.send(request("POST", path, fields=["Content-Length: 0", *fields]))
        return wire.read_response()


def test_it_can_be_asked_for_by_the_admin_plane(weir, serve):
    w = weir(serve())
    pid = w.gateway
    assert post(w, "/reload").status == 202
    wait_for("another gateway serves", lambda: w.gateways()[-1:] not in ([], [pid]))
    assert w.admin("/reload")[0] == 405
    assert post(w, "/reload", ["Origin: http://evil.example"]).status == 403
    assert post(w, "/drain").status == 202
    assert w.await_exit() == 0


def test_a_token_is_asked_for_where_there_is_one(weir, serve):
    w = weir(serve())
    admin = dict(w.config["admin"], token="open-sesame")
    reload(w, dict(w.config, admin=admin))
    for fields in ([], ["Authorization: Bearer open-sesamf"], ["Authorization: open-sesame"]):
        assert post(w, "/drain", fields).status == 401
    assert w.is_running() and w.admin("/readyz")[0] == 200
    assert post(w, "/drain", ["Authorization: Bearer open-sesame"]).status == 202
    assert w.await_exit() == 0
