"""HTTP/2 on both sides: what only shows when streams meet streams."""

import itertools

import pytest
from h2.errors import ErrorCodes

from harness.env import wait_for
from harness.h2_upstream import H2Server
from harness.http2 import Http2Client

pytestmark = pytest.mark.timeout(60)

MIB = 1 << 20


@pytest.fixture
def cross(weir):
    """cross(serve, ...): (weir, client, server) with HTTP/2 all the way."""
    made = []

    def make(serve, pipeline=None, **options):
        server = H2Server(serve, **options)
        made.append(server)
        w = weir(server, listener={"protocol": "http2"}, pipeline={"protocol": "http2", **(pipeline or {})}, threads=1)
        client = Http2Client(w.port)
        made.append(client)
        return w, client, server

    yield make
    for each in made:
        each.close()
    for each in made:
        if isinstance(each, H2Server):
            each.check()


def test_heads_and_trailers_cross(cross):
    def serve(stream, event):
        if event == "end":
            stream.respond(fields=[("x-a", "1"), ("x-a", "2")], body=stream.body, trailers=[("x-sum", "9")])

    w, client, server = cross(serve)
    sid = client.ask("POST", "/p", [("te", "trailers"), ("x-q", "z")], b"body", end=False)
    client.end(sid, [("x-t", "1")])
    reply = client.response(sid)
    assert (reply.status, bytes(reply.body)) == (200, b"body")
    assert reply.fields.all("x-a") == ["1", "2"]
    assert reply.fields.get("via") == "2.0 weir"
    assert list(reply.trailers) == [("x-sum", "9")]
    (stream,) = server.streams
    assert (stream.get("te"), stream.get("x-q"), stream.get("via")) == ("trailers", "z", "2.0 weir")
    assert stream.trailers == [("x-t", "1")]


@pytest.mark.parametrize("code", [ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
def test_the_code_of_a_reset_reaches_the_client(cross, code):
    def serve(stream, event):
        if event == "end":
            stream.head(200)
            stream.data(b"some")

    w, client, server = cross(serve)
    sid = client.ask()
    client.await_("the first bytes", lambda: client.streams[sid].body == b"some")
    server.streams[0].reset(code)
    client.await_reset(sid)
    assert client.streams[sid].reset == code
    other = client.ask()
    client.await_("the connection is none the worse", lambda: client.streams[other].body == b"some")


def test_a_cancelled_stream_is_cancelled_at_the_upstream(cross):
    w, client, server = cross(lambda s, e: None)
    sid = client.ask()
    (stream,) = server.await_streams(1)
    client.cancel(sid)
    wait_for("the reset", lambda: stream.reset_code is not None)
    assert stream.reset_code == ErrorCodes.CANCEL
    assert not stream.connection.is_gone
    w.await_metric("weir_endpoint_streams", 0)


def test_a_refused_call_is_made_again_with_what_has_come_of_it(cross):
    """Refused in mid-request: what has been sent is sent again, the rest follows."""
    tries = itertools.count()

    def serve(stream, event):
        if event == "data" and not hasattr(stream, "which"):
            stream.which = next(tries)
            if stream.which == 0:
                stream.reset(ErrorCodes.REFUSED_STREAM)
        if event == "end":
            stream.respond(body=stream.body)

    w, client, server = cross(serve)
    sid = client.ask("POST", body=b"first ", end=False)
    server.await_streams(2)
    client.send(sid, b"second", end=True)
    reply = client.response(sid)
    assert (reply.status, bytes(reply.body)) == (200, b"first second")
    assert w.await_access(1)[0]["attempts"] == 2


def test_credit_is_given_once_for_what_is_said_twice(cross):
    """After a retry the windows of the client's connection are what they were."""
    tries = itertools.count()

    def serve(stream, event):
        if event == "end" and next(tries) % 2 == 0:
            stream.reset(ErrorCodes.REFUSED_STREAM)
        elif event == "end":
            stream.respond(body=b"%d" % len(stream.body))

    w, client, server = cross(serve, pipeline={"retry": {"budget": 1}})
    for _ in range(40):  # 40 x 60000 bytes are more than a window
        sid = client.ask("POST", body=bytes(60000))
        assert bytes(client.response(sid).body) == b"60000"
    assert len(server.streams) == 80


def test_much_crosses_both_ways_at_once(cross):
    def serve(stream, event):
        if event == "head":
            stream.head(200)
        elif event == "data":
            data, stream.body = stream.body, b""
            stream.data(data)
        elif event == "end":
            stream.data(b"", end=True)

    w, client, server = cross(serve)
    sids = [client.ask("POST", body=bytes([n]) * MIB) for n in range(4)]
    for n, sid in enumerate(sids):
        assert bytes(client.response(sid).body) == bytes([n]) * MIB


def test_a_websocket_crosses(cross):
    def serve(stream, event):
        if event == "head":
            stream.head(200, [("sec-websocket-protocol", "p")])
        elif event == "data":
            data, stream.body = stream.body, b""
            stream.data(data.upper())
        elif event == "end":
            stream.data(b"BYE", end=True)

    w, client, server = cross(serve, settings={"ENABLE_CONNECT_PROTOCOL": 1})
    sid = client.ask(
        head=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
              (":authority", "weir.test"), (":path", "/ws")],
        fields=[("sec-websocket-version", "13")], end=False,
    )  # fmt: skip
    client.await_("the answer", lambda: client.streams[sid].status is not None)
    assert client.streams[sid].status == 200
    assert client.streams[sid].fields.get("sec-websocket-protocol") == "p"
    client.send(sid, b"up")
    client.await_("the echo", lambda: client.streams[sid].body == b"UP")
    client.send(sid, b"last", end=True)
    assert bytes(client.response(sid).body) == b"UPLASTBYE"
    stream = server.streams[0]
    assert (stream.get(":method"), stream.get(":protocol")) == ("CONNECT", "websocket")
    assert {"sec-websocket-key", "sec-websocket-accept"} & {n for n, _ in stream.fields} == set()
    w.await_metric("weir_streams_active", 0, kind="tunnel")


def test_a_thousand_streams_at_once(weir):
    """All of them open at the upstream before the first is answered."""
    server = H2Server(lambda s, e: None, settings={"MAX_CONCURRENT_STREAMS": 1000})
    w = weir(
        server,
        listener={"protocol": "http2"},
        pipeline={"protocol": "http2", "limits": {"concurrency": 1000}, "deadline": "1m"},
    )
    clients = [Http2Client(w.port) for _ in range(10)]
    try:
        asked = [(c, [c.ask("POST", body=b"x") for _ in range(100)]) for c in clients]
        streams = server.await_streams(1000)
        assert server.accepted <= 12  # of 100 streams each, and one per thread
        for stream in streams:
            wait_for("it is whole", lambda: stream.is_ended)
            stream.respond(body=b"late")
        for c, sids in asked:
            for sid in sids:
                assert c.response(sid).status == 200
    finally:
        for c in clients:
            c.close()
        server.close()
    server.check()
