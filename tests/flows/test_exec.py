"""protocol = "exec": a program for each request, whose whole tree ends with it."""

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness.env import AT_ONCE, VARIANT, scaled, wait_for
from harness.programs import PYTHON, await_none, descendants, exec_config, minders, nursery, pids_with, process_of
from harness.wire import chunked, request

# weir owes 1 s, as load/incident-4 shows; a loaded test machine gets more.
WITHIN_S = AT_ONCE


@pytest.fixture
def exec_weir(weir):
    def make(command, **options):
        return weir(config=lambda directory: exec_config(directory, command, **options))

    return make


def python(code, *argv):
    return [PYTHON, "-S", "-c", code, *argv]


def ask(w, **options):
    with w.client() as client:
        client.send(request(**options))
        return client.read_response(options.get("method", "GET"))


# --- What comes out ---------------------------------------------------------------------------------------

def test_content_goes_in_and_output_comes_out(exec_weir):
    w = exec_weir(["tr", "a-z", "A-Z"])
    reply = ask(w, method="POST", body=b"hello")
    assert (reply.status, reply.body) == (200, b"HELLO")
    assert reply.fields.get("content-type") == "application/octet-stream"
    assert reply.trailers.get("weir-exit-status") == "0"


def test_a_large_body_goes_both_ways_at_once(exec_weir):
    """Far more than pipes and windows hold: neither side waits for the other to finish."""
    w = exec_weir(["cat"])
    block = bytes(range(256)) * 256
    with w.client() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")

        def send():
            for _ in range(256):
                client.send_chunk(block)
            client.send(b"0\r\n\r\n")

        sender = threading.Thread(target=send)
        sender.start()
        reply = client.read_response()
        sender.join()
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(block * 256).digest()
    assert w.status()["fds"]["upstream"] == 0


def test_a_chunked_request_with_trailers_is_just_content(exec_weir):
    with exec_weir(["cat"]).client() as client:
        client.send(request("POST", fields=["transfer-encoding: chunked"]),
                    chunked(b"one ", b"two", trailers=["x-t: v"]))
        assert client.read_response().body == b"one two"


def test_the_request_is_in_the_environment(exec_weir):
    w = exec_weir(python("import os, json; print(json.dumps(dict(os.environ)))"),
                  process={"env": {"APP_MODE": "test", "PATH": "/usr/bin:/bin"}},
                  route={"match": {"path": "/run"}})
    env = json.loads(ask(w, target="/run/a%20b/c?x=1&y", fields=[
        "X-One: 1", "X-Twice: a", "x-twice: b", "x_under: no", "Proxy: evil",
        "X-Shell: $(touch /tmp/never); `id`"]).body)
    assert env["WEIR_METHOD"] == "GET" and env["WEIR_PATH"] == "/run/a%20b/c"
    assert env["WEIR_QUERY"] == "x=1&y" and env["WEIR_PATH_REST"] == "a%20b/c"
    assert (env["WEIR_PATH_1"], env["WEIR_PATH_2"]) == ("a b", "c") and "WEIR_PATH_3" not in env
    assert env["WEIR_FIELD_X_ONE"] == "1" and env["WEIR_FIELD_X_TWICE"] == "a, b"
    assert env["WEIR_FIELD_X_SHELL"] == "$(touch /tmp/never); `id`" and env["WEIR_FIELD_PROXY"] == "evil"
    assert env["APP_MODE"] == "test" and env["PATH"] == "/usr/bin:/bin"
    assert env["WEIR_PIPELINE"] == "up" and env["WEIR_CLIENT_ADDRESS"] == "127.0.0.1"
    # Nothing but what is ours, the configuration's, and what every program gets.
    others = {k for k in env if not k.startswith("WEIR_")}
    assert others <= {"APP_MODE", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}
    assert not any("UNDER" in k for k in env) and "HTTP_PROXY" not in env


def test_lines_are_passed_on_whole(exec_weir):
    code = ("import sys, time\n"
            "for part in ['one\\ntw', 'o\\nthr', 'ee']:\n"
            "    sys.stdout.write(part); sys.stdout.flush(); sys.stdin.readline()\n")
    with exec_weir(python(code), process={"output": "lines"}).client() as client:
        client.send(request("POST", fields=["transfer-encoding: chunked"]))
        head = client.read_response_head()
        assert head.fields.get("content-type") == "text/plain; charset=utf-8"
        assert client.read_chunk() == b"one\n"
        client.send_chunk(b"\n")
        assert client.read_chunk() == b"two\n"
        client.send_chunk(b"\n")
        client.send_chunk(b"\n")
        assert client.read_chunk() == b"three"


