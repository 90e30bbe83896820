"""Content for handlers that want to see it: collected up to a limit, charged to a budget, sent on
untouched; of a gRPC call the first message."""

import base64
import struct
import threading

import grpc
import pytest
from harness.env import scaled, wait_for
from harness.grpc_echo import Service
from harness.handlers import do, handler, problem, start
from harness.http2 import Http2Client
from harness.upstream import answering
from harness.wire import chunked, request, response

HTTP2 = {"protocol": "http2"}


def calls(w, outcome, name="a"):
    return w.metrics().sum("weir_handler_calls_total", handler=name, outcome=outcome)


# Content.


def test_a_handler_sees_the_content_and_it_goes_on_untouched(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(plugin="puppet_body"))
    for body in (b"hello", b"", b"x" * 64, bytes(range(256)) * 1000):
        upstream.requests.clear()
        data = request("POST", fields=[do("show"), f"Content-Length: {len(body)}"], body=body)
        assert w.exchange(data).status == 200
        seen = upstream.requests[0]
        assert seen.body == body and seen.fields.get("x-saw-body") == f"body {len(body)}"
        if len(body) <= 64 and body:
            assert seen.fields.get("x-saw-content") == body.decode()
    upstream.requests.clear()
    assert w.exchange(request("POST", fields=[do("show"), "Transfer-Encoding: chunked"],
                              body=chunked(b"he", b"llo", trailers=["x-t: 1"]))).status == 200
    seen = upstream.requests[0]
    assert seen.fields.get("x-saw-content") == "hello" and seen.trailers.get("x-t") == "1"
    upstream.requests.clear()
    assert w.exchange(request(fields=[do("show")])).status == 200
    assert upstream.requests[0].fields.get("x-saw-body") == "0"


def test_content_that_comes_slowly_is_waited_for(weir, listen):
    up = listen()
    w = start(weir, up, handler(plugin="puppet_body"))
    with w.client() as client:
        client.send(request("POST", fields=[do("show"), "Content-Length: 6"]))
        client.send(b"abc")
        assert not up.has_connection(0.2)
        client.send(b"def")
        wire = up.accept()
        seen = wire.read_request()
        assert seen.body == b"abcdef" and seen.fields.get("x-saw-content") == "abcdef"
        wire.send(response(body=b"ok"))
        assert client.read_response().status == 200


def test_content_beyond_a_window_is_collected_and_sent_on(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(plugin="puppet_body", body_max="2MiB"))
    body = bytes(range(256)) * 8192
    assert w.exchange(request("POST", fields=[do("show")], body=body)).status == 200
    assert upstream.requests[0].body == body
    assert upstream.requests[0].fields.get("x-saw-body") == f"body {len(body)}"
    with Http2Client(start(weir, upstream, handler(plugin="puppet_body", body_max="2MiB"),
                           listener=HTTP2).port) as client:
        upstream.requests.clear()
        sid = client.ask("POST", "/", [("x-do-a", "show")], body)
        assert client.response(sid).status == 200
    assert upstream.requests[0].body == body
    assert upstream.requests[0].fields.get("x-saw-body") == f"body {len(body)}"


def test_the_end_of_the_limit_is_413_or_truncated(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(plugin="puppet_body", body_max=1000))
    for n, status in ((1000, 200), (1001, 413)):
        body = b"x" * n
        for fields, data in (([], body), (["Transfer-Encoding: chunked"], chunked(body))):
            reply = w.exchange(request("POST", fields=[do("show"), *fields], body=data))
            assert reply.status == status
    said = problem(reply)
    assert said["type"] == "urn:weir:content_large" and said["handler"] == "a"
    assert len(upstream.requests) == 2
    w.await_metric("weir_rejected_total", 2, reason="content_large")
    w = start(weir, upstream, handler(plugin="puppet_cut", body_max=1000))
    for n, seen in ((1000, "body 1000"), (1001, "body cut 1000"), (500000, "body cut 1000")):
        body = bytes(i % 251 for i in range(n))
        for fields, data in (([], body), (["Transfer-Encoding: chunked"], chunked(body))):
            upstream.requests.clear()
            assert w.exchange(request("POST", fields=[do("show"), *fields], body=data)).status == 200
            assert upstream.requests[0].body == body
            assert upstream.requests[0].fields.get("x-saw-body") == seen


def test_a_length_beyond_the_limit_is_refused_before_any_of_it(weir, serve):
    w = start(weir, serve(), handler(plugin="puppet_body", body_max=1000))
    with w.client() as client:
        client.send(request("POST", fields=["Content-Length: 1001", "Expect: 100-continue"]))
        assert client.read_response().status == 413


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_weir_asks_for_the_content_itself(weir, serve, version):
    upstream = serve()
    w = start(weir, upstream, handler(plugin="puppet_body"), listener=HTTP2 if version == "2" else None)
    if version == "2":
        with Http2Client(w.port) as client:
            sid = client.ask("POST", "/", [("x-do-a", "show"), ("expect", "100-continue")], end=False)
            client.await_("100", lambda: client.streams[sid].informational)
            assert upstream.accepted == 0
            client.send(sid, b"content", end=True)
            assert client.response(sid).status == 200
    else:
        with w.client() as client:
            client.send(request("POST", fields=[do("show"), "Content-Length: 7", "Expect: 100-continue"]))
            assert client.read_response_head().status == 100
            assert upstream.accepted == 0
            client.send(b"content")
            assert client.read_response().status == 200
    seen = upstream.requests[0]
    assert seen.body == b"content" and seen.fields.get("x-saw-content") == "content"
    assert "expect" not in seen.fields


