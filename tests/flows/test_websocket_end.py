"""A WebSocket under way as weir has to end: both sides are told 1001, between two frames."""

import asyncio
import signal
import struct
import time

import pytest
import websockets
from harness.env import scaled, wait_for
from harness.http2 import Http2Client
from harness.wire import request

UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CLOSE = b"\x88\x02" + struct.pack("!H", 1001)
GOING_AWAY = struct.pack("!H", 1001)
MASKED_CLOSE = b"\x88\x82\0\0\0\0" + GOING_AWAY  # by a key of zeros


def opened(w, up):
    """(client, server), both raw, with a WebSocket between them."""
    client = w.client()
    client.send(request(target="/ws", fields=UPGRADE))
    server = up.accept()
    server.read_request()
    server.send(SWITCHING)
    assert client.read_response_head().status == 101
    return client, server


def read_masked_close(wire):
    head = wire.read_exactly(8)
    assert head[:2] == b"\x88\x82"
    return bytes(b ^ head[2 + i] for i, b in enumerate(head[6:]))


@pytest.mark.threads
def test_real_ends_of_a_websocket_are_told(weir, ws_serve, loop):
    codes = []

    async def echo(socket, path=None):
        try:
            async for message in socket:
                await socket.send(message)
        finally:
            codes.append(socket.close_code)

    w = weir(ws_serve(echo), server={"drain": {"shutdown": "30s"}})

    async def client():
        socket = await websockets.connect(f"ws://127.0.0.1:{w.port}/ws")
        await socket.send("hello")
        assert await socket.recv() == "hello"
        return socket

    sockets = [loop.run(client()) for _ in range(5)]
    start = time.monotonic()
    w.signal()
    for socket in sockets:
        loop.run(socket.wait_closed())
        assert socket.close_code == 1001
    assert w.await_exit() == 0
    assert time.monotonic() - start < scaled(5)
    wait_for("the upstream has heard it", lambda: codes == [1001] * 5)
    assert [line["status"] for line in w.await_access(5)] == [101] * 5


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 100])
def test_the_frame_that_is_under_way_comes_first(weir, up, cut):
    w = weir(up, server={"drain": {"shutdown": "10s"}})
    client, server = opened(w, up)
    down = b"\x82\x7e" + struct.pack("!H", 300) + b"d" * 300
    asked = b"\x82\xfe" + struct.pack("!H", 300) + b"mask" + b"u" * 300
    server.send(down, down[:cut])
    client.send(asked, asked[:cut])
    assert client.read_exactly(len(down) + cut) == down + down[:cut]
    assert server.read_exactly(len(asked) + cut) == asked + asked[:cut]
    w.signal()
    wait_for("it drains", lambda: w.admin("/readyz")[0] == 503)
    assert client.is_quiet(0.2) and server.is_quiet(0.2)
    # What follows the border is too late.
    server.send(down[cut:], down)
    client.send(asked[cut:], asked)
    assert client.read_exactly(len(down) - cut) == down[cut:]
    assert client.read_exactly(4) == CLOSE
    assert server.read_exactly(len(asked) - cut) == asked[cut:]
    assert read_masked_close(server) == GOING_AWAY
    client.send(MASKED_CLOSE)
    server.send(CLOSE)
    client.expect_end()
    server.expect_end()
    server.close()
    client.close()
    assert w.await_exit() == 0


def test_a_closing_handshake_of_its_own_is_left_alone(weir, up):
    w = weir(up, server={"drain": {"shutdown": "10s"}})
    client, server = opened(w, up)
    server.send(b"\x88\x02\x03\xe8")
    assert client.read_exactly(4) == b"\x88\x02\x03\xe8"
    w.signal()
    wait_for("it drains", lambda: w.admin("/readyz")[0] == 503)
    client.send(b"\x88\x82\0\0\0\0\x03\xe8")
    assert server.read_exactly(8) == b"\x88\x82\0\0\0\0\x03\xe8"
    server.close()
    client.expect_end()
    client.close()
    assert w.await_exit() == 0


def test_one_that_opens_during_the_drain_is_told_at_once(weir, up):
    w = weir(up, server={"drain": {"shutdown": "10s"}})
    client = w.client()
    client.send(request(target="/ws", fields=UPGRADE))
    server = up.accept()
    server.read_request()
    w.signal()
    wait_for("it drains", lambda: w.admin("/readyz")[0] == 503)
    server.send(SWITCHING + b"\x81\x01x")
    assert client.read_response_head().status == 101
    assert client.read_exactly(3 + 4) == b"\x81\x01x" + CLOSE
    assert read_masked_close(server) == GOING_AWAY
    server.close()
    client.close()
    assert w.await_exit() == 0


def test_other_tunnels_are_not_spoken_into(weir, up):
    w = weir(up, server={"drain": {"shutdown": "1s"}})
    client = w.client()
    client.send(request(fields=["Connection: Upgrade", "Upgrade: raw"]))
    server = up.accept()
    server.read_request()
    server.send(SWITCHING.replace(b"websocket", b"raw"))
    client.read_response_head()
    w.signal()
    assert client.read_to_end() == b""
    assert server.read_to_end() == b""
    assert w.await_exit() == 0


