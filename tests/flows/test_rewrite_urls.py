"""URLs of the engine's own names become those that its clients can use, on routes with rewrite_urls."""

import json
import threading

import pytest
from harness.env import scaled, wait_for
from harness.http2 import Http2Client
from harness.programs import exec_config
from harness.upstream import answering
from harness.wire import chunked, request, response

pytestmark = pytest.mark.timeout(120)

INNER, OUTER = "http://localhost:8080", "https://example.org/engine"
JSON, EVENTS = "application/json", "text/event-stream"
REWRITE = {"inner": [INNER, "http://127.0.0.1:8080"], "outer": OUTER, "bodies": [JSON, EVENTS]}
BOTH_WAYS = {**REWRITE, "requests": True}


def start(weir, upstream, rewrite=REWRITE, **more):
    route = {"rewrite_urls": rewrite, **more.pop("route", {})}
    return weir(upstream, route=route, **more)


def exchange(w, up, answer, **asked):
    """One request, what came of it at the upstream, and what came of @answer."""
    with w.client() as client:
        client.send(request(**asked))
        server = up.accept()
        seen = server.read_request()
        server.send(answer)
        got = client.read_response(asked.get("method", "GET"))
        server.close()
        return seen, got


def typed(body, kind=JSON, fields=(), **more):
    return response(fields=[f"Content-Type: {kind}", *fields], body=body, **more)


def document(base):
    """JSON with URLs in it, however they may be spelt: for @base what is expected of INNER."""
    escaped = base if base == OUTER else base.replace("/", "\\/")
    unicode = base if base == OUTER else base.replace("/", "\\u002F")
    return (f'{{"self": "{base}/jobs/1", "next": "{escaped}\\/jobs\\/2", "third": "{unicode}\\u002fjobs", '
            f'"text": "{{\\"url\\": \\"{base}/x\\"}}", "line": "at\\n{base}\\nhere", '
            f'"not": ["http://localhost:80801/", "https://localhost:8080/", "http://localhost:8080@x/"]}}')


# --- Fields -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value, expected", [
    (f"{INNER}/a?b=c#d", f"{OUTER}/a?b=c#d"),
    ("HTTP://127.0.0.1:8080", OUTER),
    ("/a/b", "/a/b"),
    ("b?c", "b?c"),
    ("http://other.test/a", "http://other.test/a"),
    ("http://localhost:80801/a", "http://localhost:80801/a"),
    ("http://localhost/a", "http://localhost/a"),
])
@pytest.mark.parametrize("status", [201, 302])
def test_a_location_leads_back_to_us(weir, up, value, expected, status):
    w = start(weir, up)
    _, got = exchange(w, up, response(status, [f"Location: {value}", f"Content-Location: {value}"]))
    assert got.fields.get("location") == got.fields.get("content-location") == expected
    assert got.length == 0, "its content is not touched"


def test_other_fields_with_urls_do_so_too(weir, up):
    w = start(weir, up)
    _, got = exchange(w, up, response(401, [
        f'Link: <{INNER}/2>; rel="next", <http://other.test/>; rel="x", <{INNER}/9>; rel="last"',
        f"Refresh: 5; url={INNER}/later",
        f'WWW-Authenticate: Bearer resource_metadata="{INNER}/.well-known/oauth-protected-resource"',
        f"X-Other: {INNER}",
    ]))
    assert got.fields.get("link") == f'<{OUTER}/2>; rel="next", <http://other.test/>; rel="x", <{OUTER}/9>; rel="last"'
    assert got.fields.get("refresh") == f"5; url={OUTER}/later"
    assert got.fields.get("www-authenticate") == (
        f'Bearer resource_metadata="{OUTER}/.well-known/oauth-protected-resource"')
    assert got.fields.get("x-other") == INNER


