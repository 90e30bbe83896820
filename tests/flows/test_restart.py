"""The gateway process dies, stops or hangs; who asks is served all the same."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.env import AT_ONCE, PATIENCE, is_gone, scaled, wait_for
from harness.traffic import Traffic
from harness.upstream import answering
from harness.weir import Weir
from harness.wire import connect, request

WEDGE = Path(__file__).parent / "harness" / "wedge.py"
UNPOLL = Path(__file__).parent / "harness" / "unpoll.py"


def die(w, number):
    """Kills the gateway and waits for its successor; returns the successor's pid."""
    old = w.gateway
    os.kill(old, number)
    return await_successor(w, old)


def await_successor(w, old, timeout=PATIENCE):
    def successor():
        pids = w.gateways()
        return pids[-1] if pids and pids[-1] != old and f"gateway {pids[-1]} serves" in w.log() else None

    return wait_for("another gateway serves", successor, timeout)


def stop(pid):
    """SIGSTOP, and waits until every thread has got it."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    wait_for("all threads have stopped", lambda: all(
        (t / "stat").read_text().rpartition(") ")[2][0] == "T" for t in tasks.iterdir()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS],
                         ids=lambda n: n.name)
def test_a_gateway_that_dies_is_replaced_and_nobody_is_refused(weir, serve, number):
    w = weir(serve(answering(pause=0.01)))
    w.must_be_clean = number == signal.SIGKILL  # a sanitizer reports what the test has done
    with Traffic(w.port) as traffic:
        wait_for("there is traffic", lambda: len(traffic.answered) > 50)
        die(w, number)
        n = len(traffic.answered)
        wait_for("it goes on", lambda: len(traffic.answered) > n + 50)
    assert not traffic.refused and not traffic.wrong
    # What was under way is lost with the process that had it: a request per client at most.
    assert len(traffic.cut) <= len(traffic.threads)
    assert f"died by signal {int(number)} " in w.log() or number != signal.SIGKILL
    assert w.metrics().sum("weir_gateway_restarts_total") == 1


def test_who_waits_while_there_is_no_gateway_is_served_by_the_next(weir, serve):
    w = weir(serve())
    stop(w.gateway)
    clients = [w.client() for _ in range(20)]
    for client in clients:
        client.send(request())
    os.kill(w.gateway, signal.SIGKILL)
    for client in clients:
        assert client.read_response().status == 200


def test_probes_wait_for_the_successor(weir, serve):
    w = weir(serve())
    for _ in range(3):
        os.kill(w.gateway, signal.SIGKILL)
        assert w.admin("/healthz")[0] == 200
        assert w.admin("/readyz")[0] == 200


def test_counters_survive_their_process(weir, serve):
    w = weir(serve())
    for i in range(1, 4):
        w.exchange(request())
        w.await_metric("weir_requests_total", i)
        w.await_metric("weir_request_duration_seconds_count", i)
        die(w, signal.SIGKILL)
        assert w.metrics().sum("weir_requests_total") == i
        assert w.metrics().sum("weir_gateway_restarts_total") == i
    assert w.metrics().sum("weir_exchanges_active") == 0


def test_one_that_dies_while_it_carries_streams_leaves_none_in_the_gauges(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request())
    up.accept().read_request()
    w.await_metric("weir_exchanges_active", 1)
    die(w, signal.SIGKILL)
    client.expect_gone()
    assert w.metrics().sum("weir_exchanges_active") == 0


def test_a_gateway_that_dies_says_where(weir, serve):
    w = weir(serve())
    w.must_be_clean = False
    os.kill(w.gateway, signal.SIGABRT)
    w.admin("/readyz")
    if os.environ.get("WEIR_VARIANT", "release") == "release":
        wait_for("the stack is logged", lambda: re.search(r"gateway \d+: stack of thread \d+ \(weir\):.*\+0x", w.log()))


def test_more_than_five_deaths_slow_it_down_and_it_never_gives_up(weir, serve):
    w = weir(serve())
    for _ in range(5):
        assert w.exchange(request()).status == 200
        die(w, signal.SIGKILL)
    os.kill(w.gateway, signal.SIGKILL)
    wait_for("it says so", lambda: "more than 5 times in 60 s" in w.log())
    announced = float(re.findall(r"another is started in ([0-9.]+) s", w.log())[-1])
    assert 5 < announced <= 10
    start = time.monotonic()
    client = w.client(timeout=30)  # is let in, and waits
    client.send(request())
    assert client.read_response().status == 200
    assert time.monotonic() - start <= scaled(announced + 1)


def test_a_stopped_gateway_is_replaced(weir, serve):
    w = weir(serve(), server={"wedge_after": "2s"})
    stop(w.gateway)
    start = time.monotonic()
    client = w.client()
    client.send(request())
    assert client.read_response().status == 200
    assert time.monotonic() - start <= scaled(3)
    assert "it is stopped" in w.log()


def loops_of(pid):
    tasks = Path(f"/proc/{pid}/task")
    return [int(t.name) for t in tasks.iterdir() if (t / "comm").read_text().startswith("weir-loop")]


@pytest.fixture
def wedge():
    made = []

    def stop_thread(tid):
        process = subprocess.Popen([sys.executable, str(WEDGE), str(tid)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        made.append(process)
        if process.stdout.readline() != "stopped\n":
            pytest.skip(f"threads cannot be stopped here: {process.stderr.read()}")

    yield stop_thread
    for process in made:
        process.kill()
        process.communicate()


def test_a_loop_that_hangs_is_noticed_and_its_gateway_replaced(weir, serve, wedge):
    w = weir(serve(), server={"wedge_after": "2s", "drain": {"shutdown": "2s"}}, threads=2)
    w.must_be_clean = False  # one that hangs cannot be ended in good order
    old = w.gateway
    wedge(loops_of(old)[0])
    health = wait_for("healthz says so", lambda: w.admin("/healthz")[0] == 503 or old not in w.gateways())
    assert health
    await_successor(w, old)
    assert "hangs: loop" in w.log()
    assert re.search(rf"gateway {old}: stack of thread \d+ \(weir-loop-\d\)", w.log())
    wait_for("the one that hung is gone", lambda: old not in w.gateways())
    assert w.exchange(request()).status == 200
    assert w.admin("/healthz")[0] == 200


def test_a_gateway_whose_every_loop_hangs_is_killed(weir, serve, wedge):
    w = weir(serve(), server={"wedge_after": "2s"}, threads=1)
    old = w.gateway
    with w.client() as client:
        client.send(request())
        assert client.read_response().status == 200  # it is this gateway's
        wedge(loops_of(old)[0])
        client.send(request())
        client.expect_gone()
    await_successor(w, old)
    assert old not in w.gateways()
    assert w.exchange(request()).status == 200


def test_a_busy_loop_is_not_a_hanging_one(weir, serve):
    """Work for longer than wedge_after, and no rest in between."""
    w = weir(serve(), server={"wedge_after": "2s"}, threads=1)
    with Traffic(w.port, clients=4, pause=0) as traffic:
        time.sleep(3.5)
        status, _, body = w.admin("/healthz")
        assert status == 200 and b'"live"' in body
    traffic.expect_no_failure()
    assert "hangs" not in w.log()


def test_the_stack_of_any_thread_can_be_had(weir, serve):
    w = weir(serve())
    libc = ctypes.CDLL(None)
    for tid in [int(t) for t in os.listdir(f"/proc/{w.gateway}/task")]:
        libc.syscall(234, w.gateway, tid, signal.SIGUSR2)  # tgkill
        wait_for("its stack", lambda tid=tid: f"stack of thread {tid} (" in w.log())
    assert w.exchange(request()).status == 200


def others_fds(pid, numbers):
    """Our own copies of a process's fds."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    copies = {n: libc.syscall(438, pidfd, n, 0) for n in numbers}  # pidfd_getfd
    os.close(pidfd)
    if -1 in copies.values():
        pytest.skip(f"fds of others cannot be had here: {os.strerror(ctypes.get_errno())}")
    return copies


