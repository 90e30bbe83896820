"""What a client may not send (RFC 9112 sections 2-7, RFC 9110 5.5 and 7.2), one test per rule: the
bytes that go in, the status that comes out, the connection that ends, the upstream that hears
nothing of it."""

import threading
import time

import pytest
from harness.env import scaled, wait_for
from harness.replies import expect_problem, expect_refused
from harness.upstream import Listener
from harness.wire import chunked, request, response

HEAD_MAX, TARGET_MAX, FIELDS_MAX = 8192, 2048, 50


class Front:
    """One weir for all of these, and an upstream that must not be spoken to."""

    def __init__(self, weir, up):
        self.weir, self.up = weir, up

    def client(self, **options):
        return self.weir.client(**options)

    def refuses(self, data, *statuses):
        """@data gets an explained refusal with one of @statuses, the connection ends in good order,
        the upstream never hears of it."""
        with self.weir.client() as client:
            client.send(data)
            answer = expect_refused(client, *statuses, errors={"http_request_error"})
        assert not self.up.has_connection(), "the upstream was connected to"
        return answer

    def accepts(self, data):
        """@data goes through: what the upstream read."""
        with self.weir.client() as client:
            client.send(data)
            with self.up.accept() as server:
                got = server.read_request()
                server.send(response(fields=["Connection: close"], body=b"ok"))
                assert client.read_response().body == b"ok"
        return got


@pytest.fixture(scope="module")
def shared_front(module_weir):
    up = Listener()
    weir = module_weir(
        up,
        listener={"limits": {"head": HEAD_MAX, "target": TARGET_MAX, "fields": FIELDS_MAX}},
        routes=[{"name": "all", "listener": "http", "match": {}, "pipeline": "up"}],
    )
    yield Front(weir, up)
    up.close()


@pytest.fixture
def front(shared_front):
    """What an earlier failure may have left in the upstream's backlog is no concern of this test."""
    while shared_front.up.has_connection():
        shared_front.up.accept().close()
    yield shared_front
    while shared_front.weir.clients:
        shared_front.weir.clients.pop().close()


def head(*lines):
    """A head of exactly these lines behind a sound request line and Host."""
    return b"POST /x HTTP/1.1\r\nHost: weir.test\r\n" + b"".join(lines) + b"\r\n"


# Content-Length (RFC 9112 6.3).

CL = {
    "two that differ": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "two that agree": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "a list that differs": b"Content-Length: 5, 6\r\n",
    "a list that agrees": b"Content-Length: 5, 5\r\n",
    "plus sign": b"Content-Length: +5\r\n",
    "minus sign": b"Content-Length: -5\r\n",
    "hexadecimal": b"Content-Length: 0x5\r\n",
    "trailing letters": b"Content-Length: 5a\r\n",
    "space inside": b"Content-Length: 1 0\r\n",
    "decimal point": b"Content-Length: 5.0\r\n",
    "empty": b"Content-Length:\r\n",
    "letters": b"Content-Length: five\r\n",
    "non-ASCII digit": b"Content-Length: \xb2\r\n",
    "quoted": b'Content-Length: "5"\r\n',
    "trailing comma": b"Content-Length: 5,\r\n",
    "underscore": b"Content-Length: 1_0\r\n",
}


@pytest.mark.parametrize("lines", CL.values(), ids=CL.keys())
def test_content_length_is_refused(front, lines):
    front.refuses(head(lines) + b"hello", 400)


@pytest.mark.parametrize("digits", ["9223372036854775808", "18446744073709551621", "9" * 40])
def test_content_length_beyond_63_bits_is_refused(front, digits):
    front.refuses(head(b"Content-Length: %s\r\n" % digits.encode()) + b"hello", 400, 413)


def test_content_length_with_leading_zeros_is_the_number(front):
    assert front.accepts(head(b"Content-Length: 005\r\n") + b"hello").body == b"hello"


# Transfer-Encoding (RFC 9112 6.1, 7).