@pytest.mark.parametrize("inner, origin", [
    (INNER, INNER), (f"{INNER}/api", INNER), (INNER, "http://LOCALHOST:8080"), (INNER, "http://localhost:80801"),
    (INNER, "http://localhost:8080@evil.test"), (INNER, "null"), (INNER, "*"),
])
def test_an_origin_has_no_path(weir, up, inner, origin):
    """RFC 6454 section 7: a browser compares it with that of its page, which is https://example.org."""
    w = start(weir, up, {**BOTH_WAYS, "inner": inner})
    seen, got = exchange(w, up, response(fields=[f"Access-Control-Allow-Origin: {origin}"]),
                         fields=["Origin: https://example.org"])
    expected = "https://example.org" if origin.lower() == INNER else origin
    assert got.fields.get("access-control-allow-origin") == expected
    assert seen.fields.get("origin") == INNER


@pytest.mark.parametrize("outward", ["http1", "http2"])
def test_early_hints_lead_back_to_us(weir, serve, h2_serve, outward):
    """RFC 8297: what a browser is to fetch beforehand is what the answer will name."""
    link = f"<{INNER}/a.css>; rel=preload"
    final = response(fields=[f"Link: {link}"])

    def on_stream(stream, event):
        if event == "end":
            stream.head(103, [("link", link)])
            stream.respond(200, [("link", link)])

    up = h2_serve(on_stream) if outward == "http2" else serve(answering(
        lambda message: f"HTTP/1.1 103 Early Hints\r\nLink: {link}\r\n\r\n".encode() + final))
    w = start(weir, up, pipeline={"protocol": outward})
    with w.client() as client:
        client.send(request())
        hint, got = client.read_response(), client.read_response()
    assert (hint.status, hint.fields.get("link")) == (103, link.replace(INNER, OUTER))
    assert (got.status, got.fields.get("link")) == (200, link.replace(INNER, OUTER))

def test_a_cookie_loses_a_domain_that_is_the_engines(weir, up):
    w = start(weir, up)
    cookies = ["a=1; Path=/; Domain=localhost; HttpOnly", "b=2; domain = .LOCALHOST", "c=3;Domain=.127.0.0.1",
               "d=4; Domain=example.net; Secure", "e=localhost; Path=/localhost", "Domain=localhost"]
    _, got = exchange(w, up, response(fields=[f"Set-Cookie: {cookie}" for cookie in cookies]))
    assert got.fields.all("set-cookie") == ["a=1; Path=/; HttpOnly", "b=2; domain = .LOCALHOST", "c=3", *cookies[3:]]


def test_without_outer_it_is_what_the_client_asked_for(weir, up):
    w = start(weir, up, {}, listener={"trust": []})
    for name in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0"):
        _, got = exchange(w, up, response(302, [f"Location: http://{name}:{up.port}/x"]), host="Shop.test:81",
                          fields=["X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test"])
        assert got.fields.get("location") == "http://Shop.test:81/x", "who is not trusted is not believed"


def test_a_trusted_proxy_says_what_the_client_asked_for(weir, up):
    w = start(weir, up, {})
    inner = f"http://localhost:{up.port}/x"

    def location(*fields):
        return exchange(w, up, response(302, [f"Location: {inner}"]), fields=fields)[1].fields.get("location")

    assert location("X-Forwarded-Proto: https", "X-Forwarded-Host: example.org") == "https://example.org/x"
    assert location("X-Forwarded-Host: first.test, second.test") == "http://first.test/x"
    assert location('X-Forwarded-Host: a"b') == inner, "a host that is none is not put anywhere"


def test_without_a_host_there_is_nothing_to_rewrite_to(weir, up):
    w = start(weir, up, {})
    inner = f"http://localhost:{up.port}/x"
    _, got = exchange(w, up, response(302, [f"Location: {inner}"]), host=None, version="HTTP/1.0")
    assert got.fields.get("location") == inner


def test_a_route_without_it_rewrites_nothing(weir, up):
    w = weir(up)
    body = document(INNER)
    seen, got = exchange(w, up, typed(body, fields=[f"Location: {INNER}/x", 'ETag: "e"']), fields=["Accept-Encoding: br"])
    assert got.fields.get("location") == f"{INNER}/x"
    assert (got.body.decode(), got.length, got.fields.get("etag")) == (body, len(body), '"e"')
    assert seen.fields.get("accept-encoding") == "br"


# --- Content ----------------------------------------------------------------------------------------------

