"""Handlers in front of an upstream: what they see, edit and answer, and what is wrong with them."""

import json
import os
import re
import signal
import subprocess

import pytest
import websockets
from harness.certs import Authority, secure_client
from harness.env import BINARY, PATIENCE, VARIANT, free_port, scaled, wait_for
from harness.handlers import do, handler, problem, start
from harness.http2 import Http2Client
from harness.upstream import answering
from harness.weir import merged, run_cli, toml
from harness.wire import request, response

HTTP2 = {"protocol": "http2"}


def calls(w, outcome, name="a"):
    return w.metrics().sum("weir_handler_calls_total", handler=name, outcome=outcome)


# Requests.


def test_a_handler_edits_what_is_sent_on(weir, serve):
    upstream = serve()
    w = start(weir, upstream)
    fields = [do("set x-one 1", "add x-two 2", "add x-two 3", "remove X-Secret", "set x-old new"),
              "X-Secret: a", "x-secret: b", "X-Old: 1", "x-old: 2", "Accept: */*"]
    assert w.exchange(request(fields=fields)).status == 200
    seen = upstream.requests[0].fields
    assert seen.get("x-one") == "1" and seen.all("x-two") == ["2", "3"]
    assert "x-secret" not in seen and seen.all("x-old") == ["new"] and seen.get("accept") == "*/*"
    assert "x-not-taken" not in seen
    w.await_metric("weir_handler_calls_total", 2, handler="a", outcome="continue")  # and the response
    w.await_metric("weir_handler_duration_seconds_count", 2, handler="a")


def test_what_frames_a_message_cannot_be_edited(weir, serve):
    upstream = serve()
    w = start(weir, upstream)
    commands = ["set content-length 7", "add Transfer-Encoding chunked", "remove host", "set connection x",
                "add te trailers", "set upgrade h2c", "set bad/name x", "path nowhere", "path /a b",
                "set expect 100-continue", "set grpc-timeout 1S", "var Upper x", "status 200"]
    assert w.exchange(request(fields=[do(*commands)])).status == 200
    seen = upstream.requests[0].fields
    for name in ("content-length", "transfer-encoding", "te", "upgrade", "expect", "grpc-timeout"):
        assert name not in seen
    assert seen.all("x-not-taken") == commands and seen.get("host") == "weir.test"


def test_a_handler_sets_the_path_and_the_log_has_the_one_that_was_asked_for(weir, serve):
    upstream = serve()
    w = start(weir, upstream)
    w.exchange(request(target="/old?x=1", fields=[do("path /new?y=2")]))
    assert upstream.requests[0].target == "/new?y=2"
    line = w.await_access(1)[0]
    assert line["target"] == "/old?x=1" and line["route"] == "all"


def test_an_asterisk_becomes_a_path(weir, serve):
    upstream = serve()
    w = start(weir, upstream)
    assert w.exchange(request("OPTIONS", "*", fields=[do("path /all")])).status == 200
    assert upstream.requests[0].target == "/all"


def test_handlers_see_the_request(weir, serve):
    upstream = serve()
    w = start(weir, upstream, listener={"trust": []})
    assert w.exchange(request("POST", "/p?q", fields=[do("show"), "X-Other: 1"], body=b"abc")).status == 200
    seen = upstream.requests[0].fields
    assert seen.get("x-saw-request") == "POST http://weir.test/p?q 11 http all 3"
    assert seen.get("x-saw-client") == "127.0.0.1 port"
    assert seen.get("x-saw-body") == "0"  # it has not asked for it
    assert seen.get("x-saw-id") == seen.get("x-request-id")


def test_they_are_called_in_order_and_see_each_other(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler("b"), handler("a"))
    fields = [do("add x-trace b", "var user jo e", "set x-do-a add x-trace then a", tag="b"),
              do("add x-trace a first", "see user")]
    assert w.exchange(request(fields=fields)).status == 200
    seen = upstream.requests[0].fields
    assert seen.all("x-trace") == ["b", "then a"]
    upstream.requests.clear()
    fields = [do("var user jo e", "var other", tag="b"), do("see user", "var more 1")]
    assert w.exchange(request(fields=fields)).status == 200
    assert upstream.requests[0].fields.get("x-var") == "jo e"
    assert {"user": "jo e", "other": "", "more": "1"} in w.variables_of(2)
    # The response passes them in reverse.
    reply = w.exchange(request(fields=[do("add x-b 1", tag="b-response"), do("see user", tag="a-response"),
                                       do("var user x", tag="b")]))
    assert [v.split()[0] for v in reply.fields.all("x-response-call")] == ["x-do-a", "x-do-b"]
    assert reply.fields.get("x-b") == "1" and reply.fields.get("x-var") == "x"


