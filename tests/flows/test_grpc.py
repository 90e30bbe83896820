"""gRPC through weir, HTTP/2 on both sides, with python3-grpcio as client and server: each case runs
directly and through weir, with the same outcome."""

import threading
import time
from concurrent import futures

import grpc
import pytest
from h2.errors import ErrorCodes

from harness.env import scaled, wait_for
from harness.h2_upstream import H2Server

pytestmark = pytest.mark.timeout(120)

SERVICE = "weir.test.Echo"
LARGE = 271828  # bytes of large_unary, as in the interop cases


class Service(grpc.GenericRpcHandler):
    """Messages are plain bytes. What a method does is in its name."""

    def __init__(self):
        self.calls = 0
        self.cancelled = []  # times at which calls ended before their end
        self.started = threading.Event()
        self.metadata = None

    def service(self, details):
        name = details.method.rpartition("/")[2]
        self.metadata = list(details.invocation_metadata)
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Spread": grpc.unary_stream_rpc_method_handler(self.spread),
            "Quit": grpc.unary_stream_rpc_method_handler(self.quit),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }
        return kinds.get(name)

    def unary(self, message, context):
        self.calls += 1
        context.send_initial_metadata((("x-initial", "1"), ("x-initial-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-trailing-bin", b"\x01\xfe")))
        return message

    def fail(self, message, context):
        context.abort(grpc.StatusCode.OUT_OF_RANGE, message.decode())

    def sleep(self, message, context):
        over = threading.Event()
        context.add_callback(lambda: (self.cancelled.append(time.monotonic()), over.set()))
        self.started.set()
        over.wait(30)
        return b""

    def collect(self, messages, context):
        return b"%d" % sum(len(m) for m in messages)

    def spread(self, message, context):
        for part in message.split(b","):
            yield part

    def quit(self, message, context):
        yield from [message] * len(message)
        context.cancel()
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(30)

    def talk(self, messages, context):
        context.add_callback(lambda: self.cancelled.append(time.monotonic()))
        for message in messages:
            yield message[::-1]


@pytest.fixture(scope="module")
def service():
    return Service()


@pytest.fixture(scope="module")
def server(service):
    server = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def between(module_weir, server):
    return module_weir(server, listener={"protocol": "http2"}, pipeline={"protocol": "http2"})


@pytest.fixture(params=["direct", "weir"])
def channel(request, server, between):
    target = server if request.param == "direct" else f"127.0.0.1:{between.port}"
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options=options) as channel:
        yield channel


def method(name):
    return f"/{SERVICE}/{name}"


def limit():
    return scaled(10)


@pytest.mark.parametrize("size", [0, 1, LARGE])
def test_unary(channel, size):
    message = bytes(size)
    assert channel.unary_unary(method("Unary"))(message, timeout=limit()) == message


def test_metadata_text_and_binary(channel, service):
    call = channel.unary_unary(method("Unary"))
    sent = (("x-text", "value"), ("x-data-bin", b"\x00\x01\xfe\xff"))
    reply, outcome = call.with_call(b"m", metadata=sent, timeout=limit())
    assert reply == b"m"
    assert set(sent) <= set(service.metadata)
    assert {("x-initial", "1"), ("x-initial-bin", b"\x00\xff")} <= set(outcome.initial_metadata())
    assert {("x-trailing", "2"), ("x-trailing-bin", b"\x01\xfe")} <= set(outcome.trailing_metadata())


def test_client_streaming(channel):
    messages = [bytes(n) for n in (27182, 8, 1828, 45904)]
    assert channel.stream_unary(method("Collect"))(iter(messages), timeout=limit()) == b"74922"


def test_server_streaming(channel):
    parts = [b"a" * 31415, b"b" * 9, b"c" * 2653, b"d" * 58979]
    assert list(channel.unary_stream(method("Spread"))(b",".join(parts), timeout=limit())) == parts


def test_ping_pong(channel):
    """Each message is sent only when the one before is answered."""
    answered = threading.Semaphore(0)

    def messages():
        for n in range(20):
            yield b"message %d" % n
            answered.acquire(timeout=limit())

    got = []
    for reply in channel.stream_stream(method("Talk"))(messages(), timeout=limit()):
        got.append(reply[::-1])
        answered.release()
    assert got == [b"message %d" % n for n in range(20)]


def test_empty_stream(channel):
    assert list(channel.stream_stream(method("Talk"))(iter(()), timeout=limit())) == []