def test_who_sends_at_once_is_told_nothing(weir, serve):
    w = start(weir, serve(), handler(plugin="puppet_body"))
    reply = w.exchange(request("POST", fields=[do("show"), "Expect: 100-continue"], body=b"content"))
    assert reply.status == 200


def test_a_handler_that_answers_first_needs_no_content(weir, serve):
    """The one in front of it decides before any content is asked for."""
    w = start(weir, serve(), handler("a"), handler("b", "puppet_body"))
    with w.client() as client:
        client.send(request("POST", fields=[do("refuse 403 no"), "Content-Length: 10", "Expect: 100-continue"]))
        assert client.read_response().status == 403


def test_all_collected_content_together_has_a_limit(weir, listen):
    up = listen()
    w = start(weir, up, handler(plugin="puppet_body", body_max="1MiB"), server={"handler_memory": "1MiB"})
    part = b"x" * 700000
    with w.client() as first, w.client() as second:
        first.send(request("POST", fields=["Content-Length: 800000"]) + part)
        wait_for("it is charged", lambda: w.metrics().sum("weir_handler_memory_bytes") >= len(part))
        second.send(request("POST", fields=["Content-Length: 700000"]) + part)
        reply = second.read_response()
        assert reply.status == 503 and problem(reply)["type"] == "urn:weir:handler_memory"
        first.send(b"x" * 100000)
        wire = up.accept()
        assert len(wire.read_request().body) == 800000
        wire.send(response(body=b"ok"))
        assert first.read_response().status == 200
    w.await_metric("weir_handler_memory_bytes", 0)
    assert w.metrics().sum("weir_handler_memory_limit_bytes") == 1 << 20


@pytest.mark.threads
def test_many_clients_get_each_their_own(weir, serve):
    """Through two handlers on four workers, from two loops, both ways: nobody sees what is another's."""
    upstream = serve(answering(lambda message: response(body=message.body, fields=[
        f"X-Echo: {message.fields.get('x-saw-content')} {message.fields.get('x-var')}"])))
    w = start(weir, upstream, handler("a", "puppet_body"), handler("b"), server={"handler_threads": 4})
    failures = []

    def ask(number):
        with w.client() as client:
            for i in range(25):
                name = f"{number}-{i}"
                client.send(request("POST", fields=[do("show", f"var who {name}"), do("see who", tag="b"),
                                                    do(f"add x-own {name}", tag="b-response")], body=name))
                reply = client.read_response()
                if (reply.status, reply.body.decode(), reply.fields.get("x-echo"), reply.fields.get("x-own")) != (
                        200, name, f"{name} {name}", name):
                    failures.append((name, reply))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    w.await_metric("weir_handler_calls_total", 8 * 25 * 4, outcome="continue")
    w.await_metric("weir_handler_memory_bytes", 0)


def test_the_client_may_leave_while_content_is_collected(weir, serve):
    w = start(weir, serve(), handler(plugin="puppet_body"))
    client = w.client()
    client.send(request("POST", fields=["Content-Length: 10"]) + b"abc")
    w.await_metric("weir_exchanges_active", 1)
    client.close()
    w.await_metric("weir_exchanges_active", 0)
    w.await_metric("weir_handler_memory_bytes", 0)
    assert calls(w, "continue") == 0


def test_content_that_does_not_come_is_a_timeout(weir, serve):
    w = start(weir, serve(), handler(plugin="puppet_body"), listener={"timeouts": {"body": "200ms"}})
    with w.client() as client:
        client.send(request("POST", fields=["Content-Length: 10"]) + b"abc")
        assert client.read_response().status == 408
    w = start(weir, serve(), handler(plugin="puppet_body"), route={"deadline": "200ms"})
    with w.client() as client:
        client.send(request("POST", fields=["Content-Length: 10"]) + b"abc")
        assert client.read_response().status == 504


def test_content_that_is_broken_is_an_error(weir, serve):
    upstream = serve()
    w = start(weir, upstream, handler(plugin="puppet_body"))
    reply = w.exchange(request("POST", fields=["Transfer-Encoding: chunked"]) + b"3\r\nabc\r\nzz\r\n")
    assert reply.status == 400 and upstream.accepted == 0


# gRPC.


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


def grpc_start(weir, service, *handlers, **more):
    return start(weir, service, *handlers, listener=HTTP2, pipeline=HTTP2, **more)


