"""What an upstream may not send. The client gets a 502 that says why, or content that is visibly
cut off; never a message that was put together from two, and nothing of a connection whose framing
is lost is used again."""

import pytest
from harness.env import wait_for
from harness.replies import expect_problem
from harness.wire import chunked, request, response

HEAD_MAX, FIELDS_MAX, INFORMATIONAL_MAX = 8192, 40, 5


class Back:
    """A weir with one loop, so that a connection that could be used again would be."""

    def __init__(self, weir, up):
        self.weir, self.up = weir, up

    def start(self, method="GET", fields=(), body=b""):
        """A request that has reached the upstream: the client's wire, and the upstream's."""
        client = self.weir.client()
        client.send(request(method, fields=fields, body=body))
        server = self.up.accept()
        server.read_request()
        return client, server

    def bad(self, data, *, close=False, method="GET"):
        """@data instead of a sound head: 502, and the connection is dropped."""
        client, server = self.start(method)
        server.try_send(data)
        if close:
            server.close()
        answer = client.read_response(method)
        problem = None
        if method != "HEAD":
            problem = expect_problem(answer, 502, pipeline="up")
        if not close:
            server.expect_gone()
        self.works(client if "close" not in answer.fields.list("connection") else None)
        return answer, problem

    def cut(self, data, *, close=True):
        """A sound head, then @data that does not hold what it promised: cut off for the client."""
        client, server = self.start()
        server.try_send(data)
        if close:
            server.close()
        seen = client.read_abort()
        if not close:
            server.expect_gone()
        self.works()
        return seen

    def works(self, client=None):
        """The next request gets a connection of its own, and its own answer."""
        client = client or self.weir.client()
        client.send(request(target="/next"))
        server = self.up.accept()
        assert server.read_request().target == "/next"
        server.send(response(fields=["Connection: close"], body=b"next"))
        answer = client.read_response()
        assert (answer.status, answer.body) == (200, b"next")
        client.close()


@pytest.fixture(scope="module")
def shared_back(module_weir):
    from harness.upstream import Listener

    up = Listener()
    weir = module_weir(
        up,
        threads=1,
        pipeline={
            "limits": {"head": HEAD_MAX, "fields": FIELDS_MAX, "informational": INFORMATIONAL_MAX},
            "deadline": "20s",
            "retry": {"attempts": 1},
        },
    )
    yield Back(weir, up)
    up.close()


@pytest.fixture
def back(shared_back):
    while shared_back.up.has_connection():
        shared_back.up.accept().close()
    yield shared_back
    while shared_back.weir.clients:
        shared_back.weir.clients.pop().close()
    while shared_back.up.wires:
        shared_back.up.wires.pop().close()


OK = b"Content-Length: 2\r\n\r\nok"

HEADS = {
    "no number": b"HTTP/1.1 abc OK\r\n" + OK,
    "two digits": b"HTTP/1.1 20 OK\r\n" + OK,
    "four digits": b"HTTP/1.1 2000 OK\r\n" + OK,
    "a status below 100": b"HTTP/1.1 099 Low\r\n" + OK,
    "no version": b"200 OK\r\n" + OK,
    "another protocol": b"HTTX/1.1 200 OK\r\n" + OK,
    "ICY": b"ICY 200 OK\r\n" + OK,
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n" + OK,
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
    "frames of HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\r\n\r\n",
    "NULs": b"\x00" * 100 + b"\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "bare CR": b"HTTP/1.1 200 OK\r\nX-A: 1\rX-B: 2\r\n" + OK,
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\n" + OK,
    "control character in a value": b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\n" + OK,
    "control character in the reason": b"HTTP/1.1 200 O\x01K\r\n" + OK,
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n" + OK,
    "no name": b"HTTP/1.1 200 OK\r\n: x\r\n" + OK,
    "a name that is no token": b"HTTP/1.1 200 OK\r\nX(A: 1\r\n" + OK,
    "a fold": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\n" + OK,
}


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS.keys())
def test_a_head_gives_502(back, data):
    back.bad(data)


def test_a_space_before_a_colon_is_never_passed_on(back):
    """RFC 9112 5.1 lets a proxy repair this in responses; weir may as well refuse."""
    client, server = back.start()
    server.send(b"HTTP/1.1 200 OK\r\nX-A : 1\r\n" + OK)
    answer = client.read_response()
    assert answer.status == 502 or answer.fields.get("x-a") == "1"