TE = {
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", {400}),
    "chunked, chunked": (b"Transfer-Encoding: chunked, chunked\r\n", {400}),
    "chunked not last": (b"Transfer-Encoding: chunked, gzip\r\n", {400, 501}),
    "not chunked at all": (b"Transfer-Encoding: gzip\r\n", {400, 501}),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked\r\n", {501}),
    "gzip and chunked in two fields": (
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        {501},
    ),
    "identity": (b"Transfer-Encoding: identity\r\n", {400, 501}),
    "unknown": (b"Transfer-Encoding: xchunked\r\n", {400, 501}),
    "unknown with a tail": (b"Transfer-Encoding: chunkedx\r\n", {400, 501}),
    "parameter": (b"Transfer-Encoding: chunked;q=1\r\n", {400, 501}),
    "quoted": (b'Transfer-Encoding: "chunked"\r\n', {400, 501}),
    "empty": (b"Transfer-Encoding:\r\n", {400, 501}),
    "vertical tab in front": (b"Transfer-Encoding: \x0bchunked\r\n", {400}),
    "NUL behind": (b"Transfer-Encoding: chunked\x00\r\n", {400}),
    "space between letters": (b"Transfer-Encoding: chu nked\r\n", {400, 501}),
    "with Content-Length": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", {400}),
    "before Content-Length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", {400}),
    "with Content-Length: 0": (b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", {400}),
}


@pytest.mark.parametrize("lines,statuses", TE.values(), ids=TE.keys())
def test_transfer_encoding_is_refused(front, lines, statuses):
    front.refuses(head(lines) + chunked("hello"), *statuses)


def test_transfer_encoding_from_http_1_0_is_refused(front):
    front.refuses(
        b"POST / HTTP/1.0\r\nHost: weir.test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked("hello"), 400
    )


def test_the_name_of_the_coding_has_no_case(front):
    got = front.accepts(head(b"transfer-ENCODING:\tCHUNKED \r\n") + chunked("hello"))
    assert got.body == b"hello"


def test_empty_members_of_the_coding_list_are_none(front):
    """RFC 9110 5.6.1.2 lets a recipient ignore a few of them, weir may as well refuse; it does not
    take the content for something else."""
    with front.client() as client:
        client.send(head(b"Transfer-Encoding: , chunked\r\n") + chunked("hello"))
        if front.up.has_connection(0.2):
            with front.up.accept() as server:
                assert server.read_request().body == b"hello"
        else:
            expect_refused(client, 400, 501)


# Lines and fields (RFC 9112 2.2, 5).