def call(w, message=b"hi", *commands, compression=None):
    metadata = (("x-do-a", "|".join(commands)),) if commands else ()
    with grpc.insecure_channel(f"127.0.0.1:{w.port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        return channel.unary_unary("/weir.test.Echo/Echo").with_call(
            message, timeout=scaled(10), metadata=metadata, compression=compression)


def failure(*args, **more):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **more)
    return caught.value


def test_a_grpc_call_shows_its_first_message(weir, service):
    w = grpc_start(weir, service, handler(plugin="puppet_body"))
    reply, done = call(w, b"hello", "show")
    assert reply == b"hello" and done.code() == grpc.StatusCode.OK
    assert service.seen["x-saw-body"] == "grpc body 5" and service.seen["x-saw-content"] == "hello"
    assert "x-response-call" in dict(done.initial_metadata())
    big = bytes(500000)
    assert call(w, big, "show")[0] == big
    assert service.seen["x-saw-body"] == "grpc body 500000"
    assert call(w, b"", "show")[0] == b""
    assert service.seen["x-saw-body"] == "grpc body 0"


def test_a_grpc_stream_goes_on_behind_its_first_message(weir, service):
    w = grpc_start(weir, service, handler(plugin="puppet_body"))
    go = threading.Event()

    def messages():
        yield b"one"
        go.wait(scaled(10))
        yield b"two"

    with grpc.insecure_channel(f"127.0.0.1:{w.port}") as channel:
        replies = channel.stream_stream("/weir.test.Echo/Talk")(messages(), timeout=scaled(10),
                                                                metadata=(("x-do-a", "show"),))
        assert next(replies) == b"one"
        go.set()
        assert list(replies) == [b"two"]
    assert service.seen["x-saw-content"] == "one"
    w.await_metric("weir_handler_memory_bytes", 0)


def test_grpc_refusals_and_answers_are_trailers(weir, service):
    w = grpc_start(weir, service)
    told = failure(w, b"", "field x-more yes", "refuse 401 who are you")
    assert told.code() == grpc.StatusCode.UNAUTHENTICATED
    assert told.details() == "weir: who are you (handler 'a'); ask \"otherwise\""
    assert dict(told.trailing_metadata())["x-more"] == "yes"
    told = failure(w, b"", "field retry-after 7", "respond 429 slower, please")
    assert told.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and told.details() == "slower, please"
    assert dict(told.trailing_metadata())["retry-after"] == "7"
    assert failure(w, b"", "refuse 403 no").code() == grpc.StatusCode.PERMISSION_DENIED
    line = w.await_access(1)[0]
    assert line["grpc_status"] == "UNAUTHENTICATED" and line["handler"] == "a"
    w.await_metric("weir_grpc_requests_total", 1, grpc_status="RESOURCE_EXHAUSTED")


def test_a_large_or_compressed_message_is_refused(weir, service):
    w = grpc_start(weir, service, handler(plugin="puppet_body", body_max=1000))
    assert call(w, bytes(1000))[0] == bytes(1000)
    told = failure(w, bytes(1001))
    assert told.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "handler 'a'" in told.details()
    told = failure(w, bytes(900), compression=grpc.Compression.Gzip)
    assert told.code() == grpc.StatusCode.UNIMPLEMENTED and "uncompressed" in told.details()
    w = grpc_start(weir, service, handler(plugin="puppet_cut", body_max=1000))
    assert call(w, bytes(5000), "show")[0] == bytes(5000)
    assert service.seen["x-saw-body"] == "grpc body cut 1000"


def frame(message):
    return struct.pack("!BI", 0, len(message)) + message


@pytest.mark.parametrize("kind, code", [("application/grpc-web", bytes), ("application/grpc-web-text",
                                                                          base64.b64encode)])
def test_a_grpc_web_call(weir, service, kind, code):
    w = start(weir, service, handler(plugin="puppet_body"), pipeline=HTTP2, route={"grpc_web": True})
    reply = w.exchange(request("POST", "/weir.test.Echo/Echo", [f"content-type: {kind}", do("show")],
                               code(frame(b"hello"))))
    assert reply.status == 200 and service.seen["x-saw-content"] == "hello"
    assert service.seen["x-saw-body"] == "grpc body 5"
    reply = w.exchange(request("POST", "/weir.test.Echo/Echo", [f"content-type: {kind}", do("refuse 403 no")],
                               code(frame(b"hello"))))
    assert reply.status == 200 and reply.fields.get("grpc-status") == "7"
    assert reply.fields.get("content-type").startswith(kind)
    # It may take away what says that it is one: that breaks the call, and nothing else.
    w.exchange(request("POST", "/weir.test.Echo/Echo", [f"content-type: {kind}", do("remove content-type"),
                                                        do("remove content-type", tag="a-response")],
                       code(frame(b"hello"))))
    assert w.exchange(request("POST", "/weir.test.Echo/Echo", [f"content-type: {kind}"],
                              code(frame(b"hello")))).status == 200
