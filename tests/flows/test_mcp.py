"""protocol = "mcp-stdio": a server on standard streams, served as MCP Streamable HTTP."""

import json
import os
import signal
import socket
import subprocess
import threading

import pytest
from harness.env import PATIENCE, VARIANT, scaled, wait_for
from harness.mcp import HEAD, Mcp, mcp_config, seen, text_of, tool
from harness.programs import pids_with, process_of
from harness.weir import run_cli, toml


@pytest.fixture
def mcp_weir(weir):
    """Waits until its servers are ready."""
    def make(is_ready=True, instances=1, **options):
        w = weir(config=lambda directory: mcp_config(directory, instances=instances, **options))
        w.code = str(w.directory / "server.py")
        if is_ready:
            wait_for("its server is ready", lambda: process_of(w).get("state") == "ready", 10)
        return w

    return make


def count(w, name):
    return process_of(w)["mcp"][name]


def await_count(w, name, n):
    wait_for(f"{name} is {n}", lambda: count(w, name) == n)


def reload(w, config=None):
    served = w.log().count(" serves (")
    if config is not None:
        w.file.write_text(toml(config))
    w.signal(signal.SIGHUP)
    wait_for("the next one serves", lambda: w.log().count(" serves (") > served, 10)


# --- Streamable HTTP --------------------------------------------------------------------------------------