def test_content_is_rewritten_and_its_head_tells_no_lies(weir, up):
    w = start(weir, up)
    seen, got = exchange(
        w, up,
        typed(document(INNER), f"{JSON}; charset=utf-8", [
            'ETag: "e"', "Accept-Ranges: bytes", "Content-MD5: x", "Digest: sha-256=x", "Repr-Digest: sha-256=:x:",
            "Content-Digest: sha-256=:x:", "Cache-Control: no-transform"]),
        fields=["Accept-Encoding: gzip, br"])
    assert seen.fields.get("accept-encoding") == "identity"
    assert got.body.decode() == document(OUTER)
    json.loads(got.body)
    assert got.is_chunked and got.length is None
    assert got.fields.get("etag") == 'W/"e"'
    assert got.fields.get("accept-ranges") == "none"
    for name in ("content-md5", "digest", "repr-digest", "content-digest"):
        assert name not in got.fields


def test_a_client_of_http_1_0_sees_its_end_by_the_close(weir, up):
    w = start(weir, up)
    _, got = exchange(w, up, typed(document(INNER)), version="HTTP/1.0")
    assert got.body.decode() == document(OUTER)
    assert got.length is None and not got.is_chunked


def test_other_types_pass_as_they_are(weir, up):
    w = start(weir, up)
    body = document(INNER)
    for kind in ("text/plain", "application/jsonp", "application/x-json"):
        _, got = exchange(w, up, typed(body, kind, ['ETag: "e"', "Accept-Ranges: bytes"]))
        assert (got.body.decode(), got.length, got.fields.get("etag")) == (body, len(body), '"e"')
        assert got.fields.get("accept-ranges") == "bytes"


def test_parts_and_compressed_content_pass_as_they_are(weir, up):
    w = start(weir, up)
    body = document(INNER)
    for status, fields in ((206, [f"Content-Range: bytes 0-{len(body) - 1}/9999"]), (200, ["Content-Encoding: gzip"]),
                           (200, ["Content-Encoding: identity", "Content-Encoding: gzip"])):
        _, got = exchange(w, up, typed(body, fields=['ETag: "e"', *fields], status=status))
        assert (got.body.decode(), got.length, got.fields.get("etag")) == (body, len(body), '"e"')
    wait_for("a word in the log",
             lambda: "cannot rewrite URLs in content of type 'application/json' on route 'all'" in w.log())


def test_a_head_request_gets_the_head_of_a_get(weir, up):
    w = start(weir, up)
    with w.client() as client:
        client.send(request("HEAD"))
        server = up.accept()
        server.read_request()
        server.send(response(fields=[f"Content-Type: {JSON}", "Content-Length: 77", 'ETag: "e"']))
        got = client.read_response("HEAD")
    assert "content-length" not in got.fields
    assert (got.fields.get("etag"), got.fields.get("accept-ranges")) == ('W/"e"', "none")


def test_validators_work_as_before(weir, up):
    w = start(weir, up)
    _, got = exchange(w, up, response(304, ['ETag: "e"', "Content-Length: 77", "Repr-Digest: sha-256=:eA==:"]),
                      fields=['If-None-Match: W/"e"'])
    assert (got.status, got.fields.get("etag")) == (304, 'W/"e"')
    assert "content-length" not in got.fields and "repr-digest" not in got.fields, "they were the engine's content's"
    seen, _ = exchange(w, up, response(), method="PUT", body="{}", fields=['If-Match: W/"a", "b" , W/"c,W/"'])
    assert seen.fields.list("if-match") == ['"a"', '"b"', '"c', 'W/"']
    assert seen.length == 2, "requests are not rewritten"


def test_trailers_come_behind_it_but_no_digest(weir, up):
    w = start(weir, up)
    answer = response(fields=[f"Content-Type: {JSON}", "Transfer-Encoding: chunked"]) + chunked(
        document(INNER)[:100], document(INNER)[100:], "http", trailers=["X-T: 1", "Repr-Digest: sha-256=:x:"])
    _, got = exchange(w, up, answer)
    assert got.body.decode() == document(OUTER) + "http", "what was held is not lost"
    assert got.trailers == [("X-T", "1")]


