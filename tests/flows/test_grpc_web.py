"""gRPC-Web calls, from HTTP/1.1 and HTTP/2 clients, become gRPC calls where the route says so."""

import base64
import struct
import threading
from concurrent import futures

import grpc
import pytest
from harness.env import free_port, scaled, wait_for
from harness.h2_upstream import H2Server
from harness.http2 import Http2Client
from harness.wire import Closed, chunked, request

pytestmark = pytest.mark.timeout(120)

BINARY, TEXT = "application/grpc-web", "application/grpc-web-text"
HTTP2 = {"protocol": "http2"}
GRPC = [("content-type", "application/grpc")]
PIECE = 1 << 20


class Service(grpc.GenericRpcHandler):
    def __init__(self):
        self.go = threading.Event()
        self.is_over = threading.Event()
        self.seen = None  # the last call's metadata
        self.remaining = None  # and what was left of its deadline

    def service(self, details):
        self.seen = dict(details.invocation_metadata)
        kind, function = {
            "Echo": (grpc.unary_unary_rpc_method_handler, self.echo),
            "Fail": (grpc.unary_unary_rpc_method_handler, self.fail),
            "Once": (grpc.unary_stream_rpc_method_handler, self.once),
            "FailLate": (grpc.unary_stream_rpc_method_handler, self.fail_late),
            "Bulk": (grpc.unary_stream_rpc_method_handler, self.bulk),
            "Talk": (grpc.stream_stream_rpc_method_handler, self.talk),
            "Ignore": (grpc.stream_unary_rpc_method_handler, self.ignore),
            "Length": (grpc.stream_unary_rpc_method_handler, self.length),
        }.get(details.method.rpartition("/")[2], (None, None))
        return kind and kind(function)

    def echo(self, message, context):
        self.remaining = context.time_remaining()
        context.set_trailing_metadata((("x-more", "yes"), ("x-more-bin", b"\0\1")))
        return message

    def fail(self, message, context):
        context.set_trailing_metadata((("x-more", "yes"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00f6%")

    def once(self, message, context):
        context.add_callback(self.is_over.set)
        yield message
        while not self.is_over.is_set() and not self.go.wait(0.01):
            pass

    def fail_late(self, message, context):
        yield message
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")

    def bulk(self, message, context):
        for i in range(int(message)):
            yield bytes([i % 251]) * PIECE

    def talk(self, messages, context):
        yield from messages

    def ignore(self, messages, context):
        self.go.wait(60)
        return b""

    def length(self, messages, context):
        return b"%d" % sum(len(message) for message in messages)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.go.set()


@pytest.fixture
def server(service):
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(32), options=options)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    service.go.set()
    server.stop(None).wait()


@pytest.fixture
def scripted():
    made = []

    def make(answer):
        made.append(H2Server(lambda stream, event: answer(stream) if event == "end" else None))
        return made[-1]

    yield make
    for server in made:
        server.close()
        server.check()


def start(weir, upstream, *, listener=None, pipeline=None, route=None, **more):
    return weir(upstream, listener={"protocol": "auto", **(listener or {})}, pipeline={**HTTP2, **(pipeline or {})},
                route={"grpc_web": True, **(route or {})}, **more)


def frame(message, flags=0):
    return struct.pack(">BI", flags, len(message)) + message


def encoded(content, kind):
    return base64.b64encode(content) if kind.startswith(TEXT) else content


def decoded(content, kind):
    """The text form may be padded anywhere: each group of four is decoded for itself."""
    if not kind.startswith(TEXT):
        return content
    assert len(content) % 4 == 0, content[-20:]
    if b"=" not in content[:-4]:
        return base64.b64decode(content, validate=True)
    return b"".join(base64.b64decode(content[i:i + 4], validate=True) for i in range(0, len(content), 4))


def frames(content):
    out, at = [], 0
    while at < len(content):
        flags, length = struct.unpack_from(">BI", content, at)
        assert len(content) >= at + 5 + length, "a frame is cut"
        out.append((flags, bytes(content[at + 5:at + 5 + length])))
        at += 5 + length
    return out


class Answer:
    """A response, whatever it came over: its messages, and its trailers as the last frame says them."""

    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, bytes(body)
        self.kind = fields.get("content-type")
        self.messages, self.trailers = [], {}
        for flags, content in frames(decoded(self.body, self.kind)):
            assert not self.trailers, "trailers are the last frame"
            if flags == 0x80:
                assert content.endswith(b"\r\n")
                lines = [line.split(b": ", 1) for line in content[:-2].split(b"\r\n")]
                self.trailers = {name.decode(): value.decode() for name, value in lines}
                assert all(name == name.lower() for name in self.trailers)
            else:
                assert flags == 0
                self.messages.append(content)


def post(name, kind, content, fields=()):
    return request("POST", f"/weir.test.Echo/{name}", [f"Content-Type: {kind}", "X-Grpc-Web: 1", *fields],
                   body=content)


def read_http1(client):
    response = client.read_response("POST")
    assert not response.trailers
    return Answer(response.status, response.fields, response.body)


def call(w, name, content, kind=BINARY, fields=(), over="http1"):
    """One call with @content as it is, base64 included."""
    if over == "http1":
        with w.client() as client:
            client.send(post(name, kind, content, fields))
            return read_http1(client)
    more = [(name.lower(), value) for name, value in (field.split(": ", 1) for field in fields)]
    with Http2Client(w.port) as client:
        return read_http2(client, ask(client, name, kind, content, more))


def ask(client, name, kind, content, fields=(), end=True):
    return client.ask("POST", f"/weir.test.Echo/{name}", [("content-type", kind), *fields], content, end)


def read_http2(client, sid):
    stream = client.response(sid, 60)
    assert not stream.trailers
    return Answer(stream.status, stream.fields, stream.body)


def assert_calls(w, status, count):
    """An exchange is counted when it is over, which its client may know first."""
    wait_for(f"{count} calls that ended with {status}",
             lambda: w.metrics().sum("weir_grpc_requests_total", grpc_status=status) == count, 10)


KINDS = [BINARY, TEXT, BINARY + "+proto", TEXT + "+proto"]
both_sides = pytest.mark.parametrize("over", ["http1", "http2"])
both_forms = pytest.mark.parametrize("kind", [BINARY, TEXT])


# Unary calls.


@both_sides
@pytest.mark.parametrize("kind", KINDS)
def test_a_unary_call(weir, server, service, over, kind):
    w = start(weir, server)
    for size in (0, 1, 2, 3, 1000, 300_000):
        answer = call(w, "Echo", encoded(frame(bytes(size)), kind), kind, over=over)
        assert answer.status == 200 and answer.kind == kind.partition("+")[0], "as the upstream names its format"
        assert answer.messages == [bytes(size)]
        assert answer.trailers["grpc-status"] == "0"
        assert answer.trailers["x-more"] == "yes" and answer.trailers["x-more-bin"].startswith("AAE")
        assert "content-length" not in answer.fields and "trailer" not in answer.fields
    assert_calls(w, "OK", 6)
    assert service.seen["x-forwarded-for"] == "127.0.0.1"
    assert w.metrics().sum("weir_streams_active") == 0


def test_many_calls_on_one_connection(weir, server):
    w = start(weir, server)
    with w.client() as client:
        for kind in KINDS * 3:
            client.send(post("Echo", kind, encoded(frame(kind.encode()), kind)))
            answer = read_http1(client)
            assert answer.messages == [kind.encode()] and answer.trailers["grpc-status"] == "0"


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7])
def test_text_that_is_padded_and_cut_anywhere(weir, server, cut):
    """Every @cut bytes are base64 of their own, and come one after the other."""
    content = frame(b"0123456789abcdef")
    parts = [base64.b64encode(content[i:i + cut]) for i in range(0, len(content), cut)]
    w = start(weir, server)
    assert call(w, "Echo", b"".join(parts), TEXT).messages == [b"0123456789abcdef"]
    with w.client() as client:
        client.send(request("POST", "/weir.test.Echo/Echo", [f"Content-Type: {TEXT}", "Transfer-Encoding: chunked"]))
        for part in parts:
            for i in range(len(part)):
                client.send_chunk(part[i:i + 1])
        client.send(b"0\r\n\r\n")
        assert read_http1(client).messages == [b"0123456789abcdef"]