def test_a_session_is_begun_used_and_ended(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    assert client.greeting["serverInfo"]["name"] == "told"
    assert len(client.session) == 32 and int(client.session, 16)
    assert client.text("echo", "héllo \u2028 12345678901234567890.5") == "héllo \u2028 12345678901234567890.5"
    await_count(w, "sessions", 1)
    assert client.post(None, "DELETE")[0] == 200
    status, _, [answer] = client.post(client.request("ping", id="x"))
    assert status == 404 and answer["id"] == "x" and answer["error"]["code"] == -32001
    await_count(w, "sessions", 0)


def test_sessions_have_ids_of_their_own(mcp_weir):
    w = mcp_weir()
    assert len({Mcp(w).session for _ in range(20)}) == 20


@pytest.mark.parametrize("wanted, got", [
    ("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"), ("2025-11-25", "2025-06-18"), ("1999", "2025-06-18"),
])
def test_the_version_is_the_clients_unless_the_server_is_older(mcp_weir, wanted, got):
    client = Mcp(mcp_weir(), greet=False)
    _, _, [answer] = client.post(client.initialize(version=wanted))
    assert answer["result"]["protocolVersion"] == got


def test_what_is_not_asked_for_rightly_is_refused(mcp_weir):
    w = mcp_weir(mcp={"message": "4KiB", "depth": 8})
    client, stranger = Mcp(w), Mcp(w, greet=False)
    ping = client.request("ping", id=5)
    deep = {"jsonrpc": "2.0", "id": 5, "method": "ping", "params": json.loads("[" * 8 + "]" * 8)}
    for options, expected in [
        (dict(content=ping, content_type="text/plain"), (415, None)),
        (dict(content=ping, accept="text/html"), (406, -32000)),
        (dict(content="{"), (400, -32700)),
        (dict(content=""), (400, -32700)),
        (dict(content=[ping]), (400, -32600)),
        (dict(content={"jsonrpc": "2.0", "id": None, "method": "ping"}), (400, -32600)),
        (dict(content=deep), (400, -32700)),
        (dict(content="x" * 5000), (413, -32002)),
        (dict(content=ping, mcp_protocol_version="1999-01-01"), (400, -32000)),
        (dict(content=ping, mcp_session_id="0" * 32), (404, -32001)),
        (dict(content=ping, mcp_session_id=None), (400, -32000)),
        (dict(content=None, method="PUT"), (405, None)),
        (dict(content=None, method="GET", accept="application/json"), (406, None)),
        (dict(content=None, method="GET", mcp_session_id=None), (400, None)),
        (dict(content=None, method="DELETE", mcp_session_id="none"), (404, None)),
    ]:
        status, _, [answer] = client.post(**options)
        assert status == expected[0], options
        assert expected[1] is None or answer["error"]["code"] == expected[1], options
    assert client.post(ping, mcp_protocol_version="2025-06-18")[0] == 200
    assert stranger.post(stranger.request("tools/list"))[0] == 400
    [answer] = client.ask("initialize", client.initialize()["params"])
    assert answer["error"]["code"] == -32600
    assert [m["method"] for m in seen(w)] == ["ping"]


@pytest.mark.parametrize("accept, kind", [
    ("application/json, text/event-stream", "application/json"),
    ("text/event-stream, application/json", "text/event-stream"),
    ("text/event-stream", "text/event-stream"),
    ("application/json", "application/json"),
    ("*/*", "application/json"),
    (None, "application/json"),
])
def test_the_answer_is_what_the_client_takes(mcp_weir, accept, kind):
    client = Mcp(mcp_weir())
    status, head, [answer] = client.post(client.request("ping"), accept=accept)
    assert (status, head["content-type"], answer["result"]["method"]) == (200, kind, "ping")


def test_progress_comes_before_the_answer_if_the_client_takes_it(mcp_weir):
    client = Mcp(mcp_weir())
    messages = client.tool("progress", 3, token="a \"token\"")
    assert [m["params"] for m in messages[:-1]] == [{"progressToken": "a \"token\"", "progress": i} for i in range(3)]
    assert text_of(messages[-1]) == "done"
    status, _, [only] = client.post(client.request("tools/call", tool("progress", 3, 1)), accept="application/json")
    assert text_of(only) == "done"


# --- Many clients, one server -----------------------------------------------------------------------------

def test_clients_with_the_same_ids_and_tokens_get_their_own_answers(mcp_weir):
    w = mcp_weir()
    clients = [Mcp(w) for _ in range(12)]
    answers = {}

    def hold(number, client):
        answers[number] = client.ask("tools/call", tool("hold", f"of {number}", "token"), id="one")

    threads = [threading.Thread(target=hold, args=pair) for pair in enumerate(clients)]
    for thread in threads:
        thread.start()
    wait_for("all are held", lambda: sum(m["params"]["name"] == "hold" for m in seen(w)) == 12)
    assert clients[0].text("release") == "released"
    for thread in threads:
        thread.join(scaled(5))
    ids = [m["id"] for m in seen(w)]
    assert len(set(ids)) == len(ids)
    for number in range(12):
        progress, answer = answers[number]
        assert progress["params"] == {"progressToken": "token", "progress": f"of {number}"}
        assert answer["id"] == "one" and text_of(answer) == f"of {number}"


def test_an_id_that_is_in_use_is_refused(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    sock = client.begin("tools/call", tool("hold", "x"), id="same")
    wait_for("it is held", lambda: seen(w))
    assert client.ask("ping", id="same")[0]["error"]["code"] == -32600
    sock.close()


def test_a_request_of_the_server_goes_to_the_session_that_calls(mcp_weir):
    w = mcp_weir()
    idle, client = Mcp(w, {"sampling": {}}), Mcp(w, {"sampling": {}})
    stream = client.stream("tools/call", tool("ask", "mine"))
    asked = stream.next()
    assert asked["method"] == "sampling/createMessage" and asked["params"]["about"] == "mine"
    assert isinstance(asked["id"], int) and asked["params"]["_meta"]["progressToken"] == asked["id"]
    # Another session cannot answer in its place.
    assert idle.post({"jsonrpc": "2.0", "id": asked["id"], "result": "stolen"})[0] == 202
    assert client.note("notifications/progress", {"progressToken": asked["id"], "progress": 1})[0] == 202
    assert client.post({"jsonrpc": "2.0", "id": asked["id"], "result": {"said": "yes"}})[0] == 202
    assert json.loads(text_of(stream.next())) == {"said": "yes"}
    assert stream.next() is None
    assert [m["params"]["progressToken"] for m in seen(w) if m.get("method") == "notifications/progress"] == ["ask-0"]
    await_count(w, "late_total", 1)
    assert client.post({"jsonrpc": "2.0", "id": asked["id"], "result": "again"})[0] == 202
    await_count(w, "late_total", 2)


def test_what_could_be_for_several_or_for_none_is_told_to_the_server(mcp_weir):
    w = mcp_weir()
    able, other, unable = Mcp(w, {"sampling": {}}), Mcp(w, {"sampling": {}}), Mcp(w)
    assert json.loads(unable.text("ask", 1))["code"] == -32601
    sock = other.begin("tools/call", tool("hold", "x"))
    wait_for("the other one has a call", lambda: any(m.get("params", {}).get("name") == "hold" for m in seen(w)))
    assert json.loads(able.text("ask", 2))["code"] == -32601
    sock.close()
    wait_for("it has none any more", lambda: seen(w)[-1].get("method") == "notifications/cancelled")
    stream = able.stream("tools/call", tool("ask", 3))
    assert stream.next()["params"]["about"] == 3
    stream.close()
    await_count(w, "unowned_total", 2)


def test_where_clients_trust_each_other_who_can_do_it_is_asked(mcp_weir):
    w = mcp_weir(mcp={"ask": "able"})
    able, busy = Mcp(w, {"sampling": {}}), Mcp(w)
    stream = able.listen()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(busy.text("ask", "for the other")))
    thread.start()
    asked = stream.next()
    assert asked["params"]["about"] == "for the other"
    assert able.post({"jsonrpc": "2.0", "id": asked["id"], "result": "yes"})[0] == 202
    thread.join(scaled(5))
    assert json.loads(answers[0]) == "yes"
    other = Mcp(w, {"sampling": {}})
    assert json.loads(busy.text("ask", "one of two?"))["code"] == -32601
    own = other.stream("tools/call", tool("ask", "who calls"))
    assert own.next()["params"]["about"] == "who calls"
    own.close()
    stream.close()


def test_a_request_that_the_server_takes_back_is_taken_back(mcp_weir):
    w = mcp_weir()
    client = Mcp(w, {"roots": {}})
    asked, cancelled, answer = client.tool("take back")
    assert asked["method"] == "roots/list"
    assert cancelled["params"]["requestId"] == asked["id"]
    assert text_of(answer) == "taken back"
    client.post({"jsonrpc": "2.0", "id": asked["id"], "result": {}})
    await_count(w, "late_total", 1)


def test_the_servers_ping_is_answered_by_weir(mcp_weir):
    assert json.loads(Mcp(mcp_weir()).text("ping")) == {}


def test_notifications_go_to_all_streams(mcp_weir):
    w = mcp_weir()
    clients = [Mcp(w) for _ in range(3)]
    streams = [client.listen() for client in clients]
    clients[0].tool("notify", 2, method="notifications/tools/list_changed")
    for stream in streams:
        assert [stream.next()["params"]["n"] for _ in range(2)] == [0, 1]
        stream.close()


def test_a_second_stream_takes_the_first_ones_place(mcp_weir):
    client = Mcp(mcp_weir())
    first, second = client.listen(), client.listen()
    assert first.next() is None
    client.tool("notify", 1, method="notifications/tools/list_changed")
    assert second.next()["params"]["n"] == 0
    second.close()


@pytest.mark.soak
def test_a_silent_stream_is_kept_alive(mcp_weir):
    """Every 15 s, so that whoever is between does not take it for dead."""
    connection, reply = Mcp(mcp_weir()).open("GET", timeout=20)
    assert [reply.readline() for _ in range(2)] == [b": still here\n", b"\n"]
    connection.close()


def test_log_messages_go_to_who_calls_from_the_level_on_that_it_wants(mcp_weir):
    w = mcp_weir()
    loud, quiet = Mcp(w), Mcp(w)
    loud.ask("logging/setLevel", {"level": "debug"})
    quiet.ask("logging/setLevel", {"level": "error"})
    assert [m["params"]["level"] for m in seen(w)] == ["debug", "debug"]
    for client, wanted in [(loud, 2), (quiet, 0)]:
        messages = client.tool("notify", 2, method="notifications/message", params={"level": "info"})
        assert len(messages) == wanted + 1


def test_updates_go_to_who_has_subscribed(mcp_weir):
    w = mcp_weir()
    one, two = Mcp(w), Mcp(w)
    one.ask("resources/subscribe", {"uri": "a:1"})
    two.ask("resources/subscribe", {"uri": "a:1"})
    assert one.ask("resources/unsubscribe", {"uri": "a:1"})[-1]["result"] == {}
    assert [m["method"] for m in seen(w)] == ["resources/subscribe"] * 2
    streams = [client.listen() for client in (one, two)]
    one.tool("notify", 1, method="notifications/resources/updated", params={"uri": "a:1"})
    one.tool("notify", 1, method="notifications/other")
    assert [stream.next()["method"].split("/")[-1] for stream in streams] == ["other", "updated"]
    two.ask("resources/unsubscribe", {"uri": "a:1"})
    assert seen(w)[-1]["method"] == "resources/unsubscribe"
    for stream in streams:
        stream.close()


# --- Cancellation -----------------------------------------------------------------------------------------

def cancelled_ids(w):
    return [m["params"]["requestId"] for m in seen(w) if m.get("method") == "notifications/cancelled"]


def held_id(w):
    return wait_for("it is held", lambda: [m["id"] for m in seen(w) if m.get("params", {}).get("name") == "hold"])[-1]


def test_a_client_cancels_its_own_call_only(mcp_weir):
    w = mcp_weir()
    client, other = Mcp(w), Mcp(w)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(client.ask("tools/call", tool("hold", "x"), id="c")))
    thread.start()
    id = held_id(w)
    other.note("notifications/cancelled", {"requestId": "c"})
    other.note("notifications/cancelled", {"requestId": id})
    await_count(w, "late_total", 2)
    assert cancelled_ids(w) == []
    client.note("notifications/cancelled", {"requestId": "c", "reason": "enough"})
    thread.join(scaled(5))
    assert answers == [] and not thread.is_alive()
    wait_for("the server is told", lambda: cancelled_ids(w) == [id])
    client.text("release")
    await_count(w, "late_total", 3)