def test_it_does_not_matter_how_the_content_is_cut(weir, up):
    w = start(weir, up)
    text = document(INNER).encode()
    with w.client() as client:
        server = None
        for step in (1, 2, 3, 7, 50):
            client.send(request())
            server = server or up.accept()
            server.read_request()
            server.send(response(fields=[f"Content-Type: {JSON}", f"Content-Length: {len(text)}"], length=False))
            for at in range(0, len(text), step):
                server.send(text[at:at + step])
            assert client.read_response().body.decode() == document(OUTER), step


def test_pipelined_requests_are_answered_each_with_its_own(weir, serve):
    def answer(message):
        return typed(json.dumps({"url": f"{INNER}{message.target}"}), kind=JSON if message.target != "/2" else "text/plain")

    w = start(weir, serve(answering(answer)))
    with w.client() as client:
        client.send(b"".join(request(target=f"/{i}") for i in range(5)))
        for i in range(5):
            expected = f"{INNER if i == 2 else OUTER}/{i}"
            assert json.loads(client.read_response().body) == {"url": expected}


# --- Streams ----------------------------------------------------------------------------------------------

def test_events_come_through_at_once(weir, up):
    w = start(weir, up)
    with w.client() as client:
        client.send(request())
        server = up.accept()
        server.read_request()
        server.send(response(fields=[f"Content-Type: {EVENTS}", "Transfer-Encoding: chunked",
                                     "Cache-Control: no-cache, no-transform"]))
        assert client.read_response_head().is_chunked
        for i in range(20):
            server.send_chunk(f"data: {INNER}/{i}\ndata: h\n\n")
            expected = f"data: {OUTER}/{i}\ndata: h\n\n".encode()
            got = b""
            while len(got) < len(expected):
                got += client.read_chunk()
            assert got == expected
        # What may be the beginning of a URL, and nothing before it, waits for the rest.
        server.send_chunk("data: ht")
        assert client.read_chunk() == b"data: "
        server.send_chunk("ml\n\n")
        got = b""
        while not got.endswith(b"\n\n"):
            got += client.read_chunk()
        assert got == b"html\n\n"
        server.send(b"0\r\n\r\n")
        assert client.read_chunk() == b""


LINE = b'{"id": %08d, "self": "http://localhost:8080/items/1", "more": "http:\\/\\/127.0.0.1:8080\\/x"},\n'
LINES = 300_000  # 30 MB


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_large_answer_to_a_slow_reader_stays_small_in_memory(weir, serve, protocol):
    piece = b"".join(LINE % i for i in range(1000))

    def answer(wire):
        wire.read_request()
        wire.send(response(fields=[f"Content-Type: {JSON}", f"Content-Length: {len(piece) * LINES // 1000}"], length=False))
        for _ in range(LINES // 1000):
            wire.send(piece)

    w = start(weir, serve(answer), listener={"protocol": protocol})
    expected = LINES // 1000 * piece.replace(b"http://localhost:8080", OUTER.encode()).replace(
        b"http:\\/\\/127.0.0.1:8080", OUTER.encode())
    before = w.rss()
    most = []

    def look():
        most.append((w.metrics().sum("weir_buffered_bytes"), w.rss() - before))
        assert most[-1][0] < 1 << 20 and most[-1][1] < 16 << 20, most

    if protocol == "http1":
        with w.client(receive_buffer=16384) as client:
            client.send(request())
            head = client.read_response_head()
            wait_for("weir holds something back", lambda: w.metrics().sum("weir_buffered_bytes") > 0)
            for _ in range(20):
                look()
            body = client.read_content(head).body
    else:
        with Http2Client(w.port) as client:
            sid = client.ask()
            wait_for("weir holds something back", lambda: w.metrics().sum("weir_buffered_bytes") > 0)
            for _ in range(20):
                look()
            body = bytes(client.response(sid, 60).body)
    assert body == expected
    look()


# --- Requests ---------------------------------------------------------------------------------------------