@both_sides
def test_the_answer_has_the_form_that_is_accepted(weir, server, over):
    w = start(weir, server)
    answer = call(w, "Echo", frame(b"hi"), BINARY, [f"Accept: {TEXT}"], over=over)
    assert answer.kind == TEXT and answer.messages == [b"hi"]
    answer = call(w, "Echo", encoded(frame(b"hi"), TEXT), TEXT, [f"Accept: {BINARY}, */*"], over=over)
    assert answer.kind == BINARY and answer.messages == [b"hi"]


def test_what_the_upstream_sees(weir, scripted):
    up = scripted(lambda stream: stream.respond(200, GRPC, trailers=[("grpc-status", "0")]))
    w = start(weir, up)
    answer = call(w, "Echo", encoded(frame(b"hi"), TEXT), TEXT + "+json", [f"Accept: {TEXT}", "Grpc-Timeout: 5S"])
    assert answer.messages == [] and answer.trailers == {"grpc-status": "0"}
    (seen,) = up.streams
    assert seen.get("content-type") == "application/grpc+json" and seen.get("te") == "trailers"
    assert seen.get("content-length") is None and seen.get("accept") is None
    assert seen.get("grpc-timeout") != "5S", "it is reduced"
    assert seen.body == frame(b"hi") and not seen.trailers