LINES = {
    "bare LF behind a field": b"GET / HTTP/1.1\r\nHost: weir.test\nX-A: 1\r\n\r\n",
    "bare LF behind the request line": b"GET / HTTP/1.1\nHost: weir.test\r\n\r\n",
    "bare LF at the end of the head": b"GET / HTTP/1.1\r\nHost: weir.test\r\n\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: weir.test\n\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: 1\rX-B: 2\r\n\r\n",
    "bare CR at the end of a value": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: 1\r\r\n\r\n",
    "bare CR in a name": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX\r-A: 1\r\n\r\n",
    "bare CR in the request line": b"GET /\r HTTP/1.1\r\nHost: weir.test\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: weir.test\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: a\x00b\r\n\r\n",
    "control character in a value": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: a\x01b\r\n\r\n",
    "escape in a value": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: a\x1b[1m\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: a\x7fb\r\n\r\n",
    "fold with a space": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: 1\r\n 2\r\n\r\n",
    "fold with a tab": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A: 1\r\n\t2\r\n\r\n",
    "fold of the first field": b"GET / HTTP/1.1\r\n Host: weir.test\r\n\r\n",
    "folded Content-Length": b"GET / HTTP/1.1\r\nHost: weir.test\r\nContent-Length:\r\n 5\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A : 1\r\n\r\n",
    "tab before the colon": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX-A\t: 1\r\n\r\n",
    "space before the colon of a length": (
        b"POST / HTTP/1.1\r\nHost: weir.test\r\nContent-Length : 5\r\n\r\nhello"
    ),
    "space inside a name": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX A: 1\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: weir.test\r\n: 1\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: weir.test\r\nNonsense\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: weir.test\r\nX\x00A: 1\r\n\r\n",
}


@pytest.mark.parametrize("data", LINES.values(), ids=LINES.keys())
def test_a_line_is_refused(front, data):
    front.refuses(data, 400)


@pytest.mark.parametrize("byte", list(b'"(),/;<=>?@[\\]{}\x80\xff'), ids=lambda b: f"{b:02x}")
def test_a_field_name_that_is_no_token_is_refused(front, byte):
    front.refuses(b"GET / HTTP/1.1\r\nHost: weir.test\r\nX%cA: 1\r\n\r\n" % byte, 400)


def test_every_token_character_may_be_in_a_field_name(front):
    name = "!#$%&'*+-.^_`|~09azAZ"
    assert front.accepts(request(fields=[f"{name}: 1"])).fields.get(name) == "1"


# The request line (RFC 9112 3).

REQUEST_LINES = {
    "no version": (b"GET /", {400, 505}),
    "no target": (b"GET HTTP/1.1", {400}),
    "empty target": (b"GET  HTTP/1.1", {400}),
    "two spaces before the target": (b"GET  / HTTP/1.1", {400}),
    "two spaces before the version": (b"GET /  HTTP/1.1", {400}),
    "space in the target": (b"GET /a b HTTP/1.1", {400}),
    "tab instead of space": (b"GET\t/\tHTTP/1.1", {400}),
    "space in front": (b" GET / HTTP/1.1", {400}),
    "space behind": (b"GET / HTTP/1.1 ", {400}),
    "something behind": (b"GET / HTTP/1.1 x", {400}),
    "method that is no token": (b"GE(T / HTTP/1.1", {400}),
    "method with a colon": (b"GET: / HTTP/1.1", {400}),
    "no method": (b" / HTTP/1.1", {400}),
    "lower-case version": (b"GET / http/1.1", {400}),
    "version without a minor": (b"GET / HTTP/1", {400, 505}),
    "version with two digits": (b"GET / HTTP/1.10", {400, 505}),
    "version of letters": (b"GET / HTTP/a.b", {400}),
    "another protocol": (b"GET / RTSP/1.0", {400}),
    "HTTP/2.0": (b"GET / HTTP/2.0", {505}),
    "HTTP/3.0": (b"GET / HTTP/3.0", {505}),
    "HTTP/0.9 said aloud": (b"GET / HTTP/0.9", {400, 505}),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0", {400, 505}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
    "binary": (b"\x00\x01\x02\x03", {400}),
    "empty lines only": (b"\r\n\r\n\r\n\r\n\r\n", {400}),
}


@pytest.mark.parametrize("line,statuses", REQUEST_LINES.values(), ids=REQUEST_LINES.keys())
def test_a_request_line_is_refused(front, line, statuses):
    front.refuses(line + b"\r\nHost: weir.test\r\n\r\n", *statuses)


TARGETS = {
    "no slash in front": b"foo",
    "fragment": b"/a#b",
    "control character": b"/a\x01b",
    "NUL": b"/a\x00b",
    "DEL": b"/a\x7fb",
    "beyond ASCII": b"/gr\xc3\xbc\xc3\x9fe",
    "asterisk with GET": b"*",
    "absolute without a host": b"http:///a",
    "absolute with user information": b"http://user:pw@weir.test/a",
    "absolute with a bad port": b"http://weir.test:http/a",
    "relative": b"../a",
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_target_is_refused(front, target):
    front.refuses(b"GET %s HTTP/1.1\r\nHost: weir.test\r\n\r\n" % target, 400)


def test_authority_form_is_for_connect_only(front):
    front.refuses(b"GET weir.test:80 HTTP/1.1\r\nHost: weir.test\r\n\r\n", 400)


def test_connect_is_refused(front):
    """weir is a gateway and no forward proxy."""
    with front.client() as client:
        client.send(b"CONNECT weir.test:80 HTTP/1.1\r\nHost: weir.test:80\r\n\r\n")
        expect_problem(client.read_response(), 400, 403, 404, 405, 501)
    assert not front.up.has_connection()


# Host (RFC 9112 3.2).


def test_a_request_of_http_1_1_without_host_is_refused(front):
    front.refuses(b"GET / HTTP/1.1\r\nX-A: 1\r\n\r\n", 400)


def test_two_hosts_are_refused(front):
    front.refuses(b"GET / HTTP/1.1\r\nHost: weir.test\r\nHost: weir.test\r\n\r\n", 400)


def test_two_hosts_are_refused_in_absolute_form_too(front):
    front.refuses(b"GET http://weir.test/ HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n", 400)


def test_two_hosts_are_refused_from_http_1_0_too(front):
    front.refuses(b"GET / HTTP/1.0\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400)


HOSTS = [
    "a b", "a/b", "a\\b", "user@weir.test", "weir.test:port", "weir.test:80:80", "[::1", "::1]", "[::1]x",
    "[nonsense]", "a?b", "a#b", "a\"b", "a<b", "weir.test, other.test", "http://weir.test", "weir.test:99999",
    "weir.test:-1", "weir.test:+80", "a%zzb", "a\xe4b", "@", "[",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_refused(front, host):
    front.refuses(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"), 400)


@pytest.mark.parametrize("host", ["weir.test", "weir.test:8080", "127.0.0.1:80", "[::1]", "[::1]:80", "WEIR.Test", "a_b", "xn--bcher-kva.test"])
def test_a_host_is_accepted(front, host):
    got = front.accepts(request(host=host))
    assert got.fields.get("host").lower() == host.lower()


# The chunked coding (RFC 9112 7.1). The head is sound and may be on its way already: then the
# upstream must be left with a message that is visibly not whole.

CHUNKS = {
    "space behind the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "letters behind the size": b"3xyz\r\nabc\r\n0\r\n\r\n",
    "0x in front": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space in front": b" 3\r\nabc\r\n0\r\n\r\n",
    "plus sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "minus sign": b"-3\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "only an extension": b";a=b\r\nabc\r\n0\r\n\r\n",
    "no hexadecimal digit": b"g\r\nabc\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "64 bits and more": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "all ones": b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "the sign bit": b"8000000000000000\r\nabc\r\n0\r\n\r\n",
    "bare LF behind the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR behind the size": b"3\rabc\r\n0\r\n\r\n",
    "bare LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "nothing behind the data": b"3\r\nabc0\r\n\r\n",
    "more data than the size says": b"3\r\nabcd\r\n0\r\n\r\n",
    "bare LF behind the last chunk": b"3\r\nabc\r\n0\n\r\n",
    "bare LF at the very end": b"3\r\nabc\r\n0\r\n\n",
    "bare LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;a=\x00\r\nabc\r\n0\r\n\r\n",
    "open quote in an extension": b'3;a="b\r\nabc\r\n0\r\n\r\n',
    "extension without a name": b"3;=b\r\nabc\r\n0\r\n\r\n",
    "fold in the trailers": b"3\r\nabc\r\n0\r\nX-A: 1\r\n 2\r\n\r\n",
    "space before a trailer's colon": b"3\r\nabc\r\n0\r\nX-A : 1\r\n\r\n",
    "trailer without a colon": b"3\r\nabc\r\n0\r\nnonsense\r\n\r\n",
    "trailer with a bad name": b"3\r\nabc\r\n0\r\nX(A: 1\r\n\r\n",
    "trailer with NUL": b"3\r\nabc\r\n0\r\nX-A: \x00\r\n\r\n",
    "bare LF in the trailers": b"3\r\nabc\r\n0\r\nX-A: 1\n\r\n",
    "bare CR in the trailers": b"3\r\nabc\r\n0\r\nX-A: 1\rX-B: 2\r\n\r\n",
}


def refuses_content(front, data, *statuses):
    with front.client() as client:
        client.send(head(b"Transfer-Encoding: chunked\r\n"), data)
        expect_refused(client, *statuses, errors={"http_request_error"})
        if front.up.has_connection():
            with front.up.accept() as server:
                seen = server.read_abort()
                assert not seen.endswith(b"\r\n0\r\n\r\n"), f"the upstream got a whole message: {seen!r}"
                assert b"X-A" not in seen.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS.keys())
def test_chunks_are_refused(front, data):
    refuses_content(front, data, 400)


def test_a_chunk_line_without_end_is_refused(front):
    refuses_content(front, b"3;" + b"x" * 20000 + b"\r\nabc\r\n0\r\n\r\n", 400, 431)


def test_content_that_is_mostly_extensions_is_refused(front):
    data = b"".join(b"1;%s\r\nx\r\n" % (b"e" * 900) for _ in range(200)) + b"0\r\n\r\n"
    refuses_content(front, data, 400)


def test_too_many_trailers_are_refused(front):
    trailers = b"".join(b"T%d: x\r\n" % i for i in range(FIELDS_MAX + 10))
    refuses_content(front, b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n", 431)


def test_too_large_trailers_are_refused(front):
    refuses_content(front, b"3\r\nabc\r\n0\r\nX-T: " + b"x" * (HEAD_MAX + 100) + b"\r\n\r\n", 431)


def test_leading_zeros_in_a_chunk_size_are_the_number(front):
    got = front.accepts(head(b"Transfer-Encoding: chunked\r\n") + b"00003\r\nabc\r\n000\r\n\r\n")
    assert got.body == b"abc"


def test_a_bad_chunk_after_the_answer_has_begun_ends_both(front):
    with front.client() as client:
        client.send(head(b"Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n")
        with front.up.accept() as server:
            server.read_request_head()
            assert server.read_chunk() == b"abc"
            server.send(response(200, ["Transfer-Encoding: chunked"]))
            server.send_chunk("started")
            client.read_response_head()
            assert client.read_chunk() == b"started"
            client.send(b"zzz\r\n")
            assert not server.read_abort().endswith(b"0\r\n\r\n")
            assert not client.read_abort().endswith(b"0\r\n\r\n"), "an aborted answer is not whole"


# Limits.


def test_a_target_beyond_the_limit_is_414(front):
    front.refuses(request(target="/" + "x" * (TARGET_MAX + 1)), 414)


def test_a_target_at_the_limit_passes(front):
    target = "/" + "x" * (TARGET_MAX - 1)
    assert front.accepts(request(target=target)).target == target


def test_a_request_line_without_end_is_414(front):
    front.refuses(b"GET /" + b"x" * (HEAD_MAX * 3), 414, 431)


def test_a_head_beyond_the_limit_is_431(front):
    front.refuses(request(fields=["X-A: " + "x" * HEAD_MAX]), 431)


def test_a_head_without_end_is_431(front):
    front.refuses(b"GET / HTTP/1.1\r\nHost: weir.test\r\n" + b"X-Long: aaaaaaaaaaaaaaaaaaaa\r\n" * 1000, 431)


def test_a_head_at_the_limit_passes(front):
    room = HEAD_MAX - len(request(fields=["X-A: "]))
    assert len(front.accepts(request(fields=["X-A: " + "x" * room])).fields.get("x-a")) == room


def test_fields_beyond_the_limit_are_431(front):
    front.refuses(request(fields=[f"X-{i}: 1" for i in range(FIELDS_MAX)]), 431)  # and Host


def test_fields_at_the_limit_pass(front):
    got = front.accepts(request(fields=[f"X-{i}: 1" for i in range(FIELDS_MAX - 1)]))
    assert len([n for n, _ in got.fields if n.lower().startswith("x-") and n[2:].isdigit()]) == FIELDS_MAX - 1


def test_an_expectation_other_than_100_continue_is_417(front):
    with front.client() as client:
        client.send(request("POST", fields=["Expect: miracles"], body=b"abc"))
        expect_problem(client.read_response(), 417)
    assert not front.up.has_connection()


def test_a_method_without_end_is_refused(front):
    front.refuses(b"G" * 5000 + b" / HTTP/1.1\r\nHost: weir.test\r\n\r\n", 400, 414, 431, 501)


# How it is refused.


def test_a_refused_client_that_goes_on_sending_still_reads_the_answer(front):
    """Lingering close: closing with unread bytes would send a RST, and that discards the answer in
    the client's own kernel."""
    with front.client() as client:
        client.send(head(b"Content-Length: 5\r\nContent-Length: 6\r\n"))
        block = b"x" * 65536
        sent = 0
        while sent < 1 << 20 and client.try_send(block):
            sent += len(block)
        expect_problem(client.read_response(), 400)
        client.expect_end()
    assert sent == 1 << 20, f"the client was cut off after {sent} bytes"


def test_a_megabyte_in_one_go_does_not_lose_the_answer_either(front):
    with front.client() as client:
        data = b"GET / HTTP/9.9\r\nHost: weir.test\r\n\r\n" + b"x" * (1 << 20)
        writer = threading.Thread(target=client.try_send, args=(data,))
        writer.start()
        answer = client.read_response()
        assert answer.status == 505
        client.expect_end()
        writer.join()


def test_lingering_does_not_last_for_ever(front):
    with front.client() as client:
        client.send(head(b"Content-Length: x\r\n"))
        assert client.read_response().status == 400
        client.expect_end()  # weir has closed its side
        start = time.monotonic()
        while client.try_send(b"more") and time.monotonic() - start < scaled(15):
            client.sock.settimeout(scaled(20))
        assert time.monotonic() - start < scaled(15), "weir still listens to what nobody wants"


def test_a_refused_client_gives_its_connection_back(front):
    metrics = front.weir.metrics

    def open_clients():
        return metrics().sum("weir_connections", listener="http")

    wait_for("no client is connected", lambda: open_clients() == 0)
    for _ in range(20):
        front.refuses(head(b"Content-Length: x\r\n"), 400)
    wait_for("all refused connections are gone", lambda: open_clients() == 0)


def test_a_bad_request_behind_a_good_one_does_not_harm_it(front):
    with front.client() as client:
        client.send(request(target="/good"), b"BAD REQUEST LINE\r\n\r\n")
        with front.up.accept() as server:
            assert server.read_request().target == "/good"
            server.send(response(fields=["Connection: close"], body=b"good"))
            assert client.read_response().body == b"good"
            expect_refused(client, 400)


def test_what_follows_a_refused_request_is_not_a_request(front):
    """The framing is lost: what looks like a request behind it may be content."""
    with front.client() as client:
        client.send(head(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"))
        client.try_send(request(target="/smuggled"))
        expect_refused(client, 400)
    assert not front.up.has_connection(0.1)


def test_a_refusal_of_head_has_no_content(front):
    with front.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
        answer = client.read_response_head()
        assert answer.status == 400
        client.read_to_end()  # a parser that has lost the method may send its content


def test_refusals_are_counted_and_told_apart(front):
    before = front.weir.metrics().sum("weir_requests_total", code="400")
    front.refuses(head(b"Content-Length: x\r\n"), 400)
    wait_for(
        "the 400 is counted",
        lambda: front.weir.metrics().sum("weir_requests_total", code="400") == before + 1,
    )


def test_the_reason_is_in_the_detail(front):
    with front.client() as client:
        client.send(head(b"Content-Length: 5\r\nContent-Length: 6\r\n"))
        problem = expect_problem(client.read_response(), 400)
    assert "content-length" in problem["detail"].lower()


def test_a_client_that_leaves_in_mid_head_costs_nothing(front):
    for cut in (b"", b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost: weir.t", b"GET / HTTP/1.1\r\nHost: a\r\n\r"):
        with front.client() as client:
            client.send(cut)
            client.shutdown()
            client.expect_gone()
    assert not front.up.has_connection()


@pytest.mark.threads
def test_refusals_on_all_loops_at_once(front):
    failures = []

    def run():
        try:
            for data in (head(CL["two that differ"]), LINES["bare CR in a value"], b"GET / HTTP/2.0\r\n\r\n"):
                with front.client() as client:
                    client.send(data)
                    assert client.read_response().status in (400, 505)
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_weir_still_works_after_all_this(front):
    assert front.accepts(request(target="/fine")).target == "/fine"