def test_requests_are_rewritten_when_asked_for(weir, up):
    w = start(weir, up, BOTH_WAYS)
    body = json.dumps({"callback": f"{OUTER}/done", "escaped": "X", "inner": f"{INNER}/a"}).replace(
        "X", "https:\\/\\/EXAMPLE.org:443\\/engine\\/y")
    seen, _ = exchange(w, up, response(), method="POST", body=body, fields=[
        f"Content-Type: {JSON}", f"Referer: {OUTER}/page", "Digest: sha-256=x"])
    assert json.loads(seen.body) == {"callback": f"{INNER}/done", "escaped": f"{INNER}/y", "inner": f"{INNER}/a"}
    assert seen.is_chunked
    assert seen.fields.get("referer") == f"{INNER}/page"
    assert "digest" not in seen.fields


def test_an_origin_becomes_the_engines_own(weir, up):
    w = start(weir, up, {**BOTH_WAYS, "outer": "https://example.org"})
    for given, expected in (("https://example.org", INNER), ("https://example.org.evil", "https://example.org.evil"),
                            ("null", "null")):
        seen, got = exchange(w, up, response(fields=[f"Access-Control-Allow-Origin: {expected}"]), fields=[f"Origin: {given}"])
        assert seen.fields.get("origin") == expected
        assert got.fields.get("access-control-allow-origin") == given


def test_other_requests_pass_as_they_are(weir, up):
    w = start(weir, up, BOTH_WAYS)
    body = json.dumps({"callback": f"{OUTER}/done"})
    for fields in ([], ["Content-Type: text/plain"], [f"Content-Type: {JSON}", "Content-Encoding: gzip"],
                   [f"Content-Type: {JSON}", "Content-Range: bytes 0-9/10"]):
        seen, _ = exchange(w, up, response(), method="POST", body=body, fields=fields)
        assert (seen.body.decode(), seen.length) == (body, len(body))
    w = start(weir, up)
    seen, _ = exchange(w, up, response(), method="POST", body=body, fields=[
        f"Content-Type: {JSON}", f"Origin: {OUTER}", f"Referer: {OUTER}/page"])
    assert (seen.body.decode(), seen.length) == (body, len(body))
    assert (seen.fields.get("origin"), seen.fields.get("referer")) == (OUTER, f"{OUTER}/page")


def test_a_request_that_is_tried_again_is_the_same(weir, up):
    w = start(weir, up, BOTH_WAYS, pipeline={"retry": {"on": ["reset"], "attempts": 2}})
    with w.client() as client:
        client.send(request("PUT", fields=[f"Content-Type: {JSON}"], body=f'"{OUTER}/x" "{OUTER}'))
        for i in range(2):
            server = up.accept()
            assert server.read_request().body.decode() == f'"{INNER}/x" "{INNER}'
            server.reset() if i == 0 else server.send(typed(f'"{INNER}'))
        assert client.read_response().body.decode() == f'"{OUTER}'


def test_a_large_upload_waits_for_a_slow_upstream(weir, up):
    w = start(weir, up, BOTH_WAYS)
    piece = b"".join(LINE % i for i in range(1000)).replace(INNER.encode(), OUTER.encode())
    with w.client() as client:
        client.send(request("POST", fields=[f"Content-Type: {JSON}", f"Content-Length: {len(piece) * 300}"]))
        server = up.accept()
        head = server.read_request_head()
        before = w.rss()
        sent = client.send_until_stuck(piece, 300 * len(piece))
        assert sent < 300 * len(piece), "nobody holds weir back"
        assert w.metrics().sum("weir_buffered_bytes") < 1 << 20
        rest = piece * 300
        sender = threading.Thread(target=lambda: client.send(rest[sent:]))
        sender.start()
        body = server.read_content(head).body
        sender.join(scaled(60))
        assert body == (piece * 300).replace(OUTER.encode(), INNER.encode())
        assert w.rss() - before < 16 << 20
        server.send(response())
        assert client.read_response().status == 200


# --- Other protocols --------------------------------------------------------------------------------------