# Streams.


@both_sides
@both_forms
def test_messages_arrive_as_they_are_sent(weir, server, service, over, kind):
    w = start(weir, server)
    expected = encoded(frame(b"first"), kind)  # whole, padding included
    content = encoded(frame(b"first"), kind)
    if over == "http1":
        client = w.client()
        client.send(post("Once", kind, content))
        client.read_response_head()
        got = b""
        while len(got) < len(expected):
            got += client.read_chunk()
    else:
        client = Http2Client(w.port)
        stream = ask(client, "Once", kind, content)
        client.await_("a message", lambda: len(client.streams[stream].body) >= len(expected))
        got = bytes(client.streams[stream].body)
    assert got == expected
    wait_for("it is a stream", lambda: w.metrics().sum("weir_streams_active") == 1)
    service.go.set()
    if over == "http1":
        rest = b""
        while chunk := client.read_chunk():
            rest += chunk
        assert not client.read_trailers()
    else:
        rest = client.response(stream).body[len(got):]
    client.close()
    answer = Answer(200, {"content-type": kind}, rest)
    assert answer.messages == [] and answer.trailers["grpc-status"] == "0"


@both_forms
def test_both_directions_at_once(weir, server, kind):
    w = start(weir, server)
    client = Http2Client(w.port)
    stream = ask(client, "Talk", kind, b"", end=False)
    expected = b""
    for i in range(5):
        message = encoded(frame(b"x" * i), kind)
        client.send(stream, message, end=i == 4)
        expected += message
        client.await_("the message", lambda: len(client.streams[stream].body) >= len(expected))
    answer = read_http2(client, stream)
    client.close()
    assert answer.body.startswith(expected) and answer.trailers["grpc-status"] == "0"


@both_sides
@both_forms
def test_a_client_that_leaves_cancels_the_call(weir, server, service, over, kind):
    w = start(weir, server)
    content = encoded(frame(b"first"), kind)
    if over == "http1":
        with w.client() as client:
            client.send(post("Once", kind, content))
            client.read_response_head()
            client.read_chunk()
    else:
        client = Http2Client(w.port)
        stream = ask(client, "Once", kind, content)
        client.await_("content", lambda: client.streams[stream].body)
        client.cancel(stream)
    assert service.is_over.wait(scaled(10)), "the upstream is told"
    wait_for("nothing is left", lambda: w.metrics().sum("weir_exchanges_active") == 0)
    assert_calls(w, "CANCELLED", 1)


# Bounded memory.


@both_sides
@both_forms
def test_a_slow_reader_holds_the_upstream_back(weir, server, over, kind):
    count = 16
    w = start(weir, server)
    content = encoded(frame(b"%d" % count), kind)
    if over == "http1":
        client = w.client(receive_buffer=65536)
        client.send(post("Bulk", kind, content))
    else:
        client = Http2Client(w.port)
        stream = ask(client, "Bulk", kind, content)
    wait_for("something is held", lambda: w.metrics().sum("weir_buffered_bytes") > 0)
    most = max(w.metrics().sum("weir_buffered_bytes") for _ in range(50))
    assert most < 1_000_000, "a window and a read, not all of it"
    answer = read_http1(client) if over == "http1" else read_http2(client, stream)
    client.close()
    assert [message[:1] for message in answer.messages] == [bytes([i % 251]) for i in range(count)]
    assert all(len(message) == PIECE for message in answer.messages)
    assert answer.trailers["grpc-status"] == "0"


