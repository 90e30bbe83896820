"""Streams: events as they happen, tunnels that close one side at a time."""

import asyncio
import hashlib
import http
import os
import threading
import time

import pytest
import websockets
from harness.env import scaled, wait_for
from harness.http2 import Http2Client
from harness.replies import expect_problem
from harness.wire import request, response

UPGRADE = ["Connection: Upgrade", "Upgrade: raw"]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"


def tunnel(weir, up, **options):
    """A tunnel that is open: weir, the client's wire, the upstream's."""
    w = weir(up, **options)
    client = w.client()
    client.send(request(fields=UPGRADE))
    server = up.accept()
    got = server.read_request_head()
    assert got.fields.get("upgrade") == "raw"
    assert "upgrade" in [m.lower() for m in got.fields.list("connection")]
    server.send(SWITCH)
    answer = client.read_response_head()
    assert answer.status == 101 and answer.fields.get("upgrade") == "raw"
    assert "upgrade" in [m.lower() for m in answer.fields.list("connection")]
    return w, client, server


# Server-sent events.


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_every_event_is_passed_on_at_once(weir, up, framing):
    w = weir(up)
    client = w.client()
    client.send(request(fields=["Accept: text/event-stream"]))
    server = up.accept()
    server.read_request()
    fields = ["Content-Type: text/event-stream"]
    if framing == "chunked":
        fields.append("Transfer-Encoding: chunked")
    server.send(response(fields=fields, length=False))
    client.read_response_head()
    worst = 0.0
    for i in range(50):
        event = f"id: {i}\ndata: {i}\n\n".encode()
        start = time.monotonic()
        server.send_chunk(event) if framing == "chunked" else server.send(event)
        assert client.read_chunk() == event
        worst = max(worst, time.monotonic() - start)
    assert worst < scaled(0.25), f"an event took {worst * 1000:.0f} ms"
    server.send(b"0\r\n\r\n") if framing == "chunked" else None
    server.close()
    assert client.read_chunk() == b""