def test_a_route_without_handlers_calls_none(weir, serve):
    upstream = serve()
    w = start(weir, upstream,
              routes=[{"name": "plain", "match": {"path": "/plain"}, "pipeline": "up"}])
    reply = w.exchange(request(target="/plain", fields=[do("respond 418 no")]))
    assert reply.status == 200 and "x-response-call" not in reply.fields
    assert w.exchange(request(fields=[do("respond 418 no")])).status == 418
    w.await_metric("weir_handler_calls_total", 1, handler="a")


# Answers.


def test_a_handler_answers_itself(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler("a"), handler("b"))
    reply = w.exchange(request(fields=[do("field X-Why because", "field Content-Type text/x-test",
                                          "field Set-Cookie a=1", "field Set-Cookie b=2",
                                          "respond 418 short and stout"),
                                       do("respond 200 not me", tag="b")]))
    assert reply.status == 418 and reply.body == b"short and stout"
    assert reply.fields.get("x-why") == "because" and reply.fields.get("content-type") == "text/x-test"
    assert reply.fields.all("set-cookie") == ["a=1", "b=2"]
    assert reply.fields.get("date") and reply.fields.get("x-request-id")
    assert "x-response-call" not in reply.fields
    assert upstream.accepted == 0
    line = w.await_access(1)[0]
    assert line["status"] == 418 and line["handler"] == "a" and "reason" not in line
    w.await_metric("weir_handler_calls_total", 1, handler="a", outcome="respond")
    assert calls(w, "continue", "b") == 0


def test_an_answer_keeps_the_connection(weir, serve):
    w = start(weir, serve())
    with w.client() as client:
        for status, method in ((200, "GET"), (204, "GET"), (304, "GET"), (200, "HEAD"), (200, "GET")):
            client.send(request(method, fields=[do(f"respond {status} hello")]))
            reply = client.read_response(method)
            assert reply.status == status
            assert reply.body == (b"hello" if method == "GET" and status == 200 else b"")
            if method == "HEAD":
                assert reply.length == 5
        client.send(request("POST", fields=[do("respond 200 early")], body=b"x" * 1000))
        assert client.read_response().body == b"early"
        client.send(request())
        assert client.read_response().body == b"ok"


def test_a_handler_refuses(weir, serve):
    upstream = serve()
    w = start(weir, upstream)
    reply = w.exchange(request(fields=[do("field WWW-Authenticate Test", "field content-type text/html",
                                          'refuse 401 who "are" you')]))
    assert reply.status == 401 and reply.fields.get("www-authenticate") == "Test"
    said = problem(reply)
    assert said["title"] == 'who "are" you' and said["status"] == 401 and said["handler"] == "a"
    assert said["detail"] == "handler 'a'; ask \"otherwise\"" and said["type"] == "urn:weir:handler_refused"
    assert upstream.accepted == 0
    line = w.await_access(1)[0]
    assert (line["status"], line["reason"], line["handler"]) == (401, "handler_refused", "a")
    w.await_metric("weir_rejected_total", 1, reason="handler_refused")
    w.await_metric("weir_handler_calls_total", 1, handler="a", outcome="refuse")


def test_request_handlers_are_not_called_again_for_a_retry(weir, listen):
    up = listen()
    w = start(weir, up, pipeline={"retry": {"attempts": 3, "on": ["connect", "refused", "reset"]}})
    with w.client() as client:
        client.send(request(fields=[do("add x-n 1")]))
        for _ in range(2):
            wire = up.accept()
            assert wire.read_request().fields.all("x-n") == ["1"]
            wire.close()
        wire = up.accept()
        assert wire.read_request().fields.all("x-n") == ["1"]
        wire.send(response(body=b"ok"))
        reply = client.read_response()
    assert reply.status == 200 and reply.fields.all("x-response-call") == ["x-do-a 200 1"]
    w.await_metric("weir_handler_calls_total", 2, handler="a", outcome="continue")


# Responses.


def test_a_handler_edits_the_response(weir, serve):
    upstream = serve(answering(response(201, ["X-Old: 1", "Server: s", "Set-Cookie: a=1"], b"body")))
    w = start(weir, upstream)
    reply = w.exchange(request(fields=[do("set x-old 2", "remove server", "add set-cookie b=2", "status 202",
                                          "set content-length 1", "path /x", tag="a-response")]))
    assert reply.status == 202 and reply.body == b"body"
    assert reply.fields.get("x-old") == "2" and "server" not in reply.fields
    assert reply.fields.all("set-cookie") == ["a=1", "b=2"]
    assert reply.fields.get("x-response-call") == "x-do-a 201 4"
    assert reply.fields.all("x-not-taken") == ["set content-length 1", "path /x"]
    assert w.await_access(1)[0]["status"] == 202