@both_forms
def test_a_slow_upstream_holds_the_client_back(weir, server, service, kind):
    w = start(weir, server)
    message = encoded(frame(bytes(3 * 1000 * 1000 - 5)), kind)  # no padding
    with w.client() as client:
        client.send(post("Ignore", kind, b"", ["Transfer-Encoding: chunked"]))
        block = b"%x\r\n%s\r\n" % (len(message), message)
        limit = 60 * len(block)
        assert client.send_until_stuck(block, limit) < limit
        assert w.metrics().sum("weir_buffered_bytes") < 1_000_000
    service.go.set()
    wait_for("nothing is left", lambda: w.metrics().sum("weir_exchanges_active") == 0)
    assert w.metrics().sum("weir_buffered_bytes") == 0


@both_sides
@both_forms
def test_big_requests_go_through_whole(weir, server, over, kind):
    w = start(weir, server)
    content = b"".join(encoded(frame(bytes([i]) * PIECE), kind) for i in range(20))
    answer = call(w, "Length", content, kind, over=over)
    assert answer.messages == [b"%d" % (20 * PIECE)] and answer.trailers["grpc-status"] == "0"


# Failures.


@both_sides
@both_forms
def test_a_call_that_fails_before_it_has_answered(weir, server, over, kind):
    w = start(weir, server)
    answer = call(w, "Fail", encoded(frame(b"x"), kind), kind, over=over)
    said = answer.trailers or answer.fields
    assert answer.status == 200 and answer.kind == kind and answer.messages == []
    assert said.get("grpc-status") == "5" and said.get("x-more") == "yes"
    assert said.get("grpc-message") == "no such thing: %C3%B6%25"
    assert_calls(w, "NOT_FOUND", 1)


@both_sides
@both_forms
def test_a_call_that_fails_late(weir, server, over, kind):
    w = start(weir, server)
    answer = call(w, "FailLate", encoded(frame(b"x"), kind), kind, over=over)
    assert answer.messages == [b"x"]
    assert answer.trailers["grpc-status"] == "15" and answer.trailers["grpc-message"] == "lost"
    assert_calls(w, "DATA_LOSS", 1)


@both_sides
@both_forms
def test_trailers_only(weir, scripted, over, kind):
    head = [*GRPC, ("grpc-status", "7"), ("grpc-message", "no")]
    w = start(weir, scripted(lambda stream: stream.head(200, head, end=True)))
    answer = call(w, "Echo", encoded(frame(b"x"), kind), kind, over=over)
    assert answer.kind == kind and answer.body == b""
    assert answer.fields.get("grpc-status") == "7" and answer.fields.get("grpc-message") == "no"
    assert_calls(w, "PERMISSION_DENIED", 1)


@both_sides
@both_forms
def test_an_upstream_that_is_away_is_unavailable(weir, over, kind):
    w = start(weir, f"127.0.0.1:{free_port()}", pipeline={"hold": 0})
    answer = call(w, "Echo", encoded(frame(b"x"), kind), kind + "+proto", over=over)
    assert answer.status == 200 and answer.kind == kind + "+proto" and answer.body == b""
    assert answer.fields.get("grpc-status") == "14"
    assert answer.fields.get("grpc-message").startswith("weir: the upstream refused the connection")
    assert_calls(w, "UNAVAILABLE", 1)