def test_lines_longer_than_the_limit_come_in_pieces(exec_weir):
    w = exec_weir(python("import sys; sys.stdout.write('x' * 300000)"), process={"output": "lines"})
    assert ask(w).body == b"x" * 300000


def test_sse_makes_an_event_of_each_line(exec_weir):
    code = r"import sys; sys.stdout.write('one\n\ntwo\r\nevil\rdata: x\nend'); sys.stdout.flush(); sys.exit(4)"
    reply = ask(exec_weir(python(code), process={"output": "sse"}))
    assert reply.fields.get("content-type") == "text/event-stream"
    assert reply.body == (b"data: one\n\ndata: \n\ndata: two\n\ndata: evil\n\ndata: data: x\n\ndata: end\n\n"
                          b"event: exit\ndata: {\"status\":4}\n\n")


def test_sse_begins_before_there_is_output(exec_weir):
    w = exec_weir(["sleep", "731"], process={"output": "sse"})
    with w.client() as client:
        client.send(request())
        assert client.read_response_head().status == 200
        assert w.status()["pipelines"][0]["streams"] == 1
    await_none("sleep\x00731")


def test_standard_error_is_in_the_log(exec_weir):
    w = exec_weir(["sh", "-c", "echo over here >&2; echo out"])
    assert ask(w).body == b"out\n"
    wait_for("the log has it", lambda: "'up' says: over here" in w.log())


def test_a_head_request_has_no_content(exec_weir):
    w = exec_weir(["echo", "hello"])
    with w.client() as client:
        for _ in range(2):
            client.send(request("HEAD"))
            assert client.read_response("HEAD").status == 200


def test_a_client_that_waits_for_100_is_asked_for_its_content(exec_weir):
    with exec_weir(["cat"]).client() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
        assert client.read_response_head().status == 100
        client.send(b"hello")
        assert client.read_response().body == b"hello"


def test_a_program_inherits_no_open_file(exec_weir):
    w = exec_weir(["ls", "/proc/self/fd"])
    assert ask(w).body.split() == [b"0", b"1", b"2", b"3"]  # 3: of the directory itself


def test_over_http2_too(weir):
    """Content both ways, the status as a trailer."""
    def config(directory):
        made = exec_config(directory, ["sh", "-c", "cat; exit 7"])
        made["listener"][0]["protocol"] = "http2"
        return made

    w = weir(config=config)
    done = subprocess.run(["curl", "-sv", "--http2-prior-knowledge", "--data-binary", "@-", w.url()],
                          input=b"x" * 300000, capture_output=True, timeout=scaled(20))
    assert done.stdout == b"x" * 300000
    assert b"< weir-exit-status: 7" in done.stderr


def test_metrics_pass_promtool(exec_weir):
    w = exec_weir(["true"])
    ask(w)
    done = subprocess.run(["promtool", "check", "metrics"], input=w.metrics().text, capture_output=True, text=True,
                          timeout=scaled(20))
    assert done.returncode == 0, done.stdout + done.stderr


# --- How it can end ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("code, status, reason, detail", [
    ("import sys; sys.exit(3)", 502, "program_failed", "it ended with status 3"),
    ("import os; os.kill(os.getpid(), 9)", 502, "program_failed", "it died by signal 9"),
])
def test_a_failure_before_any_output_is_502(exec_weir, code, status, reason, detail):
    reply = ask(exec_weir(python(code)))
    assert reply.status == status
    problem = json.loads(reply.body)
    assert problem["type"] == f"urn:weir:{reason}" and problem["detail"].startswith(detail)


def test_a_failure_behind_output_is_in_the_trailer(exec_weir):
    reply = ask(exec_weir(["sh", "-c", "echo half; kill -TERM $$"]))
    assert (reply.status, reply.body) == (200, b"half\n")
    assert reply.trailers.get("weir-exit-status") == "signal 15"