def fds_where(pid, what):
    """The numbers of a process's fds that lead to what begins so."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(entry).startswith(what):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def listening(pid, port):
    """A copy of each of a process's listening sockets of that port, by number."""
    found = {}
    for n, copy in others_fds(pid, fds_where(pid, "socket:")).items():
        with socket.socket(fileno=os.dup(copy)) as s:
            if s.family in (socket.AF_INET, socket.AF_INET6) and s.getsockname()[1] == port \
                    and s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found[n] = copy
            else:
                os.close(copy)
    return found


def test_a_listener_that_was_shut_down_listens_again(weir, serve):
    w = weir(serve(), threads=2)
    for copy in listening(w.gateway, w.port).values():
        with socket.socket(fileno=copy) as s:
            s.shutdown(socket.SHUT_RD)  # who has a socket can do that to all who have it
    wait_for("it is noticed", lambda: "listens again" in w.log())
    wait_for("all sockets", lambda: len(re.findall("listens again", w.log())) == 2)
    wait_for("clients are let in", lambda: w.exchange(request()).status == 200)


def test_a_gateway_that_lets_nobody_in_is_found_without_a_client(weir, serve):
    """Nothing but weir's own attempt to connect is there to notice it."""
    w = weir(serve(), server={"wedge_after": "2s"}, threads=1)
    old = w.gateway
    epolls = fds_where(old, "anon_inode:[eventpoll]")
    sockets = listening(old, w.port)
    assert len(sockets) == 1
    number = next(iter(sockets))
    subprocess.run([sys.executable, str(UNPOLL), str(old), str(number), *map(str, epolls)], check=True)
    os.close(sockets[number])
    await_successor(w, old)
    assert "lets nobody in though clients wait" in w.log()
    assert w.exchange(request()).status == 200


def test_weirs_own_connections_are_neither_logged_nor_left_open(weir, serve):
    w = weir(serve())
    wait_for("weir connects to itself", lambda: w.metrics().sum("weir_accepted_total") > 0)
    wait_for("and leaves", lambda: w.metrics().sum("weir_connections") == 0)
    assert not re.search(r"WARN|ERROR", w.log())
    assert w.access() == []


def test_nothing_outlives_a_supervisor_that_is_killed(weir, serve):
    w = weir(serve())
    w.must_be_clean = False
    client = w.client()
    client.send(request())
    client.read_response()
    pid = w.gateway
    w.signal(signal.SIGKILL)
    w.process.wait()
    start = time.monotonic()
    wait_for("the gateway is gone", lambda: is_gone(pid))
    assert time.monotonic() - start < scaled(AT_ONCE)
    again = Weir(w.config, w.directory / "again")
    try:
        assert connect(again.port).sock
        assert again.exchange(request()).status == 200
    finally:
        again.stop()


def test_signals_for_the_whole_group_are_obeyed_once(weir, up):
    """As a terminal sends them: to the supervisor and to its gateway."""
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    os.killpg(w.pid, signal.SIGTERM)
    wait_for("it drains", lambda: "draining" in w.log())
    assert w.is_running()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.read_response().status == 200
    assert w.await_exit() == 0
