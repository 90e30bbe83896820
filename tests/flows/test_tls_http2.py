"""HTTP/2 and gRPC over TLS: the codec that ALPN picks, on both sides."""

import json
import subprocess
from concurrent import futures

import grpc
import pytest
from harness.certs import Authority, openssl, over_tls, secure_client
from harness.env import scaled, wait_for
from harness.upstream import answering
from harness.wire import request, response

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.a = authority.issue("a", "a.test")
    authority.up = authority.issue("up", "up.test", "IP:127.0.0.1")
    return authority


@pytest.fixture
def fields(serve):
    def answer(message):
        return response(body=json.dumps([[n.lower(), v] for n, v in message.fields]))

    return serve(answering(answer))


def start(weir, ca, upstream, protocol, **options):
    tls = {"cert": str(ca.a[0]), "key": str(ca.a[1])}
    return weir(upstream, listener={"protocol": protocol, "tls": tls}, **options)


def curl(w, ca, *options):
    """(HTTP version, exit status, output)"""
    done = subprocess.run(
        ["curl", "-s", "-S", "--noproxy", "*", "--cacert", str(ca.crt), "--resolve", f"a.test:{w.port}:127.0.0.1",
         "-w", "\n%{http_version}", *options, f"https://a.test:{w.port}/x"],
        capture_output=True, text=True, timeout=scaled(20))
    body, _, version = done.stdout.rpartition("\n")
    return version, done.returncode, body


@pytest.mark.parametrize(
    "protocol,asks,gets",
    [("auto", "--http2", "2"), ("auto", "--http1.1", "1.1"), ("auto", "--no-alpn", "1.1"), ("http2", "--http2", "2"),
     ("http1", "--http2", "1.1")],
)
def test_the_protocol_is_agreed_on(weir, ca, fields, protocol, asks, gets):
    w = start(weir, ca, fields, protocol)
    version, status, body = curl(w, ca, asks)
    assert (version, status) == (gets, 0)
    assert ["x-forwarded-proto", "https"] in json.loads(body)


def test_a_client_that_cannot_speak_it_is_told_in_the_handshake(weir, ca, fields):
    w = start(weir, ca, fields, "http2")
    done = openssl("s_client", "-connect", f"127.0.0.1:{w.port}", "-alpn", "http/1.1", check=False)
    assert b"no application protocol" in done.stderr + done.stdout
    wait_for("it is gone", lambda: w.metrics().sum("weir_fds", **{"class": "client"}) == 0)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda message, context: message)


@pytest.fixture
def secure_server(ca):
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Echo(),))
    cert, key = (open(path, "rb").read() for path in ca.up)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def channel_to(w, ca):
    credentials = grpc.ssl_channel_credentials(open(ca.crt, "rb").read())
    return grpc.secure_channel(f"127.0.0.1:{w.port}", credentials, options=[
        ("grpc.ssl_target_name_override", "a.test"), ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.threads
def test_grpc_over_tls_on_both_sides(weir, ca, secure_server):
    w = start(weir, ca, secure_server, "http2",
              pipeline={"protocol": "http2", "tls": {"ca": str(ca.crt), "server_name": "up.test"}})
    with channel_to(w, ca) as channel:
        for size in (0, 1, 16384 - 5, 16384, 1_000_000):
            message = bytes(size)
            assert channel.unary_unary("/s/M")(message, timeout=scaled(10)) == message
    w.await_metric("weir_grpc_requests_total", 5, grpc_status="OK")


def test_an_upstream_without_http2_is_unavailable(weir, ca, serve):
    """It does TLS, but agrees on nothing: HTTP/2 is not tried on it."""
    upstream = serve(over_tls(ca.server(ca.up), answering()))
    w = start(weir, ca, upstream, "http2",
              pipeline={"protocol": "http2", "tls": {"ca": str(ca.crt), "server_name": "up.test"}})
    with channel_to(w, ca) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/s/M")(b"x", timeout=scaled(10))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "no TLS with the upstream" in caught.value.details()
    wait_for("it is logged", lambda: "does not agree on HTTP/2 by ALPN" in w.log())


def test_http1_clients_reach_an_http2_upstream_over_tls(weir, ca, secure_server):
    w = start(weir, ca, secure_server, "http1",
              pipeline={"protocol": "http2", "tls": {"ca": str(ca.crt), "server_name": "up.test"}})
    with secure_client(w, ca.client()) as client:
        client.send(request("POST", "/s/M", fields=["Content-Type: application/grpc", "TE: trailers", "Connection: te"],
                            body=b"\0\0\0\0\x01x"))
        answer = client.read_response()
    assert answer.status == 200
    assert answer.body == b"\0\0\0\0\x01x"
    assert answer.trailers.get("grpc-status") == "0"
