"""TLS towards clients and upstreams: curl, openssl and Python's ssl on the other side."""

import json
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from harness.certs import Authority, openssl, over_tls, secure, secure_client
from harness.env import free_port, scaled, wait_for
from harness.http2 import PREFACE
from harness.replies import expect_problem
from harness.upstream import answering
from harness.weir import base_config, run_cli
from harness.wire import Closed, connect, request, response


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.a = authority.issue("a", "a.test")
    authority.b = authority.issue("b", "b.test", "*.b.test")
    authority.me = authority.issue("me", "me.test")
    authority.up = authority.issue("up", "up.test", "IP:127.0.0.1")
    return authority


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("strangers"), "strange authority")
    authority.me = authority.issue("me", "me.test")
    return authority


def files(pair):
    return {"cert": str(pair[0]), "key": str(pair[1])}


@pytest.fixture
def tls_weir(weir, ca):
    def make(*upstreams, listener=None, **options):
        tls = {**files(ca.a), **(listener or {}).pop("tls", {})}
        return weir(*upstreams, listener={"tls": tls, **(listener or {})}, **options)

    return make


@pytest.fixture
def echo(serve):
    """Answers with the request's fields, and how much content there was."""

    def answer(message):
        fields = [[n.lower(), v] for n, v in message.fields]
        return response(body=json.dumps({"fields": fields, "length": len(message.body)}))

    return serve(answering(answer))


def told(answer, name):
    """What the upstream was told in the fields @name."""
    return [v for n, v in json.loads(answer.body)["fields"] if n == name]


def ask(wire, *fields, **options):
    wire.send(request(fields=fields, **options))
    return wire.read_response()


def curl(ca, w, *args, name="a.test", path="/"):
    return subprocess.run(
        ["curl", "-sS", "--cacert", str(ca.crt), "--resolve", f"{name}:{w.port}:127.0.0.1", *map(str, args),
         f"https://{name}:{w.port}{path}"],
        capture_output=True, text=True, timeout=scaled(20),
    )  # fmt: skip


# Clients.


def test_curl_is_served_and_the_upstream_told_of_https(tls_weir, ca, echo):
    w = tls_weir(echo)
    done = curl(ca, w, "-v", "--http2")
    assert done.returncode == 0, done.stderr
    fields = dict(json.loads(done.stdout)["fields"])
    assert fields["x-forwarded-proto"] == "https"
    assert fields["forwarded"].endswith(";proto=https")
    assert "client-cert" not in fields
    assert "ALPN: server accepted http/1.1" in done.stderr
    assert "TLSv1.3" in done.stderr
    w.await_metric("weir_tls_handshakes_total", 1, result="ok")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_versions_are_spoken(tls_weir, ca, echo, version):
    w = tls_weir(echo)
    done = curl(ca, w, f"--tlsv{version}", "--tls-max", version, "-w", "%{http_code}", "-o", os.devnull)
    assert done.stdout == "200", done.stderr


def test_an_older_version_is_refused_with_an_alert(tls_weir, ca, echo):
    w = tls_weir(echo, listener={"tls": {"min_version": "1.3"}})
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version|alert"):
        secure_client(w, ca.client(most=ssl.TLSVersion.TLSv1_2))
    w.await_metric("weir_tls_handshakes_total", 1, result="protocol")


def test_the_name_chooses_the_certificate(tls_weir, ca, echo):
    w = tls_weir(echo, listener={"tls": {"certificates": [files(ca.b)]}})
    for name in ("a.test", "b.test", "x.b.test"):
        assert curl(ca, w, name=name).returncode == 0
    assert curl(ca, w, name="c.test").returncode == 60  # that of a.test, which is not for it


def test_a_client_that_speaks_another_protocol_only_gets_an_alert(tls_weir, ca, echo):
    w = tls_weir(echo)
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        secure_client(w, ca.client(alpn=["h2"]))


