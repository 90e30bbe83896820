"""What systemd expects of a service, and what it gives it. A socket stands for systemd."""

import os
import pwd
import signal
import socket
from pathlib import Path

import pytest
from harness.env import BINARY, ROOT, free_port, is_gone, scaled, wait_for
from harness.weir import base_config, run_cli, toml
from harness.wire import connect, request


class Systemd:
    """The receiving end of sd_notify(3)."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{self.path[1:]}" if self.path.startswith("@") else self.path)
        self.socket.settimeout(scaled(10))

    def expect(self, word):
        """The next message that is not a sign of life (unless that is what is expected)."""
        while True:
            text = self.socket.recv(4096).decode()
            if text != "WATCHDOG=1" or word == text:
                assert text.split("\n")[0] == word, text
                return text


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    s = Systemd(tmp_path / "notify" if request.param == "path" else f"@weir-test-{os.getpid()}")
    yield s
    s.socket.close()


def test_it_says_how_it_is(weir, serve, systemd):
    w = weir(serve(), env={"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "2000000"})
    systemd.expect("READY=1")
    for _ in range(2):
        systemd.expect("WATCHDOG=1")
    w.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in systemd.expect("RELOADING=1")
    systemd.expect("READY=1")
    w.file.write_text("broken")
    w.signal(signal.SIGHUP)
    systemd.expect("RELOADING=1")
    systemd.expect("READY=1")
    os.kill(w.gateway, signal.SIGKILL)
    systemd.expect("READY=1")
    w.signal()
    systemd.expect("STOPPING=1")
    assert w.await_exit() == 0


def test_a_watchdog_for_somebody_else_is_none_of_its_business(weir, serve, tmp_path):
    s = Systemd(tmp_path / "notify")
    weir(serve(), env={"NOTIFY_SOCKET": s.path, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    s.expect("READY=1")
    s.socket.settimeout(1.5)
    with pytest.raises(socket.timeout):
        s.socket.recv(100)
    s.socket.close()


def activated(weir, config, sockets):
    """weir with @sockets as LISTEN_FDS, from fd 3 on."""

    def move():
        # Above what is to be replaced first, so that none is overwritten before its turn.
        fds = [os.dup2(s.fileno(), 50 + i) for i, s in enumerate(sockets)]
        for i, fd in enumerate(fds):
            os.dup2(fd, 3 + i)

    # LISTEN_PID has to be the pid of what is executed: a shell that becomes weir knows it.
    binary = Path(config["log"]["access"]).parent / "activate"
    binary.write_text(f'#!/bin/sh\nLISTEN_PID=$$ exec {BINARY} "$@"\n')
    binary.chmod(0o755)
    return weir(config=config, binary=binary, env={"LISTEN_FDS": str(len(sockets))}, prepare=move,
                pass_fds=tuple(range(3, 3 + len(sockets))))


def test_sockets_that_systemd_gives_are_served(weir, serve, tmp_path):
    upstream = serve()
    config = base_config(tmp_path, [upstream.endpoint], threads=3)
    path = tmp_path / "s"
    config["listener"].append({"name": "local", "listen": f"unix:{path}"})
    config["route"] = [{"match": {}, "pipeline": "up"}]
    with socket.create_server(("127.0.0.1", int(config["listener"][0]["listen"].rpartition(":")[2]))) as tcp, \
            socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as unused:
        unix.bind(str(path))
        unix.listen(10)
        w = activated(weir, config, [tcp, unix, unused])
        for _ in range(10):
            assert w.exchange(request()).status == 200
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(request())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        os.kill(w.gateway, signal.SIGKILL)
        assert w.exchange(request()).status == 200
        w.signal(signal.SIGHUP)
        wait_for("it is reloaded", lambda: w.metrics().sum("weir_config_reloads_total", result="ok") == 1)
        assert w.exchange(request()).status == 200
        w.signal()
        assert w.await_exit() == 0
        assert path.exists()  # systemd's
        connect(w.port).close()  # and its socket lets clients in, to wait for the next start


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_gateway_becomes_the_user_that_is_asked_for(weir, serve, tmp_path):
    upstream = serve()
    config = base_config(tmp_path, [upstream.endpoint])
    config["server"]["user"] = "nobody"
    config["log"]["access"] = "off"
    config["listener"][0]["listen"] = f"127.0.0.1:{free_port()}"
    w = weir(config=config)
    nobody = pwd.getpwnam("nobody")
    for i in range(2):
        status = Path(f"/proc/{w.gateway}/status").read_text()
        ids = {line.split()[0]: line.split()[1:5] for line in status.splitlines() if line[:4] in ("Uid:", "Gid:")}
        assert ids["Uid:"] == [str(nobody.pw_uid)] * 4 and ids["Gid:"] == [str(nobody.pw_gid)] * 4
        assert w.exchange(request()).status == 200
        os.kill(w.gateway, signal.SIGKILL)
        assert w.admin("/readyz")[0] == 200
    assert "Uid:\t0\t0\t0\t0" in Path(f"/proc/{w.pid}/status").read_text()
    pid = w.gateway
    w.must_be_clean = False
    w.signal(signal.SIGKILL)
    wait_for("the gateway goes with its supervisor", lambda: is_gone(pid), 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_that_does_not_exist_is_an_error_at_start(tmp_path):
    config = base_config(tmp_path, ["127.0.0.1:1"])
    config["server"]["user"] = "nobody-of-that-name"
    file = tmp_path / "weir.toml"
    file.write_text(toml(config))
    status, _, err = run_cli("run", file)
    assert status == 2 and "nobody-of-that-name" in err


def test_the_unit_names_what_there_is():
    text = (ROOT / "config" / "weir.service").read_text()
    assert "Type=notify" in text and "KillMode=mixed" in text and "ExecReload=/bin/kill -HUP" in text
    for flag in ("check", "run"):
        assert f"/usr/bin/weir {flag} " in text