def test_no_output_and_status_0_is_an_empty_answer(exec_weir):
    reply = ask(exec_weir(["true"]))
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("process, detail", [
    ({"command": ["/nonexistent/program"]}, "cannot execute it: No such file or directory"),
    ({"command": ["true"], "dir": "/nonexistent"}, "cannot enter its directory"),
    ({"command": ["true"], "user": "no-such-user"}, "cannot become its user"),
])
def test_what_cannot_be_started_says_why(exec_weir, process, detail):
    if "user" in process and os.geteuid() != 0:
        pytest.skip("only root becomes others")
    w = exec_weir(None, process=process)
    reply = ask(w)
    assert reply.status == 502 and detail in json.loads(reply.body)["detail"]
    assert detail in w.log() and process_of(w)["failed_starts_total"] == 1
    wait_for("its pipes are closed", lambda: w.status()["fds"]["upstream"] == 0)
    assert w.status()["pipelines"][0]["inflight"] == 0


def test_a_program_runs_as_its_user(exec_weir):
    if os.geteuid() != 0:
        pytest.skip("only root becomes others")
    w = exec_weir(["id", "-un"], process={"user": "nobody"})
    assert ask(w).body == b"nobody\n"


def test_limits_hold(exec_weir):
    w = exec_weir(python("import resource as r; print([r.getrlimit(x) for x in "
                         "(r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_NOFILE)])"),
                  process={"limits": {"memory": "512MiB", "cpu": "7s", "fds": 77}})
    assert ask(w).body == b"[(536870912, 536870912), (7, 8), (77, 77)]\n"


def groups():
    """Control groups that weir has made here."""
    roots = [Path("/sys/fs/cgroup")] + [Path(f"/sys/fs/cgroup/{name}") for name in ("pids", "memory")]
    own = {line.rstrip().split(":", 2)[2] for line in open("/proc/self/cgroup")} | {"/"}
    return {group for root in roots for path in own for group in Path(f"{root}{path}").glob("weir-[0-9]*")}


def bounded(exec_weir, command, limits):
    """Where this machine lets nobody make a control group, that is told instead."""
    w = exec_weir(command, process={"limits": limits})
    reply = ask(w)
    if reply.status == 502:
        assert "bound its memory or processes by a control group" in json.loads(reply.body)["detail"]
        pytest.skip("no control groups here")
    wait_for("its group is gone", lambda: not any(group.exists() for group in groups()))
    return w, reply


def test_so_many_processes_and_no_more(exec_weir):
    w, reply = bounded(exec_weir, python("""
import os, sys, time
made = 0
try:
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(751)
        made += 1
except OSError as failure:
    print(made, failure.strerror, flush=True)
os._exit(3)
""", "token-751"), {"processes": 20})
    assert reply.body == b"19 Resource temporarily unavailable\n"
    assert reply.trailers.get("weir-exit-status") == "3"
    await_none("token-751", WITHIN_S)


def test_a_fork_bomb_is_ended(exec_weir):
    """Every one of them forks as fast as it can and takes no notice of SIGTERM."""
    w, reply = bounded(exec_weir, python("""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    print("bang", flush=True)
    os._exit(0)
os.setsid()
os.close(1)
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        os.fork()
    except OSError:
        pass
""", "token-752"), {"processes": 60})
    assert reply.body == b"bang\n"
    await_none("token-752")
    assert process_of(w)["killed_total"] == 1


def test_so_much_memory_together_and_no_more(exec_weir):
    w, reply = bounded(exec_weir, python("""
import os, sys
print("on", flush=True)
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(40 << 20)
        held[::4096] = b"x" * len(held[::4096])
        os._exit(0 if len(held) else 1)
ends = [os.wait()[1] for _ in range(4)]
held = [bytearray(b"x" * (40 << 20)) for _ in range(4)]
print("all", flush=True)
""", "token-753"), {"total_memory": "100MiB"})
    assert b"all" not in reply.body
    wait_for("it is told", lambda: "a program of 'up' was killed: it needed more than limits.total_memory" in w.log())


def test_the_deadline_ends_the_program(exec_weir):
    w = exec_weir(["sleep", "732"], pipeline={"deadline": "200ms"})
    reply = ask(w)
    assert reply.status == 504 and json.loads(reply.body)["type"] == "urn:weir:deadline"
    await_none("sleep\x00732", WITHIN_S)