@both_sides
@pytest.mark.parametrize("kind, content, why", [
    (TEXT, b"AAAAAAE$", "no base64"),
    (TEXT, base64.b64encode(frame(b"abc"))[:-1], "the base64 ends too early"),
    (TEXT, base64.b64encode(frame(b"abc")[:-1]), "the content ends within a message"),
    (BINARY, frame(b"abc")[:-1], "the content ends within a message"),
    (BINARY, frame(b"abc", 0x80), "a message has unknown flags"),
    (TEXT, base64.b64encode(frame(b"abc", 2)), "a message has unknown flags"),
])
def test_malformed_content_is_refused_with_the_reason(weir, server, over, kind, content, why):
    w = start(weir, server)
    answer = call(w, "Echo", content, kind, over=over)
    assert answer.kind == kind and answer.messages == []
    assert answer.fields.get("grpc-status") == "13"
    assert answer.fields.get("grpc-message").startswith(f"weir: malformed gRPC-Web content ({why}); ")
    assert_calls(w, "INTERNAL", 1)
    endpoints = w.status()["pipelines"][0]["endpoints"]
    assert [endpoint["failures_total"] for endpoint in endpoints] == [0], "it is the client's fault"
    assert call(w, "Echo", encoded(frame(b"x"), kind), kind, over=over).messages == [b"x"]


def test_a_stream_that_becomes_malformed_ends_with_a_status(weir, server):
    w = start(weir, server)
    client = Http2Client(w.port)
    stream = ask(client, "Talk", TEXT, encoded(frame(b"one"), TEXT), end=False)
    client.await_("content", lambda: client.streams[stream].body)
    client.send(stream, b"****")
    answer = read_http2(client, stream)
    client.close()
    assert answer.messages == [b"one"] and answer.trailers["grpc-status"] == "13"
    assert "no base64" in answer.trailers["grpc-message"]


@both_sides
@both_forms
def test_the_client_s_deadline_is_kept(weir, server, service, over, kind):
    w = start(weir, server)
    content = encoded(frame(b"x"), kind)
    assert call(w, "Echo", content, kind, ["Grpc-Timeout: 20S"], over=over).messages == [b"x"]
    assert 10 < service.remaining < 20
    answer = call(w, "Once", content, kind, ["Grpc-Timeout: 500m"], over=over)
    assert answer.messages == [b"x"] and answer.trailers["grpc-status"] == "4"
    assert_calls(w, "DEADLINE_EXCEEDED", 1)


@pytest.mark.parametrize("break_off,status", [
    (lambda stream: stream.connection.end(), "14"),
    (lambda stream: stream.reset(2), "13"),  # INTERNAL_ERROR, as a client of it would take it
], ids=["end", "reset"])
@both_sides
@both_forms
def test_an_upstream_that_breaks_off_between_messages(weir, scripted, over, kind, break_off, status):
    def answer(stream):
        stream.head(200, GRPC)
        stream.data(frame(b"whole"))

    up = scripted(answer)
    w = start(weir, up)
    content, expected = encoded(frame(b"x"), kind), encoded(frame(b"whole"), kind)
    if over == "http1":
        client = w.client()
        client.send(post("Echo", kind, content))
        client.read_response_head()
        got = client.read_chunk()
        break_off(up.streams[0])
        while chunk := client.read_chunk():
            got += chunk
    else:
        client = Http2Client(w.port)
        stream = ask(client, "Echo", kind, content)
        client.await_("content", lambda: client.streams[stream].body)
        break_off(up.streams[0])
        got = client.response(stream).body
    client.close()
    assert got.startswith(expected)
    answer = Answer(200, {"content-type": kind}, got)
    assert answer.messages == [b"whole"] and answer.trailers["grpc-status"] == status


@pytest.mark.parametrize("content", [
    frame(b"whole") + frame(b"half")[:-1],
    frame(b"grpc-status: 0\r\n", 0x80),
])
@both_sides
@both_forms
def test_what_would_mislead_the_client_is_broken_off(weir, scripted, over, kind, content):
    """What came whole before may be followed by a status of weir's, but by none of the upstream's."""
    w = start(weir, scripted(lambda stream: stream.respond(200, GRPC, content, [("grpc-status", "0")])))
    sent = encoded(frame(b"x"), kind)
    got, is_whole = bytearray(), False
    if over == "http1":
        with w.client() as client:
            client.send(post("Echo", kind, sent))
            client.read_response_head()
            try:
                while chunk := client.read_chunk():
                    got += chunk
                is_whole = True
            except Closed:
                pass
    else:
        with Http2Client(w.port) as client:
            stream = client.streams[ask(client, "Echo", kind, sent)]
            client.await_("the end", lambda: stream.is_over)
            got, is_whole = stream.body, stream.is_ended
    if is_whole:
        assert Answer(200, {"content-type": kind}, got).trailers["grpc-status"] == "14"
    assert b"grpc-status: 0" not in got and base64.b64encode(b"grpc-status: 0")[:12] not in got
    assert_calls(w, "UNAVAILABLE", 1)