def test_the_response_is_for_those_who_want_it(weir, serve):
    w = start(weir, serve(), handler("a", "puppet_wanting"), handler("b", "puppet_wanting"), handler("c"))
    for tags, seen in zip([(), ("b",), ("a",)], [["c"], ["c", "b"], ["c", "a"]]):
        reply = w.exchange(request(fields=[do("want", tag=tag) for tag in tags]))
        assert [line.split()[0][-1] for line in reply.fields.all("x-response-call")] == seen
    for name, count in (("a", 4), ("b", 4), ("c", 6)):
        w.await_metric("weir_handler_calls_total", count, handler=name, outcome="continue")
    # A response call has nothing more to want.
    reply = w.exchange(request(fields=[do("want", tag="c-response")]))
    assert reply.fields.get("x-not-taken") == "want"


@pytest.mark.parametrize("before, after", [(200, 204), (200, 304), (204, 200), (304, 200)])
def test_a_status_that_frames_stays(weir, serve, before, after):
    w = start(weir, serve(answering(response(before, body=b"xyz" if before == 200 else b""))))
    with w.client() as client:
        for _ in range(2):
            client.send(request(fields=[do(f"status {after}", tag="a-response")]))
            reply = client.read_response()
            assert reply.status == before and reply.body == (b"xyz" if before == 200 else b"")


def test_a_large_response_passes_whole(weir, serve):
    body = bytes(range(256)) * 8192
    w = start(weir, serve(answering(response(body=body))))
    for _ in range(3):
        assert w.exchange(request(fields=[do("add x-a 1", tag="a-response")])).body == body


# Other ways in.


def test_over_http2(weir, serve):
    upstream = serve(answering(response(body=b"ok")))
    w = start(weir, upstream, listener=HTTP2)
    with Http2Client(w.port) as client:
        sid = client.ask("GET", "/p", [("x-do-a", "show|add x-one 1"), ("x-do-a-response", "add x-two 2")])
        reply = client.response(sid)
        assert reply.status == 200 and reply.fields.get("x-two") == "2"
        assert upstream.requests[0].fields.get("x-saw-request") == "GET http://weir.test/p 20 http all 2"
        assert upstream.requests[0].fields.get("x-one") == "1"
        reply = client.response(client.ask("GET", "/", [("x-do-a", "field X-Why because|respond 418 teapot")]))
        assert reply.status == 418 and bytes(reply.body) == b"teapot" and reply.fields.get("x-why") == "because"
        reply = client.response(client.ask("GET", "/", [("x-do-a", "refuse 403 no")]))
        assert reply.status == 403 and json.loads(bytes(reply.body))["title"] == "no"


def test_a_client_certificate_is_shown(weir, serve, tmp_path):
    upstream = serve()
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue("a", "a.test")
    w = start(weir, upstream, listener={"tls": {"cert": str(cert), "key": str(key), "client_ca": str(ca.crt)}})
    with secure_client(w, ca.client(ca.issue("client", "a client"))) as client:
        for _ in range(2):
            client.send(request(fields=[do("show")]))
            assert client.read_response().status == 200
    assert upstream.requests[1].fields.get("x-saw-client") == "127.0.0.1 port trusted secure CN=a client"
    assert upstream.requests[1].fields.get("x-saw-request").startswith("GET https://")


def test_a_websocket_passes(weir, engine, loop):
    w = start(weir, engine, handler("a"), handler("b", "puppet_body"))

    async def talk():
        headers = {"x-do-a": "add x-one 1", "x-do-b": "show", "x-do-a-response": "add x-two 2"}
        async with websockets.connect(w.url("/ws").replace("http", "ws"), extra_headers=headers) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
            assert ws.response_headers["x-two"] == "2"
        with pytest.raises(websockets.InvalidStatusCode) as caught:
            await websockets.connect(w.url("/ws").replace("http", "ws"), extra_headers={"x-do-a": "refuse 403 no"})
        assert caught.value.status_code == 403

    loop.run(talk())


# Configuration.


def check(tmp_path, *handlers):
    file = tmp_path / "weir.toml"
    file.write_text(toml({
        "admin": {"listen": "off"},
        "listener": [{"name": "http", "listen": f"127.0.0.1:{free_port()}"}],
        "pipeline": [{"name": "up", "endpoints": ["127.0.0.1:9"]}],
        "handler": list(handlers),
        "route": [{"pipeline": "up", "handlers": [h["name"] for h in handlers]}],
    }))
    return run_cli("check", file)


