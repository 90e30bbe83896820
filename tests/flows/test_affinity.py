"""Where a request goes: by hash, by a cookie that weir sets, by a session id that an upstream gave out."""

import itertools
import os
import re
import signal
import threading
import time

import pytest
from harness.env import free_port, wait_for
from harness.replies import expect_problem, reason_of
from harness.upstream import answering
from harness.wire import request, response

pytestmark = pytest.mark.timeout(120)

MCP = {"affinity": {"header": "mcp-session-id", "learn": "response"}}
COOKIE = {"affinity": {"cookie": "weir"}}
_numbers = itertools.count()


def named(serve, name, **options):
    """An upstream that says who it is; "initialize" gives out a session, which nobody else knows."""
    sessions = set()

    def answer(message):
        session = message.fields.get("mcp-session-id")
        if message.body == b"initialize":
            session = f"{name}-session-{next(_numbers)}"
            sessions.add(session)
            return response(fields=[f"Mcp-Session-Id: {session}"], body=name.encode())
        if session and session not in sessions:
            return response(404, body=b"not mine")
        return response(body=name.encode())

    server = serve(answering(answer), **options)
    server.name, server.sessions = name, sessions
    return server


def ask(w, session=None, body=b"call", fields=()):
    own = [f"Mcp-Session-Id: {session}"] if session else []
    return w.exchange(request("POST", "/mcp", fields=[*own, *fields], body=body))


def initialize(w):
    reply = ask(w, body=b"initialize")
    return reply.fields.get("mcp-session-id"), reply.body


def sessions_of(w, n):
    """{session: who gave it out}"""
    return dict(initialize(w) for _ in range(n))


# Sessions.


@pytest.mark.threads
def test_a_session_goes_back_to_whoever_gave_it_out(weir, serve):
    w = weir(*(named(serve, n) for n in "abc"), route=MCP)
    sessions = sessions_of(w, 12)
    assert len(set(sessions.values())) > 1, "new ones are spread"
    for session, owner in sessions.items():
        for _ in range(4):
            assert ask(w, session).body == owner
    # What the upstream says is what the client hears, and the other way round.
    assert all(re.fullmatch(r"[abc]-session-\d+", session) for session in sessions)


@pytest.mark.parametrize("how", ["reload", "kill"])
def test_sessions_survive_a_reload_and_the_death_of_the_gateway(weir, serve, how):
    w = weir(*(named(serve, n) for n in "abc"), route=MCP)
    sessions = sessions_of(w, 12)
    old = w.gateway
    if how == "reload":
        w.signal(signal.SIGHUP)
    else:
        os.kill(old, signal.SIGKILL)
    wait_for("another gateway serves", lambda: any(
        p != old and f"gateway {p} serves" in w.log() for p in w.gateways()), 15)
    for session, owner in sessions.items():
        assert ask(w, session).body == owner


def test_a_session_whose_endpoint_is_gone_is_served_by_another(weir, serve):
    """Which knows nothing of it, says so, and the client begins a new one."""
    a, b = named(serve, "a"), named(serve, "b")
    w = weir(a, b, route=MCP, pipeline={"retry": {"attempts": 3, "on": ["connect", "refused"]}})
    sessions = sessions_of(w, 12)
    a.close()
    lost = [s for s, owner in sessions.items() if owner == b"a"]
    assert lost
    for session in lost:
        assert ask(w, session).status == 404
    for session, owner in sessions.items():
        if owner == b"b":
            assert ask(w, session).body == b"b"
    assert initialize(w)[1] == b"b"


def test_a_strict_one_is_refused_when_its_endpoint_is_gone(weir, serve):
    a, b = named(serve, "a"), named(serve, "b")
    w = weir(a, b, route={"affinity": {**MCP["affinity"], "strict": True}})
    sessions = sessions_of(w, 12)
    assert ask(w, next(iter(sessions))).status == 200
    reply = ask(w, "of-nobody")
    assert reason_of(reply) == "affinity_lost"
    expect_problem(reply, 404, errors={"destination_not_found"})
    a.close()
    of_a = next(s for s, owner in sessions.items() if owner == b"a")
    # Down, but it may come back with its sessions.
    assert ask(w, of_a).status in (502, 503)
    assert not any(m.fields.get("mcp-session-id") == of_a for m in b.requests)


def test_one_that_was_refused_is_not_learned(weir, serve):
    """Only an answer that is none is a session's."""
    both = [serve(answering(lambda m: response(400, fields=["Mcp-Session-Id: bad"]))) for _ in range(2)]
    w = weir(*both, route={"affinity": {**MCP["affinity"], "strict": True}})
    assert w.exchange(request()).status == 400
    assert reason_of(ask(w, "bad")) == "affinity_lost"


def test_pipelines_do_not_know_of_each_others_sessions(weir, serve):
    a, b = named(serve, "a"), named(serve, "b")
    strict = {"affinity": {**MCP["affinity"], "strict": True}}
    w = weir(config=lambda d: {
        "server": {"threads": 2, "drain": {"shutdown": "1s"}},
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "listener": [{"name": "http", "listen": f"127.0.0.1:{free_port()}"}],
        "pipeline": [{"name": "a", "endpoints": [a.endpoint]}, {"name": "b", "endpoints": [b.endpoint]}],
        "route": [{"match": {"path": "/mcp"}, "pipeline": "a", **strict},
                  {"match": {"path": "/other"}, "pipeline": "b", **strict}],
    })
    session, _ = initialize(w)
    assert ask(w, session).status == 200
    assert reason_of(w.exchange(request(target="/other", fields=[f"Mcp-Session-Id: {session}"]))) == "affinity_lost"