@pytest.mark.parametrize("text", ["plain", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"])
def test_status_and_message(channel, text):
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(method("Fail"))(text.encode(), timeout=limit())
    assert failure.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert failure.value.details() == text


def test_a_method_that_is_not_there(channel):
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(method("Nothing"))(b"", timeout=limit())
    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_ends_the_call_at_the_server_too(channel, service):
    service.cancelled.clear()
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(method("Sleep"))(b"", timeout=0.3)
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for("the server hears of it", lambda: service.cancelled)


def test_cancel_after_begin(channel, service):
    service.started.clear()
    service.cancelled.clear()
    call = channel.unary_unary(method("Sleep")).future(b"")
    assert service.started.wait(limit())
    before = time.monotonic()
    call.cancel()
    wait_for("the server hears of it", lambda: service.cancelled)
    assert service.cancelled[0] - before < scaled(0.1)


def test_cancel_after_first_response(channel, service):
    service.cancelled.clear()
    over = threading.Event()

    def messages():
        yield b"abc"
        over.wait(limit())

    call = channel.stream_stream(method("Talk"))(messages())
    assert next(call) == b"cba"
    before = time.monotonic()
    call.cancel()
    over.set()
    wait_for("the server hears of it", lambda: service.cancelled)
    assert service.cancelled[0] - before < scaled(0.1)


@pytest.mark.parametrize("message", [b"", b"1"], ids=["at once", "after a message"])
def test_a_server_that_cancels(channel, message):
    with pytest.raises(grpc.RpcError) as failure:
        list(channel.unary_stream(method("Quit"))(message, timeout=limit()))
    assert failure.value.code() == grpc.StatusCode.CANCELLED


@pytest.mark.parametrize(
    "code, status",
    [
        (ErrorCodes.CANCEL, grpc.StatusCode.CANCELLED),
        (ErrorCodes.ENHANCE_YOUR_CALM, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ErrorCodes.INTERNAL_ERROR, grpc.StatusCode.INTERNAL),
    ],
)
def test_a_reset_behind_the_first_message_has_its_code(weir, code, status):
    gate = threading.Event()

    def serve(stream, event):
        if event == "end":
            stream.head(200, [("content-type", "application/grpc")])
            stream.data(b"\0\0\0\0\1x")
            threading.Thread(target=lambda: (gate.wait(30), stream.reset(code))).start()

    server = H2Server(serve)
    try:
        w = weir(server, listener={"protocol": "http2"}, pipeline={"protocol": "http2"})
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{w.port}", options=options) as channel:
            call = channel.unary_stream(method("Spread"))(b"", timeout=limit())
            assert next(call) == b"x"
            gate.set()
            with pytest.raises(grpc.RpcError) as failure:
                next(call)
    finally:
        server.close()
    assert failure.value.code() == status
    server.check()


def test_compression_is_left_alone(channel):
    message = b"x" * 100000
    call = channel.unary_unary(method("Unary"))
    assert call(message, compression=grpc.Compression.Gzip, timeout=limit()) == message


def test_many_calls_at_once(channel):
    calls = [channel.unary_unary(method("Unary")).future(b"%d" % n, timeout=limit()) for n in range(500)]
    assert [call.result() for call in calls] == [b"%d" % n for n in range(500)]


def test_nothing_is_left(between):
    between.await_metric("weir_endpoint_streams", 0)
    between.await_metric("weir_exchanges_active", 0)


@pytest.mark.threads
def test_no_call_is_lost_while_the_server_ages_its_connections(weir):
    """The server ends connections every second, with the two-step GOAWAY of grpc."""
    service = Service()
    server = grpc.server(
        futures.ThreadPoolExecutor(32),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_connection_age_ms", 1000),
            ("grpc.max_connection_age_grace_ms", 5000),
        ],
    )
    server.add_generic_rpc_handlers((service,))
    endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    w = weir(endpoint, listener={"protocol": "http2"}, pipeline={"protocol": "http2"})
    lost = []
    done = 0
    try:
        with grpc.insecure_channel(
            f"127.0.0.1:{w.port}",
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0),
                     ("grpc.enable_retries", 0)],
        ) as channel:
            call = channel.unary_unary(method("Unary"))
            end = time.monotonic() + 4
            while time.monotonic() < end:
                batch = [call.future(b"%d" % n, timeout=limit()) for n in range(50)]
                for n, each in enumerate(batch):
                    try:
                        assert each.result() == b"%d" % n
                        done += 1
                    except grpc.RpcError as failure:
                        lost.append((failure.code(), failure.details()))
    finally:
        server.stop(None).wait()
    assert not lost, lost[:5]
    assert done > 500
    assert w.metrics().sum("weir_endpoint_connects_total", result="ok") >= 3