def test_plain_http_is_no_tls(tls_weir, up):
    w = tls_weir(up)
    client = w.client()
    client.send(request())
    problem = expect_problem(client.read_response(), 400, "tls_expected")
    assert problem["title"] == "plain HTTP on a listener with TLS" and "https" in problem["detail"]
    client.expect_gone()
    w.await_metric("weir_tls_handshakes_total", 1, result="protocol")
    w.await_metric("weir_rejected_total", 1, reason="tls_expected")
    wait_for("a line in the log", lambda: "failed: it speaks plain HTTP" in w.log())


def test_plain_http2_is_no_tls(tls_weir, up):
    w = tls_weir(up)
    client = w.client()
    client.send(PREFACE)
    client.expect_gone()
    w.await_metric("weir_tls_handshakes_total", 1, result="protocol")
    assert w.metrics().sum("weir_rejected_total") == 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_are_resumed_on_any_loop(tls_weir, ca, up, tmp_path, version):
    """Each connection goes to whatever loop the kernel gives it to."""
    w = tls_weir(up, threads=4)
    session = tmp_path / "session"
    common = ["s_client", "-connect", f"127.0.0.1:{w.port}", "-servername", "a.test", "-CAfile", ca.crt,
              "-verify_return_error", version]  # fmt: skip
    # Held open until the tickets are here, which come behind the handshake in TLS 1.3.
    with subprocess.Popen(
        ["openssl", *map(str, common), "-sess_out", str(session)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as first:  # fmt: skip
        wait_for("a session", lambda: session.exists() and session.stat().st_size > 0)
        first.communicate(b"", timeout=scaled(20))
    for _ in range(12):
        out = openssl(*common, "-sess_in", session).stdout.decode()
        assert "\nReused, TLS" in out, out
    w.await_metric("weir_tls_handshakes_total", 12, result="resumed")


@pytest.mark.threads
def test_python_resumes_too(tls_weir, ca, echo):
    w = tls_weir(echo, threads=2)
    context = ca.client()
    first = secure_client(w, context)
    assert ask(first).status == 200
    session = first.sock.session
    for _ in range(4):
        again = secure_client(w, context, session=session)
        assert again.sock.session_reused
        assert ask(again).status == 200


# HTTP/2.


@pytest.mark.parametrize(
    "protocol, asked, got",
    [("http2", "--http2", "2"), ("auto", "--http2", "2"), ("auto", "--http1.1", "1.1"), ("auto", "--no-alpn", "1.1")],
)
def test_the_protocol_is_agreed_on(tls_weir, ca, echo, protocol, asked, got):
    w = tls_weir(echo, listener={"protocol": protocol, "tls": {"client_ca": str(ca.crt), "client_auth": "optional"}})
    done = curl(ca, w, asked, "-w", "\n%{http_version}", "--cert", ca.me[0], "--key", ca.me[1])
    assert done.returncode == 0, done.stderr
    body, version = done.stdout.rsplit("\n", 1)
    assert version == got
    fields = dict(json.loads(body)["fields"])
    assert fields["x-forwarded-proto"] == "https"
    assert fields["client-cert"].startswith(":MII")


@pytest.mark.threads
def test_http2_over_tls_on_both_sides(tls_weir, weir, ca, echo):
    """One weir behind another."""
    inner = tls_weir(echo, listener={"protocol": "http2"})
    outer = tls_weir(
        f"127.0.0.1:{inner.port}",
        listener={"protocol": "auto"},
        pipeline={"protocol": "http2", "tls": {"ca": str(ca.crt), "server_name": "a.test"}},
    )
    body = os.urandom(1 << 20)
    (outer.directory / "body").write_bytes(body)
    done = curl(ca, outer, "--http2", "--data-binary", f"@{outer.directory}/body")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["length"] == len(body)
    inner.await_metric("weir_tls_handshakes_total", 1, result="ok")


def test_an_upstream_that_does_not_agree_on_h2_is_502(weir, ca, tls_upstream):
    w = weir(
        tls_upstream(),
        pipeline={"protocol": "http2", "tls": {"ca": str(ca.crt)}, "retry": {"attempts": 1}},
    )
    expect_problem(ask(w.client()), 502, errors={"tls_protocol_error"})
    wait_for("the reason in the log", lambda: "does not agree on HTTP/2 by ALPN" in w.log())


# Certificates of clients.


def test_a_required_certificate_is_required_and_passed_on(tls_weir, ca, strangers, echo):
    w = tls_weir(echo, listener={"tls": {"client_ca": str(ca.crt)}})
    done = curl(ca, w)
    assert done.returncode != 0 and "alert" in done.stderr, done.stderr
    done = curl(ca, w, "--cert", strangers.me[0], "--key", strangers.me[1])
    assert done.returncode != 0, done.stderr
    w.await_metric("weir_tls_handshakes_total", 2, result="client_certificate")
    done = curl(ca, w, "--cert", ca.me[0], "--key", ca.me[1])
    assert done.returncode == 0, done.stderr
    fields = dict(json.loads(done.stdout)["fields"])
    pem = ca.me[0].read_text()
    assert fields["client-cert"] == ":" + "".join(pem.splitlines()[1:-1]) + ":"  # RFC 9440 section 2.1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_optional_certificate_survives_resumption(tls_weir, ca, echo, version):
    w = tls_weir(echo, listener={"tls": {"client_ca": str(ca.crt), "client_auth": "optional"}})
    assert told(ask(secure_client(w, ca.client(most=version))), "client-cert") == []
    context = ca.client(cert=ca.me, most=version)
    first = secure_client(w, context)
    shown = told(ask(first), "client-cert")
    assert len(shown) == 1
    again = secure_client(w, context, session=first.sock.session)
    assert again.sock.session_reused
    assert told(ask(again), "client-cert") == shown


def test_nobody_can_claim_a_certificate(tls_weir, ca, echo):
    """Not even an address in trust, which those of this host are."""
    w = tls_weir(echo, listener={"trust": ["127.0.0.1/32"]})
    claims = ("Client-Cert: :evil:", "client-cert-chain: :evil:", "X-Forwarded-Proto: http")
    answer = ask(secure_client(w, ca.client()), *claims)
    assert told(answer, "client-cert") == told(answer, "client-cert-chain") == []
    assert told(answer, "x-forwarded-proto") == ["http"]  # a trusted proxy may say this


def test_a_plain_listener_removes_claims_too(weir, echo):
    w = weir(echo)
    answer = ask(w.client(), "Client-Cert: :evil:", "Client-Cert-Chain: :evil:")
    assert told(answer, "client-cert") == told(answer, "client-cert-chain") == []


# Handshakes.


def test_a_client_that_says_nothing_is_sent_away_in_time(tls_weir, up):
    w = tls_weir(up, listener={"timeouts": {"handshake": "300ms"}})
    silent, slow = w.client(), w.client()
    start = time.monotonic()
    slow.send(b"\x16\x03\x01")
    silent.expect_gone()
    slow.expect_gone()
    assert 0.27 < time.monotonic() - start < scaled(3)
    w.await_metric("weir_tls_handshakes_total", 2, result="timeout")


@pytest.mark.threads
def test_beyond_the_cap_clients_wait_and_are_not_refused(tls_weir, ca, echo):
    w = tls_weir(
        echo, threads=2, admission={"max_handshakes": 2}, listener={"timeouts": {"handshake": "1s"}}
    )
    stuck = [w.client() for _ in range(2)]
    for client in stuck:
        client.send(b"\x16\x03\x01")
    w.await_metric("weir_connections", 2, state="handshake")
    start = time.monotonic()
    statuses = []

    def visit():
        client = secure_client(w, ca.client())
        statuses.append(ask(client).status)

    visitors = [threading.Thread(target=visit) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(scaled(20))
    assert statuses == [200] * 8
    assert time.monotonic() - start > 0.5, "nobody had to wait"


def test_a_drain_waits_for_handshakes_no_longer_than_it_may(tls_weir, up):
    w = tls_weir(up, server={"drain": {"shutdown": "500ms"}})
    stuck = w.client()
    stuck.send(b"\x16\x03\x01")
    w.await_metric("weir_connections", 1, state="handshake")
    w.signal()
    assert w.await_exit() == 0
    assert "census: connections=0 exchanges=0 timers=0 handles=0 fds=0 permits=0" in w.log()


# The two defects of libh2o's TLS binding.


@pytest.mark.parametrize("size", [4096, 8192, 16384, 32768, 65536, 131072])
def test_uploads_of_exact_sizes_arrive(tls_weir, ca, echo, size):
    """As content, and as bytes on the wire: libh2o took a read that filled its buffer for an error."""
    w = tls_weir(echo, threads=1)
    client = secure_client(w, ca.client())
    records = size // 16406 + 1
    for content in (size, size - 22 * records):
        for n in (content - 1, content, content + 1):
            head = request("POST", "/", [f"Content-Length: {n}"])
            client.send(head)
            client.send(b"x" * n)
            answer = client.read_response()
            assert json.loads(answer.body)["length"] == n


@pytest.mark.threads
def test_resets_leak_no_fds(tls_weir, ca, up):
    """20 of each: in mid-handshake, idle, and while a response is on its way."""
    w = tls_weir(up, threads=1)  # libuv opens a /dev/null with the first stream of each loop
    context = ca.client()

    def is_at_rest():
        # The answer to the question itself is a connection too.
        return w.metrics().sum("weir_fds") == 0

    with secure_client(w, context) as client:
        client.send(request())
        with up.accept() as server:
            server.read_request()
            server.send(response(fields=["Connection: close"]))
            server.close()
        client.read_response()
    wait_for("everything is closed", is_at_rest)
    before = w.fds()
    for i in range(20):
        half = w.client()
        half.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        half.reset()
        idle = secure_client(w, context)
        raw = idle.sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        busy = secure_client(w, context)
        busy.send(request())
        server = up.accept()
        server.read_request()
        server.send(response(body=b"y" * (1 << 22)) if i % 2 else b"")
        busy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        busy.sock.close()
        server.close()
    wait_for("everything is closed", is_at_rest)
    wait_for("as many fds as before", lambda: w.fds() <= before)


def test_a_slow_reader_costs_a_bounded_amount(tls_weir, ca, serve):
    w = tls_weir(serve(answering(response(body=b"z" * (30 << 20)))), threads=1)
    client = secure_client(w, ca.client())
    client.send(request())
    client.read_response_head()
    most = 0
    for _ in range(50):
        client.read_exactly(20000)
        most = max(most, w.metrics().sum("weir_buffered_bytes"))
    assert 0 < most < 512 * 1024


def test_a_key_update_changes_nothing(tls_weir, ca, echo):
    w = tls_weir(echo)
    with subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{w.port}", "-servername", "a.test", "-tls1_3"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as client:  # fmt: skip
        os.set_blocking(client.stdout.fileno(), False)
        out = b""

        def said(what):
            nonlocal out
            out += client.stdout.read() or b""
            return what in out

        def say(text):
            client.stdin.write(text)
            client.stdin.flush()

        wait_for("the handshake", lambda: said(b"Verify return code"))
        say(b"K\n")
        wait_for("the command", lambda: said(b"KEYUPDATE"))
        say(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        wait_for("the answer", lambda: said(b"HTTP/1.1 200 OK"))
        client.kill()


def test_half_close_by_close_notify(tls_weir, ca, up):
    """Python's unwrap() sends close_notify and waits; the answer still comes before ours."""
    w = tls_weir(up, listener={"half_close": True})
    client = secure_client(w, ca.client())
    client.send(request())
    server = up.accept()
    server.read_request()
    raw = client.sock
    raw.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        raw.unwrap()
    assert not server.is_eof and server.is_quiet(0.3)
    server.send(response(body=b"late"))
    wait_for("weir is done", lambda: w.metrics().sum("weir_requests_total", code="200") == 1)


def test_a_truncated_answer_is_seen_as_one(tls_weir, ca, serve):
    """The client must not take half an answer without a length for whole (RFC 9112 section 9.8)."""

    def cut(wire):
        wire.read_request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    w = tls_weir(serve(cut))
    client = secure_client(w, ca.client())
    client.send(request())
    client.read_response_head()
    with pytest.raises((Closed, OSError)):
        client.read_exactly(100)


# Certificates that change.


def not_after(w, **labels):
    return w.metrics().sum("weir_tls_certificate_not_after_timestamp_seconds", **labels)


@pytest.mark.threads
def test_who_only_looks_whether_somebody_listens_begins_no_handshake(tls_weir, echo):
    """As weir does itself on a listener that is idle, and load balancers on every one."""
    w = tls_weir(echo)
    connect(w.port).close()
    w.await_metric("weir_accepted_total", 1)
    w.await_metric("weir_connections", 0)
    assert w.metrics().sum("weir_tls_handshakes_total") == 0


def test_new_certificates_are_taken_without_a_restart(tls_weir, ca, echo, tmp_path):
    own = Authority(tmp_path / "own")
    pair = own.issue("c", "a.test", days=5)
    w = tls_weir(echo, listener={"tls": files(pair)})
    old = secure_client(w, own.client())
    ends = not_after(w, listener="http", certificate=str(pair[0]))
    assert abs(ends - time.time() - 5 * 86400) < 3600
    own.issue("c", "a.test", days=9)
    wait_for("the new end", lambda: not_after(w) > ends + 86400)
    wait_for("a line in the log", lambda: "the certificates of listener 'http' were read again" in w.log())
    fresh = secure_client(w, own.client())
    serial = fresh.sock.getpeercert()["serialNumber"]
    assert serial != old.sock.getpeercert()["serialNumber"]
    assert ask(old).status == ask(fresh).status == 200
    pair[0].write_text("-----BEGIN CERTIFICATE-----\nhalf of")
    wait_for("a word about it", lambda: "cannot use the new certificates" in w.log())
    third = secure_client(w, own.client())
    assert third.sock.getpeercert()["serialNumber"] == serial
    assert ask(third).status == 200


def test_an_expired_certificate_is_a_warning(ca, tmp_path):
    crt, key = ca.expired("expired", "a.test")
    config = tmp_path / "weir.toml"
    config.write_text(
        f"[[listener]]\nname = 'l'\nlisten = ':1'\ntls = {{ cert = '{crt}', key = '{key}' }}\n"
        "[[pipeline]]\nname = 'p'\nendpoints = ['127.0.0.1:2']\n[[route]]\npipeline = 'p'\n"
    )
    status, out, err = run_cli("check", config)
    assert status == 0
    assert f"{config}:4:16: warning: listener.tls.cert: the certificate has expired at 2020-02-01" in err
    assert "http1 over tls" in out


def test_what_is_wrong_with_the_files_is_an_error_at_check(ca, tmp_path):
    config = tmp_path / "weir.toml"
    config.write_text(
        f"[[listener]]\nname = 'l'\nlisten = ':1'\ntls = {{ cert = '{ca.a[0]}', key = '{ca.b[1]}' }}\n"
        "[[pipeline]]\nname = 'p'\nendpoints = ['127.0.0.1:2']\ntls = { ca = 'missing.crt' }\n"
        "[[route]]\npipeline = 'p'\n"
    )
    for command in ("check", "run"):
        status, _, err = run_cli(command, config)
        lines = err.splitlines()
        assert status == 2 and len(lines) == 2, err
        assert lines[0].startswith(f"{config}:4:") and "listener.tls.key" in lines[0]
        assert lines[1].startswith(f"{config}:8:14: pipeline.tls.ca") and "No such file" in lines[1]


# Upstreams.


@pytest.fixture
def tls_upstream(serve, ca):
    def make(cert=None, function=None, names=None, **options):
        context = ca.server(cert or ca.up, **options)
        return serve(over_tls(context, function or answering(), names))

    return make


def test_an_upstream_is_verified_and_asked_for_by_name(weir, ca, tls_upstream):
    names = []
    server = tls_upstream(names=names)
    w = weir(server, pipeline={"tls": {"ca": str(ca.crt), "server_name": "up.test"}})
    assert ask(w.client()).body == b"ok"
    assert names == ["up.test"]
    w.await_metric("weir_endpoint_connects_total", 1, result="ok")


def test_an_upstream_by_address_is_verified_by_address(weir, ca, tls_upstream):
    names = []
    w = weir(tls_upstream(names=names), pipeline={"tls": {"ca": str(ca.crt)}})
    assert ask(w.client()).body == b"ok"
    assert names == [None]


@pytest.mark.threads
def test_idle_connections_are_used_again_from_any_loop(weir, ca, tls_upstream):
    """One connection for four loops: it travels, with its TLS."""
    server = tls_upstream()
    w = weir(server, threads=4, pipeline={"tls": {"ca": str(ca.crt)}, "limits": {"connections": 1}})
    clients = [w.client() for _ in range(24)]
    for _ in range(3):
        for client in clients:
            client.send(request())
        for client in clients:
            assert client.read_response().status == 200
    assert server.accepted == 1


@pytest.mark.parametrize(
    "what, reason",
    [
        ("name", "hostname mismatch"),
        ("authority", "self-signed certificate in certificate chain|unable to get local issuer"),
        ("expired", "certificate has expired"),
    ],
)
def test_an_upstream_that_is_not_to_be_believed_is_502(weir, ca, strangers, tls_upstream, what, reason):
    tls = {"ca": str(ca.crt), "server_name": "up.test"}
    cert = None
    if what == "name":
        tls["server_name"] = "other.test"
    elif what == "authority":
        tls["ca"] = str(strangers.crt)
    else:
        cert = ca.expired("late", "up.test")
    w = weir(tls_upstream(cert), pipeline={"tls": tls, "retry": {"attempts": 1}})
    answer = ask(w.client())
    expect_problem(answer, 502, pipeline="up", errors={"tls_certificate_error"})
    w.await_metric("weir_rejected_total", 1, reason="tls_certificate")
    w.await_metric("weir_endpoint_connects_total", 1, result="tls")
    wait_for("the reason in the log", lambda: re.search(reason, w.log()))


def test_without_verify_anything_goes(weir, ca, tls_upstream):
    server = tls_upstream(ca.expired("bad", "nobody.test"))
    w = weir(server, pipeline={"tls": {"verify": False}})
    assert ask(w.client()).status == 200


def test_an_upstream_without_tls_is_502(weir, ca, serve):
    def shout(wire):
        wire.send(b"HTTP/1.1 400 this is plain\r\n\r\n")
        wire.read_to_end()

    w = weir(serve(shout), pipeline={"tls": {"ca": str(ca.crt)}, "retry": {"attempts": 1}})
    expect_problem(ask(w.client()), 502, errors={"tls_protocol_error"})


def test_an_upstream_that_never_shakes_hands_is_a_dial_timeout(weir, ca, up):
    w = weir(
        up,
        pipeline={"tls": {"ca": str(ca.crt)}, "timeouts": {"dial": "300ms"}, "hold": 0, "retry": {"attempts": 1}},
    )
    expect_problem(ask(w.client()), 504, errors={"connection_timeout"})


def test_our_certificate_is_shown_to_upstreams_that_ask(weir, ca, tls_upstream):
    server = tls_upstream(wants_client=True)
    tls = {"ca": str(ca.crt), **files(ca.me)}
    w = weir(server, pipeline={"tls": tls})
    assert ask(w.client()).status == 200
    assert not_after(w, pipeline="up") > time.time()


@pytest.mark.parametrize(
    "version, error",
    [
        (ssl.TLSVersion.TLSv1_2, "tls_alert_received"),
        # Our side of the handshake is through when the alert comes.
        (ssl.TLSVersion.TLSv1_3, "connection_terminated"),
    ],
)
def test_an_upstream_that_refuses_us_is_502(weir, ca, serve, version, error):
    context = ca.server(ca.up, wants_client=True)
    context.maximum_version = version
    server = serve(over_tls(context, answering()))
    w = weir(server, pipeline={"tls": {"ca": str(ca.crt)}, "retry": {"attempts": 1}})
    expect_problem(ask(w.client()), 502, errors={error})


@pytest.mark.threads
def test_both_sides_at_once_and_large(tls_weir, ca, tls_upstream):
    def echo_back(message):
        return response(body=message.body)

    server = tls_upstream(function=answering(echo_back))
    w = tls_weir(server, pipeline={"tls": {"ca": str(ca.crt)}})
    client = secure_client(w, ca.client())
    body = os.urandom(3 << 20)
    sender = threading.Thread(
        target=client.send, args=(request("POST", "/", [f"Content-Length: {len(body)}"]), body)
    )
    sender.start()
    answer = client.read_response()
    sender.join()
    assert answer.body == body


def test_a_websocket_passes_over_tls(tls_weir, ca, up):
    w = tls_weir(up)
    client = secure_client(w, ca.client())
    client.send(request(fields=["Upgrade: x", "Connection: upgrade"]))
    server = up.accept()
    server.read_request_head()
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    assert client.read_response_head().status == 101
    client.send(b"ping")
    assert server.read_exactly(4) == b"ping"
    server.send(b"pong")
    server.shutdown()
    assert client.read_exactly(4) == b"pong"
    client.expect_end()  # a close_notify
    client.close()


def test_the_upstream_s_files_are_read_again(weir, ca, tls_upstream, tmp_path):
    authorities = tmp_path / "authorities.crt"
    authorities.write_text(Authority(tmp_path / "other").crt.read_text())
    w = weir(
        tls_upstream(),
        pipeline={"tls": {"ca": str(authorities)}, "retry": {"attempts": 1}},
    )
    assert ask(w.client()).status == 502
    authorities.write_text(ca.crt.read_text())
    wait_for("the new authorities", lambda: "certificates of pipeline 'up' were read again" in w.log())
    wait_for("an answer", lambda: ask(w.client()).status == 200)


def test_unix_sockets_may_speak_tls(weir, ca, echo, tmp_path):
    path = tmp_path / "tls.sock"

    def config(directory):
        made = base_config(directory, [echo.endpoint])
        made["listener"].append({"name": "local", "listen": f"unix:{path}", "tls": files(ca.a)})
        made["route"][0].pop("listener")
        return made

    w = weir(config=config)
    client = secure(connect(str(path)), ca.client())
    w.clients.append(client)
    assert ask(client).status == 200


def test_a_listener_that_cannot_be_bound_is_still_said(ca, tmp_path):
    """TLS changes nothing about the rest of a start."""
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        config = tmp_path / "weir.toml"
        config.write_text(
            f"[[listener]]\nname = 'l'\nlisten = '127.0.0.1:{port}'\n"
            f"tls = {{ cert = '{ca.a[0]}', key = '{ca.a[1]}' }}\n[admin]\nlisten = 'off'\n"
            "[[pipeline]]\nname = 'p'\nendpoints = ['127.0.0.1:2']\n[[route]]\npipeline = 'p'\n"
        )
        status, _, err = run_cli("run", config)
    assert status == 2 and "Address already in use" in err