def test_check_shows_handlers(tmp_path):
    status, out, err = check(tmp_path, handler("one"), handler("two", isolation="process"))
    assert status == 0, err
    assert "handlers\n  one  " in out and "in processes" in out and "through one, two" in out


@pytest.mark.parametrize("options, expected", [
    ({"plugin": "puppet_abi"}, "99"),
    ({"config": {"refuse": True}}, "refuse: found true, expected nothing of the kind"),
    ({"on_quarantine": "bypass"}, "bypass"),
    pytest.param({"config": {"crash": True}}, "failed in init (abort)",
                 marks=pytest.mark.skipif(VARIANT != "release", reason="faults are caught in release builds only")),
], ids=["version", "refuses", "not skippable", "crashes"])
def test_check_says_what_is_wrong_with_a_plugin(tmp_path, options, expected):
    status, _, err = check(tmp_path, handler(**options))
    assert status == 2 and expected in err and "handler 'a'" in err


def test_check_says_that_a_file_is_no_plugin(tmp_path):
    (tmp_path / "no.so").write_text("this is no library")
    status, _, err = check(tmp_path, merged(handler(), {"plugin": "./no.so"}))
    assert status == 2 and "no.so" in err
    status, _, err = check(tmp_path, merged(handler(), {"plugin": "./none.so"}))
    assert status == 2 and "No such file" in err


def test_a_reload_with_a_plugin_that_hangs_ends(weir, serve):
    """After 10 s, in which it is checked; it would keep all further reloads from being made."""
    w = start(weir, serve())
    w.file.write_text(w.text.replace('tag = "a"', 'tag = "a", hang = true'))
    w.signal(signal.SIGHUP)
    w.await_metric("weir_config_reloads_total", 1, result="refused", timeout=2 * PATIENCE)
    assert "a handler's plugin has not made an instance within 10 s" in w.log()
    w.file.write_text(w.text.replace('tag = "a"', 'tag = "b"'))
    w.signal(signal.SIGHUP)
    w.await_metric("weir_config_reloads_total", 1, result="ok")


def test_weir_does_not_start_with_a_plugin_that_refuses(weir, serve):
    w = start(weir, serve(), handler(config={"refuse": True}), wait=False)
    w.expect_status = 2
    assert w.await_exit() == 2
    assert "refuse: found true, expected nothing of the kind" in w.log()


def test_a_reload_with_a_plugin_that_refuses_keeps_what_is_served(weir, serve):
    w = start(weir, serve())
    w.file.write_text(w.text.replace('tag = "a"', 'tag = "a", refuse = true'))
    w.signal(signal.SIGHUP)
    w.await_metric("weir_config_reloads_total", 1, result="refused")
    assert "refuse: found true, expected nothing of the kind" in w.log()
    assert w.exchange(request(fields=[do("respond 418 x")])).status == 418
    w.file.write_text(w.text.replace('tag = "a"', 'tag = "b"'))
    w.signal(signal.SIGHUP)
    w.await_metric("weir_config_reloads_total", 1, result="ok")
    wait_for("the new one serves", lambda: w.exchange(request(fields=[do("respond 418 x", tag="b")])).status == 418)


def test_the_example_in_the_header_works_where_weir_is_installed(weir, serve, tmp_path):
    """Its build line, too: with what `meson install` installs, and nothing else of weir."""
    root = tmp_path / "root"
    subprocess.run(["meson", "install", "-C", str(BINARY.parent), "--no-rebuild", "--tags", "devel",
                    "--destdir", str(root)], check=True, capture_output=True, timeout=scaled(30))
    header, = root.rglob("handler.h")
    pc, = root.rglob("weir-handler.pc")
    comment = header.read_text().partition("*/")[0]
    lines = [line[2:].strip("\n") for line in comment.splitlines() if line.startswith(" *     ")]
    (tmp_path / "my-plugin.c").write_text("\n".join(lines))
    command = re.search(r"`(cc [^`]*)`", comment)[1]
    env = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent), "PKG_CONFIG_SYSROOT_DIR": str(root)}
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, check=True, timeout=scaled(30))
    upstream = serve()
    w = start(weir, upstream, {"name": "mine", "plugin": str(tmp_path / "my-plugin.so")})
    assert w.exchange(request()).status == 200
    assert upstream.requests[0].fields.get("x-seen-by") == "my-plugin"