def test_an_upstream_that_says_no_status(weir, scripted):
    w = start(weir, scripted(lambda stream: stream.respond(200, GRPC, frame(b"x"))))
    answer = call(w, "Echo", frame(b"x"))
    assert answer.messages == [b"x"]
    assert answer.trailers == {"grpc-status": "2", "grpc-message": "weir: the upstream sent no grpc-status"}
    assert_calls(w, "UNKNOWN", 1)


def test_an_answer_that_is_no_grpc_passes_as_it_is(weir, scripted):
    head = [("content-type", "text/plain"), ("content-length", "2")]
    w = start(weir, scripted(lambda stream: stream.respond(403, head, b"no")))
    for over in ("http1", "http2"):
        with pytest.raises(struct.error):  # no frames
            call(w, "Echo", frame(b"x"), over=over)
    reply = w.exchange(post("Echo", TEXT, encoded(frame(b"x"), TEXT)), "POST")
    assert reply.status == 403 and reply.body == b"no" and reply.fields.get("content-type") == "text/plain"
    assert_calls(w, "PERMISSION_DENIED", 3)


@both_forms
def test_what_an_upstream_refuses_is_said_again(weir, scripted, kind):
    def answer(stream):
        if len(up.streams) == 1:
            stream.reset(7)  # REFUSED_STREAM
        else:
            stream.respond(200, GRPC, stream.body, [("grpc-status", "0")])

    up = scripted(answer)
    w = start(weir, up)
    content = frame(b"x" * 10_000)
    answer = call(w, "Echo", encoded(content, kind), kind)
    assert answer.messages == [b"x" * 10_000] and answer.trailers == {"grpc-status": "0"}
    assert [stream.body for stream in up.streams] == [content, content]


# Routes.


def test_only_where_the_route_says_so(weir, scripted):
    def mirror(stream):
        stream.respond(200, [("content-type", "text/plain")], stream.get("content-type").encode() + b" " + stream.body)

    routes = [
        {"match": {"path": "/weir.test.Echo/Echo"}, "pipeline": "up"},
        {"match": {"grpc": "weir.test.Echo/Talk"}, "pipeline": "up", "grpc_web": True},
        {"match": {"grpc": "weir.test.Echo/Once"}, "pipeline": "up"},
    ]
    w = start(weir, scripted(mirror), routes=routes)

    def answer(name):
        return w.exchange(post(name, TEXT, b"AAAAAAA="), "POST")

    assert answer("Echo").body == b"application/grpc-web-text AAAAAAA="
    assert answer("Talk").body == b"application/grpc " + frame(b"")
    assert answer("Once").status == 404
    plain = w.exchange(request("POST", "/weir.test.Echo/Talk", ["Content-Type: text/plain"], body=b"x"), "POST")
    assert plain.status == 404, "the route is for gRPC"


def test_other_requests_and_grpc_calls_pass_as_they_are(weir, scripted):
    def mirror(stream):
        stream.respond(200, [("x-method", stream.get(":method")), ("access-control-allow-origin", "*")],
                       (stream.get("content-type") or "none").encode() + b" " + stream.body)

    w = start(weir, scripted(mirror))
    preflight = ["Origin: https://app.example", "Access-Control-Request-Method: POST"]
    reply = w.exchange(request("OPTIONS", "/weir.test.Echo/Echo", preflight), "OPTIONS")
    assert reply.fields.get("x-method") == "OPTIONS" and reply.fields.get("access-control-allow-origin") == "*"
    body = chunked(b"anything")
    reply = w.exchange(request("POST", "/x", ["Content-Type: text/plain", "Transfer-Encoding: chunked"], body=body),
                       "POST")
    assert reply.body == b"text/plain anything"
    with Http2Client(w.port) as client:
        answer = client.response(ask(client, "Echo", "application/grpc", frame(b"abc"), [("te", "trailers")]))
    assert answer.body == b"application/grpc " + frame(b"abc")