def test_a_reload_leaves_them_until_shortly_before_their_time(weir, up):
    w = weir(up, server={"drain": {"shutdown": "3s", "reload": "4s"}})
    client, server = opened(w, up)
    old = w.gateway
    start = time.monotonic()
    w.signal(signal.SIGHUP)
    wait_for("another gateway serves", lambda: w.log().count(" serves (generation") == 2)
    assert w.gateway != old
    server.send(b"\x81\x01x")
    assert client.read_exactly(3) == b"\x81\x01x"
    assert client.read_exactly(4) == CLOSE
    assert time.monotonic() - start >= 2.9
    assert read_masked_close(server) == GOING_AWAY
    server.close()
    client.close()
    wait_for("the old gateway ends", lambda: old not in w.gateways())
    assert "breaking off" not in w.log()


def test_over_http2_too(weir, up):
    w = weir(up, listener={"protocol": "http2"}, server={"drain": {"shutdown": "10s"}})
    with Http2Client(w.port) as client:
        sid = client.ask(
            head=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
                  (":authority", "weir.test"), (":path", "/ws")],
            fields=[("sec-websocket-version", "13")], end=False,
        )  # fmt: skip
        server = up.accept()
        server.read_request_head()
        server.send(SWITCHING, b"\x81\x05he")
        client.send(sid, b"\x81\x81maskx")
        assert server.read_exactly(7) == b"\x81\x81maskx"
        client.await_("the tunnel", lambda: client.streams[sid].body == b"\x81\x05he")
        w.signal()
        assert read_masked_close(server) == GOING_AWAY
        server.send(b"llo", b"\x81\x01x", CLOSE)
        client.send(sid, MASKED_CLOSE)
        assert bytes(client.response(sid).body) == b"\x81\x05hello" + CLOSE
        server.close()
        assert w.await_exit() == 0


def test_connections_end_once_both_sides_have_answered(weir, up):
    """Some clients take an end that comes with the Close frame for a break, and see 1006."""
    w = weir(up, server={"drain": {"shutdown": "10s"}})
    client, server = opened(w, up)
    w.signal()
    assert client.read_exactly(4) == CLOSE
    assert read_masked_close(server) == GOING_AWAY
    assert client.is_quiet(0.2) and server.is_quiet(0.2)
    client.send(b"\x81\x82maskab", MASKED_CLOSE)
    assert client.is_quiet(0.2) and server.is_quiet(0.2)
    server.send(b"\x81\x01x", CLOSE)
    client.expect_end()
    server.expect_end()
    client.close()
    server.close()
    assert w.await_exit() == 0


def test_nothing_follows_a_close_frame_that_was_under_way(weir, up):
    """The server is told while its own Close frame is half out: the client gets that one only."""
    w = weir(up, server={"drain": {"shutdown": "10s"}})
    client, server = opened(w, up)
    server.send(b"\x88")
    assert client.read_exactly(1) == b"\x88"
    w.signal()
    assert read_masked_close(server) == GOING_AWAY
    server.send(b"\x02\x03\xe8")
    assert client.read_exactly(3) == b"\x02\x03\xe8"
    client.send(b"\x88\x82\0\0\0\0\x03\xe8")
    server.expect_end()
    server.close()
    client.expect_end()
    client.close()
    assert w.await_exit() == 0


def test_an_answer_is_not_waited_for_much_longer(weir, up):
    w = weir(up, server={"drain": {"shutdown": "30s"}})
    client, server = opened(w, up)
    start = time.monotonic()
    w.signal()
    assert client.read_to_end() == CLOSE
    assert len(server.read_to_end()) == 8
    assert time.monotonic() - start < scaled(10)
    client.close()
    server.close()
    assert w.await_exit() == 0


@pytest.mark.threads
def test_a_busy_one_is_told_between_two_messages(weir, ws_serve, loop):
    """Both directions full of large messages, so that hardly a read ends where a frame does."""

    async def flood(socket, path=None):
        async def send():
            while True:
                await socket.send(b"x" * 100_000)
                await asyncio.sleep(0)

        sending = asyncio.ensure_future(send())
        try:
            async for _ in socket:
                pass
        finally:
            sending.cancel()

    w = weir(ws_serve(flood, max_size=None), server={"drain": {"shutdown": "10s"}})

    async def client():
        got = 0
        async with websockets.connect(f"ws://127.0.0.1:{w.port}/ws", max_size=None) as socket:
            try:
                while True:
                    await socket.send(b"y" * 70_000)
                    assert len(await socket.recv()) == 100_000
                    got += 1
                    if got == 30:
                        w.signal()
            except websockets.ConnectionClosed as closed:
                return got, closed.rcvd.code if closed.rcvd else None

    got, code = loop.run(client())
    assert got >= 30 and code == 1001
    assert w.await_exit() == 0