def test_a_program_that_writes_nothing_is_bounded_by_stream_idle(weir):
    def config(directory):
        made = exec_config(directory, ["sleep", "733"], route={"stream": True})
        made["listener"][0]["timeouts"] = {"stream_idle": "300ms"}
        return made

    w = weir(config=config)
    with w.client() as client:
        client.send(request())
        assert client.read_response_head().status == 200
        client.read_abort()
    await_none("sleep\x00733", WITHIN_S)


def test_a_client_that_leaves_ends_the_whole_tree(exec_weir):
    """Also who has left its process group and its parent."""
    w = exec_weir(["sh", "-c", "setsid sh -c 'sleep 734 & (sleep 734 &) & setsid sleep 734' & echo on; sleep 734"])
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        wait_for("all are there", lambda: len(pids_with("sleep\x00734")) == 4)
    await_none("sleep\x00734", WITHIN_S)
    wait_for("its slot is free", lambda: w.status()["pipelines"][0]["inflight"] == 0)
    wait_for("nobody minds it", lambda: minders(w) == [], WITHIN_S)
    assert w.status()["children"]["running"] == w.status()["children"]["ending"] == 0


def test_a_program_that_ignores_sigterm_is_killed(exec_weir):
    w = exec_weir(python("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                         "print('on', flush=True); time.sleep(735)", "token-735"),
                  process={"stop": {"grace": "300ms"}})
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        start = time.monotonic()
    await_none("token-735", WITHIN_S)
    assert time.monotonic() - start >= 0.25
    wait_for("that is counted", lambda: process_of(w)["killed_total"] == 1)


def test_a_program_gets_its_chance_to_end_well(exec_weir, tmp_path):
    """SIGTERM first, and the signal that the configuration names."""
    mark = tmp_path / "mark"
    w = exec_weir(["sh", "-c", f"trap 'echo bye > {mark}; exit 0' INT; echo on; while :; do sleep 0.01; done"],
                  process={"stop": {"signal": "INT", "grace": "5s"}})
    with w.client() as client:
        client.send(request())
        client.read_response_head()
    wait_for("it said goodbye", lambda: mark.exists() and mark.read_text() == "bye\n")


def test_what_a_program_leaves_behind_ends_with_it(exec_weir):
    w = exec_weir(["sh", "-c", "setsid sleep 736 & echo done"])
    reply = ask(w)
    assert (reply.status, reply.body) == (200, b"done\n")
    assert pids_with("sleep\x00736") == []


def test_a_program_that_closes_its_output_and_lives_on_is_ended(exec_weir):
    w = exec_weir(python("import os, time; os.write(1, b'all'); os.close(1); time.sleep(737)", "token-737"),
                  process={"stop": {"grace": "200ms"}})
    reply = ask(w)
    assert reply.body == b"all" and reply.trailers.get("weir-exit-status") == "signal 15"
    assert pids_with("token-737") == []


def test_a_program_that_never_reads(exec_weir):
    """What it does not want it need not read, and nothing waits for it."""
    w = exec_weir(["sh", "-c", "exec 0<&-; sleep 0.2; echo done"])
    with w.client() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(64):
            client.try_send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        client.try_send(b"0\r\n\r\n")
        assert client.read_response().body == b"done\n"
    wait_for("its slot is free", lambda: w.status()["pipelines"][0]["inflight"] == 0)


def test_a_program_that_lets_its_input_stand_holds_the_client_back(weir):
    """For as long as timeouts.body: a client that is held back is not seen to leave."""
    def config(directory):
        made = exec_config(directory, ["sleep", "738"])
        made["listener"][0]["timeouts"] = {"body": f"{int(scaled(1000))}ms"}
        return made

    w = weir(config=config)
    with w.client() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        sent = client.send_until_stuck(b"10000\r\n" + b"x" * 65536 + b"\r\n", 64 << 20)
        assert sent < 16 << 20
        assert w.metrics().sum("weir_buffered_bytes") < 1 << 20
        assert client.read_response().status == 504
    await_none("sleep\x00738", WITHIN_S)


def test_a_gigabyte_passes_through_bounded_memory(exec_weir):
    """And a client that reads slowly holds the program back."""
    w = exec_weir(["head", "-c", str(1 << 30), "/dev/zero"])
    before = w.rss()
    with w.client() as client:
        client.send(request())
        head = client.read_response_head()
        assert head.is_chunked
        time.sleep(0.5)
        assert w.metrics().sum("weir_buffered_bytes") < 1 << 20
        got = 0
        while True:
            part = client.read_chunk()
            got += len(part)
            if not part:
                break
    assert got == 1 << 30
    assert w.rss() < before + (32 << 20) * (1 if VARIANT == "release" else 8)


def test_a_fork_bomb_of_200_is_gone_in_time(exec_weir):
    code = ("import os, sys, time\n"
            "for i in range(200):\n"
            "    if os.fork() == 0:\n"
            "        if i % 2: os.setsid()\n"
            "        if i % 3 == 0 and os.fork(): os._exit(0)\n"
            "        time.sleep(739); os._exit(0)\n"
            "print('on', flush=True); time.sleep(739)\n")
    w = exec_weir(python(code, "token-739"))
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        wait_for("all are there", lambda: len(pids_with("token-739")) >= 201)
    await_none("token-739", WITHIN_S)
    wait_for("all are reaped", lambda: [p for p in descendants(w.pid) if p not in w.gateways()] == [nursery(w)],
             WITHIN_S)


def test_programs_that_fork_as_fast_as_they_can_are_caught(exec_weir):
    """Each lives for a moment only and is replaced by another; the number of them stays small."""
    code = ("import os, sys, time\n"
            "print('on', flush=True)\n"
            "sys.stdout.close(); os.close(1)\n"
            "end = time.time() + 20\n"
            "while time.time() < end:\n"
            "    if os.fork(): os._exit(0)\n"
            "    os.setsid()\n")
    w = exec_weir(python(code, "token-740"), process={"stop": {"grace": "100ms"}})
    with w.client() as client:  # it has little of the machine until they are caught
        client.send(request())
        assert client.read_response().body == b"on\n"
    await_none("token-740", WITHIN_S)


# --- Slots ------------------------------------------------------------------------------------------------

def test_slots_and_queue_are_those_of_any_pipeline(exec_weir):
    w = exec_weir(["sleep", "741"], pipeline={"limits": {"concurrency": 2},
                                              "queue": {"size": 1, "max_wait": "300ms"}})
    clients = [w.client() for _ in range(4)]
    for n, client in enumerate(clients[:3], 1):
        client.send(request())
        wait_for("it runs or waits", lambda: w.status()["pipelines"][0]["inflight"] +
                 w.status()["pipelines"][0]["queued"] == n)
    clients[3].send(request())
    assert json.loads(clients[3].read_response().body)["type"] == "urn:weir:queue_full"
    assert json.loads(clients[2].read_response().body)["type"] == "urn:weir:queue_timeout"
    assert len(pids_with("sleep\x00741")) == 2
    assert w.metrics().sum("weir_children", pipeline="up", state="running") == 2


def test_a_slot_counts_until_its_tree_has_ended(exec_weir):
    w = exec_weir(python("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                         "print('on', flush=True); time.sleep(742)", "token-742"),
                  pipeline={"limits": {"concurrency": 1}, "queue": {"max_wait": "5s"}},
                  process={"stop": {"grace": "600ms"}})
    with w.client() as client:
        client.send(request())
        client.read_response_head()
    with w.client() as client:
        client.send(request())
        wait_for("the first one is ending", lambda: w.status()["children"]["ending"] == 1)
        assert w.status()["pipelines"][0]["inflight"] == 1 and len(pids_with("token-742")) == 1
        assert client.read_response_head().status == 200
        assert len(pids_with("token-742")) == 1


def test_parallel_streams_never_mix(exec_weir):
    code = ("import os, sys\n"
            "for i in range(200): sys.stdout.write(os.environ['WEIR_PATH_1'] * 100 + '\\n')\n")
    w = exec_weir(python(code), process={"output": "lines"})
    wrong = []

    def one(n):
        letter = chr(ord("a") + n % 26)
        body = ask(w, target=f"/{letter}").body
        if body != (letter.encode() * 100 + b"\n") * 200:
            wrong.append(letter)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- Over HTTP/2, in gRPC's way, and beside what else there is --------------------------------------------

def test_when_the_gateway_is_killed_its_programs_end(exec_weir):
    w = exec_weir(["sh", "-c", "setsid sleep 743 & echo on; sleep 743"])
    w.must_be_clean = False
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        wait_for("both are there", lambda: len(pids_with("sleep\x00743")) == 2)
        os.kill(w.gateway, signal.SIGKILL)
        await_none("sleep\x00743", WITHIN_S)
    wait_for("another gateway serves", lambda: w.log().count(" serves (") == 2)
    w.await_ready()
    with w.client() as client:
        client.send(request())
        assert client.read_response_head().status == 200


def test_when_the_supervisor_is_killed_everything_ends(exec_weir):
    w = exec_weir(["sh", "-c", "setsid sleep 744 & echo on; sleep 744"])
    w.must_be_clean = False
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        wait_for("both are there", lambda: len(pids_with("sleep\x00744")) == 2)
        mine = descendants(w.pid)
        os.kill(w.pid, signal.SIGKILL)
        await_none("sleep\x00744", WITHIN_S)
    wait_for("nursery and minders have gone too",
             lambda: not any(os.path.exists(f"/proc/{p}") for p in mine), 3)


def test_when_the_nursery_is_killed_its_programs_end_and_another_comes(exec_weir):
    w = exec_weir(["sh", "-c", "setsid sleep 745 & echo on; sleep 745"])
    with w.client() as client:
        client.send(request())
        head = client.read_response_head()
        assert head.status == 200
        assert client.read_chunk() == b"on\n"
        wait_for("both are there", lambda: len(pids_with("sleep\x00745")) == 2)
        first = nursery(w)
        os.kill(first, signal.SIGKILL)
        client.expect_gone()
        await_none("sleep\x00745", WITHIN_S)

    def is_served():
        with w.client() as again:
            again.send(request())
            return again.read_response_head().status == 200

    wait_for("another nursery serves", is_served)
    assert nursery(w) != first


def test_when_a_minder_is_killed_its_tree_ends(exec_weir):
    w = exec_weir(["sh", "-c", "setsid sleep 746 & echo on; sleep 746"])
    with w.client() as client, w.client() as other:
        client.send(request())
        client.read_response_head()
        wait_for("both are there", lambda: len(pids_with("sleep\x00746")) == 2)
        [minder] = minders(w)
        other.send(request())
        other.read_response_head()
        wait_for("four are there", lambda: len(pids_with("sleep\x00746")) == 4)
        os.kill(minder, signal.SIGKILL)
        wait_for("the other two are left", lambda: len(pids_with("sleep\x00746")) == 2, WITHIN_S)
        assert len(minders(w)) == 1
    await_none("sleep\x00746", WITHIN_S)


def test_a_reload_leaves_what_runs_alone(exec_weir):
    code = "import sys; print('on', flush=True); sys.stdin.readline(); print('end')"
    w = exec_weir(python(code))
    with w.client() as client:
        client.send(request("POST", fields=["transfer-encoding: chunked"]))
        client.read_response_head()
        assert client.read_chunk() == b"on\n"
        w.signal(signal.SIGHUP)
        wait_for("the next one serves", lambda: w.log().count(" serves (") == 2)
        assert ask(w, method="POST", body=b"\n").body == b"on\nend\n"
        client.send_chunk(b"\n")
        assert client.read_chunk() == b"end\n"
        client.send(b"0\r\n\r\n")


def test_sigterm_drains_and_then_ends_what_is_left(exec_weir):
    w = exec_weir(["sh", "-c", "echo on; sleep 747"], server={"drain": {"shutdown": "500ms"}})
    with w.client() as client:
        client.send(request())
        client.read_response_head()
        w.signal()
        assert w.await_exit() == 0
    assert pids_with("sleep\x00747") == []
    assert w.log().count("children=0") == 2


def test_no_more_fds_than_there_are(weir):
    """Many programs at once through few fds: refused politely, and all is well behind that."""
    def config(directory):
        made = exec_config(directory, ["sh", "-c", "sleep 0.3; echo ok"],
                           pipeline={"limits": {"concurrency": 200}, "queue": {"size": 0}})
        made["admission"]["max_connections"] = 40
        return made

    w = weir(config=config, limit_nofile=140)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(ask(w).status)) for _ in range(38)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(20))
    assert len(replies) == 38 and set(replies) <= {200, 503} and 200 in replies
    wait_for("all fds are back", lambda: w.status()["fds"]["upstream"] == 0)
    assert ask(w).body == b"ok\n"