def test_the_head_of_a_stream_does_not_wait_for_its_first_event(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    assert client.read_response_head().status == 200


def test_a_slow_upload_is_passed_on_as_it_comes(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request("POST", fields=["Transfer-Encoding: chunked"]))
    server = up.accept()
    server.read_request_head()
    for i in range(20):
        client.send_chunk(f"line {i}\n")
        assert server.read_chunk() == f"line {i}\n".encode()


def test_streams_are_counted_by_kind_while_they_live(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
    client.read_response_head()
    wait_for("one stream lives", lambda: w.metrics().sum("weir_streams_active") == 1)
    server.send(b"0\r\n\r\n")
    client.read_chunk()
    wait_for("none is left", lambda: w.metrics().sum("weir_streams_active") == 0)


def test_a_stream_gives_its_concurrency_back(weir, up):
    """It trades its permit for a stream permit."""
    w = weir(
        up,
        threads=1,
        pipeline={
            "limits": {"concurrency": 1, "connections": 8, "streams": 4},
            "queue": {"size": 4, "max_wait": "10s"},
        },
    )
    streams = []
    for _ in range(3):
        client = w.client()
        client.send(request())
        server = up.accept()
        server.read_request()
        server.send(response(fields=["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
        client.read_response_head()
        streams.append((client, server))
    client = w.client()
    client.send(request(target="/plain"))
    server = up.accept()
    assert server.read_request().target == "/plain"
    server.send(response(body=b"plain"))
    assert client.read_response().body == b"plain"


# Tunnels.


def test_bytes_pass_a_tunnel_in_both_directions(weir, up):
    _, client, server = tunnel(weir, up)
    client.send(b"\x00ping\r\n\r\n")
    assert server.read_exactly(9) == b"\x00ping\r\n\r\n"
    server.send(b"HTTP/1.1 200 OK\r\n\r\n")  # no longer HTTP, whatever it looks like
    assert client.read_exactly(19) == b"HTTP/1.1 200 OK\r\n\r\n"


def test_bytes_right_behind_the_switch_are_not_lost(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request(fields=UPGRADE))
    server = up.accept()
    server.read_request_head()
    server.send(SWITCH + b"hello at once")
    client.read_response_head()
    assert client.read_exactly(13) == b"hello at once"


def test_bytes_that_the_client_sends_too_early_are_not_lost(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request(fields=UPGRADE) + b"impatient")
    server = up.accept()
    server.read_request_head()
    server.send(SWITCH)
    client.read_response_head()
    assert server.read_exactly(9) == b"impatient"


def test_the_client_may_close_its_side_of_a_tunnel(weir, up):
    _, client, server = tunnel(weir, up)
    client.send(b"last words")
    client.shutdown()
    assert server.read_to_end() == b"last words"
    server.send(b"and an answer")
    server.close()
    assert client.read_to_end() == b"and an answer"


def test_the_upstream_may_close_its_side_of_a_tunnel(weir, up):
    _, client, server = tunnel(weir, up)
    server.send(b"last words")
    server.shutdown()
    assert client.read_to_end() == b"last words"
    client.send(b"and an answer")
    client.close()
    assert server.read_to_end() == b"and an answer"


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_ends_both_sides_of_a_tunnel(weir, up, who):
    w, client, server = tunnel(weir, up)
    (client if who == "client" else server).reset()
    (server if who == "client" else client).expect_gone()
    wait_for("nothing is left of it", lambda: w.metrics().sum("weir_exchanges_active") == 0)


def test_a_tunnel_has_backpressure(weir, up):
    w, client, server = tunnel(weir, up)
    block = b"x" * 65536
    before = w.rss()
    sent = server.send_until_stuck(block, 256 << 20)
    assert sent < 64 << 20
    sent_up = client.send_until_stuck(block, 256 << 20)
    assert sent_up < 64 << 20
    assert w.rss() - before < 16 << 20
    client.read_exactly(sent)
    server.read_exactly(sent_up)


@pytest.mark.threads
def test_a_tunnel_carries_megabytes_both_ways_at_once(weir, up):
    _, client, server = tunnel(weir, up)
    up_data, down_data = os.urandom(8 << 20), os.urandom(8 << 20)
    threads = [
        threading.Thread(target=client.send, args=(up_data,)),
        threading.Thread(target=server.send, args=(down_data,)),
    ]
    got = {}
    threads.append(threading.Thread(target=lambda: got.update(up=server.read_exactly(len(up_data)))))
    for thread in threads:
        thread.start()
    got["down"] = client.read_exactly(len(down_data))
    for thread in threads:
        thread.join()
    assert hashlib.sha256(got["up"]).digest() == hashlib.sha256(up_data).digest()
    assert hashlib.sha256(got["down"]).digest() == hashlib.sha256(down_data).digest()


@pytest.mark.parametrize("status", [200, 403, 426])
def test_an_upgrade_that_is_refused_is_an_ordinary_answer(weir, up, status):
    w = weir(up, threads=1)
    client = w.client()
    client.send(request(fields=UPGRADE))
    server = up.accept()
    server.read_request_head()
    server.send(response(status, body=b"not today"))
    answer = client.read_response()
    assert (answer.status, answer.body) == (status, b"not today")
    if "close" not in answer.fields.list("connection"):
        client.send(request(target="/next"))
        server = up.accept() if up.has_connection(0.2) else server
        assert server.read_request().target == "/next"


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_what_to_upgrade_to_is_passed_on(weir, up, protocol):
    """RFC 9110 15.5.22; HTTP/2 has no such field (RFC 9113 8.2.2)."""
    w = weir(up, listener={"protocol": protocol})
    refusal = response(426, ["Upgrade: websocket", "Connection: Upgrade, close"], b"only so")
    if protocol == "http1":
        with w.client() as client:
            client.send(request())
            server = up.accept()
            server.read_request()
            server.send(refusal)
            answer = client.read_response()
            assert answer.status == 426 and answer.fields.list("upgrade") == ["websocket"]
            assert "upgrade" in answer.fields.list("connection")
    else:
        with Http2Client(w.port) as client:
            sid = client.ask()
            server = up.accept()
            server.read_request()
            server.send(refusal)
            answer = client.response(sid)
            assert answer.status == 426 and "upgrade" not in answer.fields and "connection" not in answer.fields


def test_an_upgrade_with_content_is_not_lost(weir, up):
    """RFC 9110 7.8: the content of the request comes first."""
    w = weir(up)
    client = w.client()
    client.send(request("POST", fields=UPGRADE, body=b"content"))
    server = up.accept()
    assert server.read_request().body == b"content"
    server.send(SWITCH)
    client.read_response_head()
    client.send(b"tunnel")
    assert server.read_exactly(6) == b"tunnel"


def test_a_client_of_http_1_0_cannot_upgrade(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request(version="HTTP/1.0", fields=UPGRADE))
    assert "upgrade" not in up.accept().read_request().fields


def test_a_tunnel_with_nobody_behind_is_explained(weir):
    from harness.env import free_port

    w = weir(f"127.0.0.1:{free_port()}", pipeline={"deadline": "5s", "hold": 0})
    client = w.client()
    client.send(request(fields=UPGRADE))
    expect_problem(client.read_response(), 502, 503)


def test_the_limit_of_streams_is_held(weir, up):
    """Without a free stream permit it keeps its own; so streams + concurrency bound it."""
    w = weir(
        up,
        threads=1,
        pipeline={
            "limits": {"concurrency": 1, "connections": 8, "streams": 1},
            "queue": {"size": 0, "max_wait": "1s"},
        },
    )
    wires = []
    for _ in range(2):
        client = w.client()
        client.send(request(fields=UPGRADE))
        server = up.accept()
        server.read_request_head()
        server.send(SWITCH)
        client.read_response_head()
        wires.append((client, server))
    third = w.client()
    third.send(request(fields=UPGRADE))
    expect_problem(third.read_response(), 503, pipeline="up")


# WebSocket.


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, scaled(30)))


async def echo(socket):
    async for message in socket:
        await socket.send(message)


def ws_url(w, path="/"):
    return f"ws://127.0.0.1:{w.port}{path}"


def test_websocket_messages_are_echoed(weir, ws_serve):
    w = weir(ws_serve(echo))

    async def talk():
        async with websockets.connect(ws_url(w, "/chat")) as socket:
            for message in ("text", b"\x00binary\xff", "", "x" * 70000, "ünï"):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())

    run(talk())


def test_a_large_websocket_message_is_whole(weir, ws_serve):
    w = weir(ws_serve(echo, max_size=None))
    data = os.urandom(8 << 20)

    async def talk():
        async with websockets.connect(ws_url(w), max_size=None, compression=None) as socket:
            await socket.send(data)
            assert await socket.recv() == data

    run(talk())


def test_a_websocket_subprotocol_is_agreed_upon(weir, ws_serve):
    w = weir(ws_serve(echo, subprotocols=["mqtt"]))

    async def talk():
        async with websockets.connect(ws_url(w), subprotocols=["mqtt", "other"]) as socket:
            assert socket.subprotocol == "mqtt"

    run(talk())


def test_a_websocket_close_carries_its_code_both_ways(weir, ws_serve):
    closed = {}

    async def close_when_told(socket):
        try:
            async for message in socket:
                await socket.close(4001, message)
        finally:
            closed["code"] = socket.close_code

    w = weir(ws_serve(close_when_told))

    async def talk():
        async with websockets.connect(ws_url(w)) as socket:
            await socket.send("why")
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "why")
        async with websockets.connect(ws_url(w)) as socket:
            await socket.close(4002)

    run(talk())
    wait_for("the server saw the client's code", lambda: closed.get("code") == 4002)


def test_a_websocket_that_the_upstream_refuses_is_told_its_status(weir, ws_serve):
    async def refuse(path, headers):
        return http.HTTPStatus.FORBIDDEN, [("X-Why", "no")], b"not you"

    w = weir(ws_serve(echo, process_request=refuse))

    async def talk():
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            await websockets.connect(ws_url(w))
        assert refused.value.status_code == 403

    run(talk())


@pytest.mark.threads
def test_fifty_websockets_never_see_one_anothers_messages(weir, ws_serve):
    w = weir(ws_serve(echo), pipeline={"limits": {"streams": 100, "connections": 100, "concurrency": 100}})

    async def one(i):
        async with websockets.connect(ws_url(w, f"/{i}")) as socket:
            for k in range(20):
                await socket.send(f"{i}:{k}")
                assert await socket.recv() == f"{i}:{k}"

    async def talk():
        await asyncio.gather(*(one(i) for i in range(50)))

    run(talk())
    wait_for("none is left", lambda: w.metrics().sum("weir_streams_active") == 0)


@pytest.mark.threads
def test_parallel_event_streams_each_get_their_own(weir, engine):
    import aiohttp

    w = weir(engine, pipeline={"limits": {"streams": 100, "connections": 100, "concurrency": 100}})

    async def talk():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(i):
                async with session.get(w.url(f"/sse?n={i}&every=0.002")) as reply:
                    assert (await reply.text()).count("data:") == i

            await asyncio.gather(*(one(i) for i in range(40)))

    run(talk())