@pytest.mark.parametrize("inward", ["http1", "http2"])
@pytest.mark.parametrize("outward", ["http1", "http2"])
def test_it_is_the_same_over_every_protocol(weir, serve, h2_serve, inward, outward):
    seen = []
    fields = [("content-type", JSON), ("location", f"{INNER}/l"), ("content-length", str(len(document(INNER))))]

    def on_stream(stream, event):
        if event == "end":
            seen.append(stream.body)
            stream.respond(200, fields, document(INNER).encode())

    def on_request(message):
        seen.append(message.body)
        return response(fields=[f"{name}: {value}" for name, value in fields], body=document(INNER))

    server = h2_serve(on_stream) if outward == "http2" else serve(answering(on_request))
    w = start(weir, server, BOTH_WAYS, listener={"protocol": inward}, pipeline={"protocol": outward})
    body = document(OUTER).encode()
    for _ in range(2):
        if inward == "http1":
            with w.client() as client:
                client.send(request("POST", fields=[f"Content-Type: {JSON}"], body=body))
                got = client.read_response()
                status, answered, location = got.status, got.body, got.fields.get("location")
        else:
            with Http2Client(w.port) as client:
                sid = client.ask("POST", fields=[("content-type", JSON), ("content-length", str(len(body)))], body=body)
                got = client.response(sid)
                assert "content-length" not in got.fields
                status, answered, location = got.status, bytes(got.body), got.fields.get("location")
        assert (status, answered.decode(), location) == (200, document(OUTER), f"{OUTER}/l")
    assert [bytes(b).decode() for b in seen] == [document(OUTER).replace(OUTER, INNER)] * 2


def test_the_output_of_a_program_is_rewritten(weir):
    def config(directory):
        return exec_config(directory, ["/bin/sh", "-c", 'echo "${WEIR_CONTENT_LENGTH-none} $WEIR_FIELD_ORIGIN"; cat'],
                           process={"content_type": JSON},
                           route={"rewrite_urls": {**BOTH_WAYS, "outer": "https://example.org"}})

    w = weir(config=config)
    with w.client() as client:
        client.send(request("POST", fields=[f"Content-Type: {JSON}", "Origin: https://example.org"],
                            body='"https://example.org/x" "http://localhost:8080/y" "http://localhost:8081"'))
        got = client.read_response()
    assert got.body.decode() == (
        'none https://example.org\n"https://example.org/x" "https://example.org/y" "http://localhost:8081"')


def test_a_websocket_is_not_touched_but_its_origin(weir, up):
    w = start(weir, up, {**BOTH_WAYS, "outer": "https://example.org"})
    with w.client() as client:
        client.send(request(fields=["Connection: Upgrade", "Upgrade: websocket", f"Content-Type: {JSON}",
                                    "Origin: https://example.org"]))
        server = up.accept()
        head = server.read_request_head()
        assert head.fields.get("origin") == INNER
        server.send(response(101, ["Connection: Upgrade", "Upgrade: websocket", f"Content-Type: {JSON}"], length=False))
        assert client.read_response_head().status == 101
        text = f"{INNER}/{OUTER}/"[:100].encode()
        frame = bytes([0x81, len(text)]) + text
        server.send(frame)
        assert client.read_exactly(len(frame)) == frame
        masked = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
        client.send(masked)
        assert server.read_exactly(len(masked)) == masked
        client.send(bytes([0x88, 0x80, 0, 0, 0, 0]))
        server.send(bytes([0x88, 0]))
        server.close()


def test_a_call_is_not_touched(weir, h2_serve):
    message = b"\0" + len(INNER).to_bytes(4, "big") + INNER.encode()

    def on_stream(stream, event):
        if event == "end":
            assert stream.body == message
            stream.respond(200, [("content-type", "application/grpc")], message, [("grpc-status", "0")])

    w = start(weir, h2_serve(on_stream), {**BOTH_WAYS, "outer": INNER, "inner": OUTER},
              listener={"protocol": "http2"}, pipeline={"protocol": "http2"})
    with Http2Client(w.port) as client:
        sid = client.ask("POST", "/a.B/C", [("content-type", "application/grpc"), ("te", "trailers")], message)
        assert bytes(client.response(sid).body) == message


def test_the_output_is_valid_whatever_the_client_calls_us(weir, up):
    w = start(weir, up, {"bodies": [JSON]}, listener={"trust": []})
    _, got = exchange(w, up, typed(f'{{"a": "http://localhost:{up.port}/x"}}'), host="shop.test:8443")
    assert json.loads(got.body) == {"a": "http://shop.test:8443/x"}