FRAMINGS = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "two lengths in a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    "length and coding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "length beyond 63 bits": b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
    "empty length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
    "chunked twice": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "a coding nobody knows": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: magic, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked not last": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nok",
    "a coding on HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", FRAMINGS.values(), ids=FRAMINGS.keys())
def test_a_framing_gives_502(back, data):
    back.bad(data)


def test_a_giant_head_gives_502(back):
    back.bad(b"HTTP/1.1 200 OK\r\n" + b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 2000)


def test_a_line_without_end_gives_502(back):
    back.bad(b"HTTP/1.1 200 " + b"x" * (HEAD_MAX * 4))


def test_too_many_fields_give_502(back):
    back.bad(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(FIELDS_MAX + 1)) + OK)


def test_endless_1xx_give_502(back):
    client, server = back.start()
    for _ in range(INFORMATIONAL_MAX + 5):
        server.try_send(b"HTTP/1.1 102 Processing\r\n\r\n")
    answer = client.read_response(skip_informational=True)
    expect_problem(answer, 502, pipeline="up")
    server.expect_gone()


def test_a_switch_that_nobody_asked_for_gives_502(back):
    back.bad(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")


def test_an_end_before_the_head_gives_502(back):
    answer, problem = back.bad(b"", close=True)
    assert answer.fields.get("proxy-status")


def test_an_end_inside_the_head_gives_502(back):
    back.bad(b"HTTP/1.1 200 OK\r\nContent-Le", close=True)


def test_an_end_inside_a_1xx_gives_502(back):
    back.bad(b"HTTP/1.1 103 Early Hints\r\nLin", close=True)


def test_a_reset_before_the_head_gives_502(back):
    client, server = back.start()
    server.reset()
    expect_problem(client.read_response(), 502, pipeline="up")
    back.works()


def test_the_detail_says_what_was_wrong(back):
    _, problem = back.bad(FRAMINGS["two lengths"])
    assert "content-length" in problem["detail"].lower()


# Content that does not hold what the head promised.


def test_content_shorter_than_its_length_is_cut_off(back):
    seen = back.cut(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    assert seen.startswith(b"HTTP/1.1 200") and b"ontent-" in seen
    assert seen.endswith(b"hello")


def test_chunked_content_without_its_last_chunk_is_cut_off(back):
    seen = back.cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert seen.startswith(b"HTTP/1.1 200") and b"hello" in seen
    assert not seen.endswith(b"0\r\n\r\n"), "what was cut off must not look whole"


def test_an_end_inside_a_chunk_is_cut_off(back):
    seen = back.cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello")
    assert not seen.endswith(b"0\r\n\r\n")


def test_an_end_inside_the_trailers_is_cut_off(back):
    seen = back.cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: ")
    assert not seen.endswith(b"\r\n\r\n") or b"\r\n0\r\n" not in seen


def test_a_reset_inside_content_is_cut_off(back):
    client, server = back.start()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.read_response_head()
    assert client.read_chunk() == b"hello"
    server.reset()
    assert b"0\r\n\r\n" not in client.read_abort()
    back.works()


def test_a_reset_inside_content_delimited_by_close_is_cut_off(back):
    client, server = back.start()
    server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    client.read_response_head()
    assert client.read_chunk() == b"hello"
    server.reset()
    assert b"0\r\n\r\n" not in client.read_abort()


CHUNKS = {
    "no number": b"xyz\r\nabc\r\n",
    "space behind": b"3 \r\nabc\r\n",
    "0x": b"0x3\r\nabc\r\n",
    "too long": b"fffffffffffffffff\r\nabc\r\n",
    "bare LF behind the size": b"3\nabc\r\n",
    "bare LF behind the data": b"3\r\nabc\n",
    "no end of the data": b"3\r\nabcd\r\n",
    "a bad trailer": b"3\r\nabc\r\n0\r\nX(: 1\r\n\r\n",
    "a folded trailer": b"3\r\nabc\r\n0\r\nX: 1\r\n 2\r\n\r\n",
    "a bare LF in the trailers": b"3\r\nabc\r\n0\r\nX: 1\n\r\n",
}


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS.keys())
def test_chunks_are_cut_off(back, data):
    client, server = back.start()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.read_response_head()
    assert client.read_chunk() == b"hello"
    server.try_send(data)
    seen = client.read_abort()
    assert not seen.endswith(b"0\r\n\r\n"), f"looks whole: {seen!r}"
    server.expect_gone()
    back.works()


def test_giant_trailers_are_cut_off(back):
    client, server = back.start()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
    client.read_response_head()
    assert client.read_chunk() == b"hello"
    server.try_send(b"X-T: " + b"x" * 100000 + b"\r\n\r\n")
    assert not client.read_abort().endswith(b"\r\n\r\n")
    back.works()


# Bytes that belong to nothing.


def test_bytes_behind_a_response_are_given_to_nobody(back):
    client, server = back.start()
    server.send(response(body=b"mine"), response(body=b"nobody's"))
    assert client.read_response().body == b"mine"
    server.expect_gone()
    back.works(client)


def test_bytes_behind_a_response_do_not_answer_a_pipelined_request(back):
    client = back.weir.client()
    client.send(request(target="/1"), request(target="/2"))
    server = back.up.accept()
    assert server.read_request().target == "/1"
    server.send(response(body=b"1") + response(body=b"smuggled"))
    assert client.read_response().body == b"1"
    second = back.up.accept()
    assert second.read_request().target == "/2"
    second.send(response(fields=["Connection: close"], body=b"2"))
    assert client.read_response().body == b"2"


def test_bytes_behind_chunked_content_are_given_to_nobody(back):
    client, server = back.start()
    server.send(response(fields=["Transfer-Encoding: chunked"]), chunked("mine"), b"HTTP/1.1 200 OK\r\n\r\n")
    assert client.read_response().body == b"mine"
    server.expect_gone()
    back.works(client)


@pytest.mark.parametrize("status", [204, 304])
def test_content_behind_a_status_without_content_is_given_to_nobody(back, status):
    client, server = back.start()
    server.send(f"HTTP/1.1 {status} None\r\n\r\n", response(body=b"smuggled"))
    assert client.read_response().status == status
    server.expect_gone()
    back.works(client)


def test_content_behind_the_answer_to_head_is_given_to_nobody(back):
    client, server = back.start("HEAD")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert client.read_response("HEAD").length == 5
    server.expect_gone()
    back.works(client)


def test_bytes_on_an_idle_connection_end_it(back):
    client, server = back.start()
    server.send(response(body=b"mine"))
    assert client.read_response().body == b"mine"
    server.send(response(408, reason="Request Timeout", body=b"unasked"))
    server.expect_gone()
    back.works(client)


def test_bytes_that_arrive_just_before_the_next_request_are_not_its_answer(back):
    """The poisoned keepalive: what came before the request went out cannot answer it."""
    for _ in range(20):
        client, server = back.start()
        server.send(response(body=b"mine"))
        assert client.read_response().body == b"mine"
        server.send(response(body=b"poison"))
        client.send(request(target="/next"))
        if not back.up.has_connection(0.5):
            # Already written to the old connection: then it fails, visibly.
            answer = client.read_response()
            assert answer.body != b"poison", "a response from before the request"
            assert answer.status == 502
            continue
        second = back.up.accept()
        assert second.read_request().target == "/next"
        second.send(response(fields=["Connection: close"], body=b"next"))
        assert client.read_response().body == b"next"
        client.close()
        server.close()


def test_an_answer_before_the_request_is_nobodys(back):
    """Some servers talk first."""
    client = back.weir.client()
    client.send(request("POST", fields=["Content-Length: 10"], body=b"12345"))
    server = back.up.accept()
    server.send(response(503, ["Connection: close"], b"go away", reason="Busy"))
    server.close()
    answer = client.read_response()
    assert answer.status in (502, 503)


def test_the_connection_is_closed_when_the_answer_ends_before_the_content(back):
    client = back.weir.client()
    client.send(request("POST", fields=["Content-Length: 10"]), b"12345")
    server = back.up.accept()
    server.read_request_head()
    assert server.read_exactly(5) == b"12345"
    server.send(response(200, body=b"enough"))
    assert client.read_response().body == b"enough"
    client.try_send(b"67890", request(target="/next"))
    server.read_abort()  # it may get the rest; it does not get the next request
    assert b"/next" not in server.received


def test_failures_of_the_upstream_are_counted(back):
    before = back.weir.metrics().sum("weir_requests_total", code="502")
    back.bad(HEADS["SSH"])
    wait_for(
        "the 502 is counted",
        lambda: back.weir.metrics().sum("weir_requests_total", code="502") == before + 1,
    )
