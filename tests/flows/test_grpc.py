"""gRPC through weir, HTTP/2 on both sides, with python3-grpcio as client and server: what the interop
cases (test_grpc_interop.py) leave out, directly and through weir, with the same outcome."""

import threading
import time
from concurrent import futures

import grpc
import pytest
from h2.errors import ErrorCodes

from harness.env import scaled
from harness.h2_upstream import H2Server

pytestmark = pytest.mark.timeout(120)

SERVICE = "weir.test.Echo"


class Service(grpc.GenericRpcHandler):
    """Messages are plain bytes. What a method does is in its name."""

    def __init__(self):
        self.metadata = None

    def service(self, details):
        name = details.method.rpartition("/")[2]
        self.metadata = list(details.invocation_metadata)
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Quit": grpc.unary_stream_rpc_method_handler(self.quit),
        }
        return kinds.get(name)

    def unary(self, message, context):
        context.send_initial_metadata((("x-initial", "1"), ("x-initial-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-trailing-bin", b"\x01\xfe")))
        return message

    def quit(self, message, context):
        yield from [message] * len(message)
        context.cancel()
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(30)


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


@pytest.mark.parametrize("size", [0, 1, 16379, 16380, 65530, 1 << 20])
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
        (ErrorCodes.PROTOCOL_ERROR, grpc.StatusCode.INTERNAL),
        (ErrorCodes.REFUSED_STREAM, grpc.StatusCode.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("is_begun", [False, True], ids=["at once", "after a message"])
def test_a_reset_by_the_server_means_what_its_code_says(weir, is_begun, code, status):
    gate = threading.Event()

    def serve(stream, event):
        if event == "end":
            if is_begun:
                stream.head(200, [("content-type", "application/grpc")])
                stream.data(b"\0\0\0\0\1x")
            threading.Thread(target=lambda: (gate.wait(30), stream.reset(code))).start()

    server = H2Server(serve)
    try:
        w = weir(server, listener={"protocol": "http2"}, pipeline={"protocol": "http2"})
        for target in (server.endpoint, f"127.0.0.1:{w.port}"):
            gate.clear()
            with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
                call = channel.unary_stream(method("Spread"))(b"", timeout=limit())
                assert not is_begun or next(call) == b"x"
                gate.set()
                with pytest.raises(grpc.RpcError) as failure:
                    next(call)
            assert failure.value.code() == status, target
    finally:
        server.close()
    server.check()
    w.await_metric("weir_grpc_requests_total", 1, grpc_status=status.name)


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
@pytest.mark.parametrize(
    "count, seconds",
    [pytest.param(1000, 4, id="quick"), pytest.param(10000, 30, id="long", marks=pytest.mark.soak)],
)
@pytest.mark.timeout(300)
def test_no_call_is_lost_while_the_server_ages_its_connections(weir, count, seconds):
    """The server ends connections every second, with the two-step GOAWAY of grpc. At least so many
    calls, for at least so long."""
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
            end = time.monotonic() + seconds
            while done + len(lost) < count or time.monotonic() < end:
                batch = [call.future(b"%d" % n, timeout=limit()) for n in range(50)]
                for n, each in enumerate(batch):
                    try:
                        assert each.result() == b"%d" % n
                        done += 1
                    except grpc.RpcError as failure:
                        lost.append((failure.code(), failure.details()))
    finally:
        server.stop(None).wait()
    assert not lost, (len(lost), done, lost[:5])
    assert w.metrics().sum("weir_endpoint_connects_total", result="ok") >= seconds * 3 / 4