def test_a_call_is_cancelled_when_its_client_leaves(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    sock = client.begin("tools/call", tool("hold", "x"))
    id = held_id(w)
    sock.close()
    wait_for("the server is told", lambda: cancelled_ids(w) == [id])
    await_count(w, "cancelled_total", 1)
    await_count(w, "calls", 0)


def test_a_call_is_cancelled_when_its_deadline_passes(mcp_weir):
    w = mcp_weir(pipeline={"deadline": "300ms"})
    client = Mcp(w)
    status, _, [answer] = client.post(client.request("tools/call", tool("hold", "x")))
    assert status == 504 and answer["status"] == 504
    wait_for("the server is told", lambda: cancelled_ids(w) == [held_id(w)])


# --- A server that fails ----------------------------------------------------------------------------------

def test_a_server_that_dies_fails_its_calls_and_ends_its_sessions(mcp_weir):
    w = mcp_weir()
    client, other = Mcp(w), Mcp(w)
    stream = client.listen()
    [answer] = other.tool("die")
    assert answer["error"]["code"] == -32000 and "ended with status 3" in answer["error"]["message"]
    assert stream.next()["error"]["code"] == -32000
    assert stream.next() is None
    # A request that reaches the bridge while it ends would fail with it.
    wait_for("it has ended", lambda: process_of(w)["deaths_total"] == 1)
    # Held until the next one is ready, and then unknown.
    assert client.post(client.request("ping"))[0] == 404
    assert Mcp(w).text("echo", "back") == "back"
    assert process_of(w)["deaths_total"] == 1
    assert "'up' ended with status 3" in w.log()
    await_count(w, "sessions", 1)


def test_the_last_answers_of_a_bridge_end_their_connections(mcp_weir):
    """So that weir sends no request on one that is about to be closed."""
    w = mcp_weir()
    client = Mcp(w)
    content = json.dumps(client.request("tools/call", tool("die"))).encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(scaled(PATIENCE))
        sock.connect(str(w.directory / "mcp0.sock"))
        sock.sendall(f"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nmcp-session-id: "
                     f"{client.session}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        reply = sock.makefile("rb").read()
    assert b"ended with status 3" in reply and b"connection: close" in reply.lower()


def test_a_server_that_closes_its_output_counts_as_dead(mcp_weir):
    w = mcp_weir(process={"stop": {"grace": "100ms"}})
    [answer] = Mcp(w).tool("close")
    assert answer["error"]["code"] == -32000 and "closed its standard output" in answer["error"]["message"]
    wait_for("it has ended", lambda: process_of(w)["deaths_total"] == 1)
    assert Mcp(w).text("echo", "back") == "back"
    assert len(pids_with(w.code)) == 2  # the bridge, which has its command line too


def test_a_server_that_takes_its_time_to_end_is_asked_how(mcp_weir):
    [answer] = Mcp(mcp_weir()).tool("end slowly", 0.4)
    assert "ended with status 4" in answer["error"]["message"]


def test_a_server_that_closes_its_input_counts_as_dead(mcp_weir):
    w = mcp_weir(process={"stop": {"grace": "100ms"}})
    client = Mcp(w)
    assert client.text("close input") == "closed"
    [answer] = client.tool("echo", "is anybody there?")
    assert answer["error"]["code"] == -32000 and "closed its standard input" in answer["error"]["message"]
    wait_for("it has ended", lambda: process_of(w)["deaths_total"] == 1)
    assert Mcp(w).text("echo", "back") == "back"


def test_a_server_that_hangs_is_started_again(mcp_weir):
    """It answers nothing, reads nothing, and has no call whose deadline could tell."""
    w = mcp_weir(mcp={"ping": "1s"}, process={"stop": {"grace": "100ms"}})
    client = Mcp(w)
    stream = client.listen()
    assert client.text("stop reading") == "deaf"
    error = stream.next()["error"]
    assert error["code"] == -32000 and "does not answer a ping" in error["message"]
    assert stream.next() is None
    wait_for("it has ended", lambda: process_of(w)["deaths_total"] == 1)
    assert "hangs, or knows no ping: then have mcp.ping = 0" in w.log()
    client = Mcp(w)
    wait_for("the next one was asked too", lambda: seen(w)[-1]["method"] == "ping")
    assert client.text("echo", "back") == "back", "and lives on, as it answers"
    assert count(w, "late_total") == 0


def test_a_server_that_is_killed_is_started_again(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    bridge = process_of(w)["instances"][0]["pid"]
    [server] = [pid for pid in pids_with(w.code) if pid != bridge]
    os.kill(server, signal.SIGKILL)
    wait_for("it has died", lambda: process_of(w)["deaths_total"] == 1)
    assert client.post(client.request("ping"))[0] == 404
    # What the bridge says goes into the log by way of what programs say: with one time, not two.
    assert "info 'up' says: error the MCP server of 'up' died by signal 9" in w.log()


def test_garbage_is_counted_and_passed_over(mcp_weir):
    w = mcp_weir()
    assert Mcp(w).text("garbage") == "sorry"
    await_count(w, "garbage_total", 5)


def test_an_answer_that_cannot_be_read_fails_its_call(mcp_weir):
    w = mcp_weir()
    [answer] = Mcp(w).tool("bad answer")
    assert answer["error"]["code"] == -32603 and "cannot be read" in answer["error"]["message"]
    await_count(w, "garbage_total", 1)


def test_answers_to_nothing_are_counted(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    assert client.text("unknown") == "mine"
    await_count(w, "late_total", 2)
    assert client.text("twice") == "once"
    await_count(w, "late_total", 3)


@pytest.mark.parametrize("megabytes", [2, 1024 if VARIANT == "release" else 128])
def test_a_line_that_is_too_long_fails_its_call_only(mcp_weir, megabytes):
    w = mcp_weir(mcp={"message": "1MiB"})
    client = Mcp(w)
    bridge = process_of(w)["instances"][0]["pid"]
    status, _, [answer] = client.post(client.request("tools/call", tool("long", megabytes)), timeout=30)
    assert answer["error"]["code"] == -32603 and f"{megabytes << 20}"[:3] in answer["error"]["message"]
    assert client.text("echo", "well") == "well"
    await_count(w, "too_long_total", 1)
    if VARIANT == "release":
        status = open(f"/proc/{bridge}/status").read()
        peak_kib = int(status.split("VmHWM:")[1].split()[0])
        assert peak_kib < 64 * 1024


def test_a_server_that_does_not_read_is_not_waited_for(mcp_weir):
    w = mcp_weir(process={"stop": {"grace": "100ms"}})
    client = Mcp(w)
    assert client.text("stop reading") == "deaf"
    socks = [client.begin("tools/call", tool("echo", "x" * (1 << 20))) for _ in range(9)]
    wait_for("no more is taken", lambda: count(w, "refused_total") > 0)
    [answer] = client.tool("echo", "x" * (1 << 20))
    assert answer["error"]["code"] == -32002 and "does not read" in answer["error"]["message"]
    for sock in socks:
        sock.close()


def test_a_flood_of_notifications_leaves_the_last_ones(mcp_weir):
    w = mcp_weir(mcp={"queue": 10})
    client = Mcp(w)
    assert client.tool("notify", 1000, method="notifications/tools/list_changed")[-1]
    await_count(w, "dropped_total", 990)
    stream = client.listen()
    assert [stream.next()["params"]["n"] for _ in range(10)] == list(range(990, 1000))
    stream.close()


def test_a_request_that_gives_way_in_the_queue_is_declined(mcp_weir):
    w = mcp_weir(mcp={"queue": 1})
    client = Mcp(w, {"sampling": {}}, accept="application/json")
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(client.text("ask", i))) for i in range(2)]
    for thread in threads:
        thread.start()
    wait_for("one was declined", lambda: answers)
    assert json.loads(answers[0])["code"] == -32002
    client.fields["accept"] = HEAD["accept"]
    stream = client.listen()
    asked = stream.next()
    client.post({"jsonrpc": "2.0", "id": asked["id"], "result": "well"})
    for thread in threads:
        thread.join(scaled(5))
    assert json.loads(answers[1]) == "well"
    stream.close()


def test_one_that_does_not_want_to_be_initialized_is_held(mcp_weir):
    w = mcp_weir(is_ready=False, argv=["refuse"], process={"crash": {"deaths": 1}}, pipeline={"hold": 0})
    wait_for("it is held", lambda: process_of(w).get("state") == "held", 10)
    assert "cannot be initialized" in w.log() and "I do not want to" in w.log()
    client = Mcp(w, greet=False)
    status, _, [answer] = client.post(client.initialize())
    assert status == 503 and "keeps dying" in answer["title"]


def test_one_that_says_nothing_is_ended(mcp_weir):
    w = mcp_weir(is_ready=False, argv=["mute"], process={"crash": {"deaths": 1}, "ready": {"timeout": "300ms"}},
                 pipeline={"hold": 0})
    wait_for("it is held", lambda: process_of(w).get("state") == "held", 10)
    assert "'up' was not ready in time" in w.log()
    wait_for("nobody is left", lambda: not pids_with(w.code))


def test_one_that_cannot_be_started_is_named(mcp_weir):
    w = mcp_weir(is_ready=False, process={"command": ["/no/such/server"], "crash": {"deaths": 1}})
    wait_for("it is held", lambda: process_of(w).get("state") == "held", 10)
    assert "cannot start '/no/such/server': cannot execute it: No such file or directory" in w.log()


# --- Limits -----------------------------------------------------------------------------------------------

def test_sessions_are_bounded_and_forgotten(mcp_weir):
    w = mcp_weir(mcp={"sessions": 2, "idle": "1s"})
    kept, idle = Mcp(w), Mcp(w)
    stream = kept.listen()
    refused = Mcp(w, greet=False)
    status, head, [answer] = refused.post(refused.initialize())
    assert status == 429 and head["retry-after"] and answer["error"]["code"] == -32002
    assert "mcp.sessions" in answer["error"]["message"] and answer["id"] == "hello"
    wait_for("the idle one is forgotten", lambda: count(w, "sessions") == 1)
    assert idle.post(idle.request("ping"))[0] == 404
    assert kept.ask("ping")[0]["result"]
    assert Mcp(w).session
    stream.close()


@pytest.mark.parametrize("limit", ["calls", "calls_per_session"])
def test_calls_are_bounded(mcp_weir, limit):
    w = mcp_weir(mcp={limit: 2})
    client, other = Mcp(w), Mcp(w)
    socks = [client.begin("tools/call", tool("hold", "x")) for _ in range(2)]
    wait_for("both are held", lambda: len(seen(w)) == 2)
    [answer] = client.ask("ping")
    assert answer["error"]["code"] == -32002 and f"mcp.{limit} " in answer["error"]["message"]
    assert ("error" in other.ask("ping")[0]) == (limit == "calls")
    for sock in socks:
        sock.close()


# --- Life with weir ---------------------------------------------------------------------------------------

def test_sessions_live_over_reloads_and_deaths_of_gateways(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    pids = sorted(pids_with(w.code))
    reload(w)
    assert client.text("echo", "still") == "still"
    gateway = w.gateway
    os.kill(gateway, signal.SIGKILL)
    wait_for("another one serves", lambda: w.gateway not in (None, gateway), 10)
    assert wait_for("it answers", lambda: client.text("echo", "here")) == "here"
    assert sorted(pids_with(w.code)) == pids


def test_another_definition_ends_sessions_with_a_reason(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(client.tool("hold", "x")))
    thread.start()
    held_id(w)
    starts = process_of(w)["starts_total"]
    config = mcp_config(w.directory, mcp={"sessions": 5})
    config["listener"], config["admin"] = w.config["listener"], w.config["admin"]
    reload(w, config)
    thread.join(scaled(10))
    assert answers[0]["error"]["code"] == -32000
    wait_for("the next one is ready",
             lambda: process_of(w)["starts_total"] > starts and process_of(w)["state"] == "ready", 10)
    assert client.post(client.request("ping"))[0] == 404


def test_each_session_stays_with_its_instance(mcp_weir):
    w = mcp_weir(instances=2)
    clients = [Mcp(w) for _ in range(12)]
    for _ in range(3):
        for number, client in enumerate(clients):
            assert client.text("echo", str(number)) == str(number)
    await_count(w, "sessions", 12)
    stranger = Mcp(w, greet=False)
    assert stranger.post(stranger.request("ping"), mcp_session_id="0" * 32)[0] == 404


def test_it_is_counted_and_shown(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    client.text("echo", "x")
    await_count(w, "calls_total", 1)
    m = w.metrics()
    assert m.sum("weir_mcp_sessions", pipeline="up") == 1
    assert m.sum("weir_mcp_calls_total", pipeline="up") == 1
    done = subprocess.run(["promtool", "check", "metrics"], input=m.text, capture_output=True, text=True,
                          timeout=scaled(20))
    assert done.returncode == 0, done.stdout + done.stderr
    status, out, _ = run_cli("status", w.file)
    assert status == 0
    [line] = [x for x in out.splitlines() if x.startswith("up") and x.split()[1:] == list("1010" "0000")]


def test_sessions_live_over_an_upgrade(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    served = w.log().count(" serves (")
    w.signal(signal.SIGUSR2)
    wait_for("it took over", lambda: "took over from the binary before" in w.log(), 10)
    wait_for("a gateway of it serves", lambda: w.log().count(" serves (") > served, 10)
    assert client.text("echo", "still") == "still"


@pytest.mark.parametrize("who", ["supervisor", "bridge"])
def test_no_server_is_left_behind(mcp_weir, who):
    w = mcp_weir()
    bridge = process_of(w)["instances"][0]["pid"]
    servers = [pid for pid in pids_with(w.code) if pid != bridge]
    w.must_be_clean = who != "supervisor"
    os.kill(w.pid if who == "supervisor" else bridge, signal.SIGKILL)
    wait_for("it has ended", lambda: not set(servers) & set(pids_with(w.code)), 1)
    if who == "bridge":
        assert wait_for("the next one is there", lambda: process_of(w)["state"] == "ready", 10)
        assert Mcp(w).text("echo", "back") == "back"


def test_it_ends_with_weir(mcp_weir):
    w = mcp_weir()
    client = Mcp(w)
    assert client.text("echo", "x") == "x"
    w.signal()
    assert w.await_exit() == 0
    assert pids_with(w.code) == []


# --- The configuration ------------------------------------------------------------------------------------

@pytest.mark.parametrize("pipeline, error", [
    ({"process": None}, "pipeline.process: found none with protocol = \"mcp-stdio\""),
    ({"endpoints": None}, "pipeline.endpoints: found nothing"),
    ({"protocol": None, "mcp": {"sessions": 1}}, "pipeline.mcp: found with protocol = \"http1\""),
    ({"mcp": {"session": 1}}, "did you mean \"sessions\"?"),
    ({"mcp": {"depth": 257}}, "expected an integer from 4 to 256"),
    ({"process": {"ready": {"check": "http", "path": "/"}}}, "it is ready when it has answered initialize"),
    ({"process": {"output": "lines"}}, "pipeline.process.output: found with protocol = \"mcp-stdio\""),
])
def test_what_makes_no_sense_is_an_error(tmp_path, pipeline, error):
    file = tmp_path / "weir.toml"
    file.write_text(toml(mcp_config(tmp_path, pipeline=pipeline)))
    status, _, err = run_cli("check", file)
    assert status == 2 and error in err


def test_a_bridge_is_not_started_by_hand():
    status, _, err = run_cli("mcp-stdio", "{}", "true")
    assert status == 2 and "this is started by weir run" in err