# Cookies.


def cookie_of(reply):
    match = re.fullmatch(r"weir=([0-9a-f]{32}); Path=/; HttpOnly; SameSite=Lax", reply.fields.get("set-cookie"))
    assert match, reply.fields.get("set-cookie")
    return match[1]


def with_cookie(w, value, more=""):
    return w.exchange(request(fields=[f"Cookie: a=1; weir={value}{more}"]))


def test_a_cookie_leads_back(weir, serve):
    w = weir(*(named(serve, n) for n in "abc"), route=COOKIE)
    owners = {}
    for _ in range(12):
        reply = w.exchange(request())
        owners[cookie_of(reply)] = reply.body
    assert len(set(owners.values())) > 1
    for value, owner in owners.items():
        for more in ("", "; b=2", "; weir2=x"):
            reply = with_cookie(w, value, more)
            assert reply.body == owner
            assert "set-cookie" not in reply.fields, "it has one"


def test_a_cookie_survives_a_restart_of_everything(weir, serve):
    """It leads to its endpoint by itself; no table is needed."""
    upstreams = [named(serve, n) for n in "abc"]
    w = weir(*upstreams, route=COOKIE)
    owners = {}
    for _ in range(12):
        reply = w.exchange(request())
        owners[cookie_of(reply)] = reply.body
    w.stop()
    w = weir(*upstreams, route=COOKIE)
    for value, owner in owners.items():
        assert with_cookie(w, value).body == owner


def test_what_is_no_cookie_of_ours_is_replaced(weir, serve):
    w = weir(named(serve, "a"), route=COOKIE)
    for value in ("", "x", "0" * 31):
        cookie_of(with_cookie(w, value))


def test_one_whose_endpoint_was_away_stays_with_the_other(weir, serve):
    port = free_port()
    a, b = named(serve, "a", port=port), named(serve, "b")
    w = weir(a, b, route=COOKIE, pipeline={"retry": {"attempts": 3, "on": ["connect", "refused"]}})
    owners = {}
    for _ in range(12):
        reply = w.exchange(request())
        owners[cookie_of(reply)] = reply.body
    of_a = [value for value, owner in owners.items() if owner == b"a"]
    assert of_a
    a.close()
    assert {with_cookie(w, value).body for value in of_a} == {b"b"}
    named(serve, "a", port=port)
    w.await_metric("weir_endpoint_connections", 0, endpoint=f"127.0.0.1:{port}")
    for value in of_a:
        assert with_cookie(w, value).body == b"b", "its session is there now"


# By hash.


@pytest.mark.parametrize("hash, vary", [
    ("path", lambda n: request(target=f"/{n}?q={next(_numbers)}")),
    ("header:X-User", lambda n: request(fields=[f"X-User: {n}"])),
    ("cookie:user", lambda n: request(fields=[f"Cookie: other={next(_numbers)}; user={n}"])),
])
def test_the_same_go_to_the_same(weir, serve, hash, vary):
    w = weir(*(named(serve, n) for n in "abc"), pipeline={"balance": {"by": "hash", "hash": hash}})
    owners = {n: w.exchange(vary(n)).body for n in range(24)}
    assert set(owners.values()) == {b"a", b"b", b"c"}
    for n, owner in owners.items():
        assert w.exchange(vary(n)).body == owner
    old = w.gateway
    w.signal(signal.SIGHUP)
    wait_for("another gateway serves", lambda: any(
        p != old and f"gateway {p} serves" in w.log() for p in w.gateways()), 15)
    for n, owner in owners.items():
        assert w.exchange(vary(n)).body == owner


@pytest.mark.threads
def test_who_answers_slowly_is_asked_little(weir, serve):
    """One after the other, so that what is in flight says nothing."""
    def slowly(message):
        time.sleep(0.5)
        return response(body=b"slow")

    w = weir(serve(answering(slowly)), *(named(serve, n) for n in "bc"), pipeline={"balance": {"by": "latency"}})
    bodies = [ask(w).body for _ in range(60)]
    assert set(bodies) == {b"slow", b"b", b"c"}
    assert bodies.count(b"slow") <= 10


def test_a_client_goes_to_one_endpoint(weir, serve):
    w = weir(*(named(serve, n) for n in "abc"), pipeline={"balance": {"by": "hash"}})
    assert len({w.exchange(request()).body for _ in range(20)}) == 1


def test_a_favourite_does_not_get_more_than_its_bound(weir, serve):
    """A key that everybody asks for is served by the next ones too, when its own is full."""
    go = threading.Event()
    upstreams = [serve(answering(pause=go)) for _ in range(3)]
    w = weir(*upstreams, pipeline={"balance": {"by": "hash", "hash": "path"}})
    clients = [w.client(timeout=30) for _ in range(24)]
    for i, client in enumerate(clients):
        client.send(request(target="/favourite"))
        wait_for("it is there", lambda: sum(u.busy for u in upstreams) == i + 1)
    most = max(u.busy for u in upstreams)
    go.set()
    assert [c.read_response().status for c in clients] == [200] * 24
    assert most <= 24 / 3 * 1.25 + 1
