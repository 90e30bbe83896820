"""HTTP/1 on a plain socket, byte by byte, for either end.

A Wire sends exactly what it is told and reads strictly: whatever weir writes must be well-formed to
the letter, so a reader here forgives nothing. It reads no further than it is asked to.
"""

import re
import select
import socket
import struct
import time

from .env import PATIENCE, scaled

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")


class Closed(AssertionError):
    """The other side ended the connection before the message was whole."""


class Reset(Closed):
    """... and did so with a reset."""


class Fields(list):
    """Name/value pairs in order, asked for by name whatever the case."""

    def all(self, name):
        return [v for n, v in self if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) <= 1, f"field {name} came {len(values)} times: {values}"
        return values[0] if values else default

    def joined(self, name):
        values = self.all(name)
        return ", ".join(values) if values else None

    def list(self, name):
        """The members of a list field, whatever it was split into."""
        return [m.strip() for v in self.all(name) for m in v.split(",") if m.strip()]

    def __contains__(self, name):
        return bool(self.all(name))


class Message:
    def __init__(self, line, fields, raw):
        self.line = line
        self.fields = fields
        self.raw_head = raw
        self.body = None
        self.trailers = Fields()
        self.chunks = None

    @property
    def is_chunked(self):
        return [c.lower() for c in self.fields.list("transfer-encoding")] == ["chunked"]

    @property
    def length(self):
        value = self.fields.get("content-length")
        if value is None:
            return None
        assert re.fullmatch(r"[0-9]+", value), f"Content-Length: {value!r}"
        return int(value)


class Request(Message):
    def __init__(self, line, fields, raw):
        super().__init__(line, fields, raw)
        parts = line.split(" ")
        assert len(parts) == 3, f"request line {line!r}"
        self.method, self.target, self.version = parts
        assert self.version in ("HTTP/1.1", "HTTP/1.0"), f"request line {line!r}"


class Response(Message):
    def __init__(self, line, fields, raw):
        super().__init__(line, fields, raw)
        match = re.fullmatch(r"(HTTP/1\.[01]) ([1-9][0-9][0-9]) (.*)", line)
        assert match, f"status line {line!r}"
        self.version, self.status, self.reason = match[1], int(match[2]), match[3]

    def __repr__(self):
        return f"<Response {self.status} {self.fields} {self.body!r:.200}>"


def parse_fields(lines):
    fields = Fields()
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon, f"field line without a colon: {line!r}"
        assert TOKEN.match(name), f"field name {name!r}"
        value = value.strip(b" \t")
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value), f"field value {value!r}"
        fields.append((name.decode("ascii"), value.decode("latin-1")))
    return fields


class Wire:
    def __init__(self, sock, timeout=PATIENCE):
        self.sock = sock
        self.timeout = scaled(timeout)
        self.buffer = b""
        self.received = b""  # every byte that ever came
        self.is_eof = False
        self.is_tls = False
        sock.settimeout(self.timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Sending.

    def send(self, *parts):
        data = b"".join(p.encode("latin-1") if isinstance(p, str) else p for p in parts)
        self.sock.sendall(data)

    def try_send(self, *parts):
        """For bytes to which the other side may have shut its door already; whether it took them."""
        try:
            self.send(*parts)
            return True
        except OSError:
            return False

    def send_chunk(self, data):
        data = data.encode() if isinstance(data, str) else data
        self.send(b"%x\r\n" % len(data), data, b"\r\n")

    def send_until_stuck(self, block, limit, quiet=0.5):
        """Writes @block again and again until nothing is taken for @quiet seconds, or @limit bytes
        are through. Returns how many bytes were taken."""
        sent = 0
        self.sock.setblocking(False)
        try:
            at = 0
            while sent < limit:
                _, ready, _ = select.select([], [self.sock], [], scaled(quiet))
                if not ready:
                    break
                n = self.sock.send(block[at:])
                at = (at + n) % len(block)
                sent += n
        finally:
            self.sock.settimeout(self.timeout)
        return sent

    def shutdown(self):
        """No more from this side; the other may go on."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """Gone, with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Receiving.

    def fill(self, timeout=None):
        """Reads once more. False at the end of the connection."""
        if self.is_eof:
            return False
        self.sock.settimeout(self.timeout if timeout is None else scaled(timeout))
        try:
            data = self.sock.recv(262144)
        except socket.timeout:
            raise AssertionError(
                f"nothing came within {self.sock.gettimeout():.1f} s; so far unread: {self.buffer[-2000:]!r}"
            ) from None
        except ConnectionResetError:
            self.is_eof = True
            raise Reset(f"reset; so far unread: {self.buffer[-2000:]!r}") from None
        finally:
            self.sock.settimeout(self.timeout)
        if not data:
            self.is_eof = True
            return False
        self.buffer += data
        self.received += data if len(self.received) < 1 << 22 else b""
        return True

    def take(self, n):
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def read_exactly(self, n):
        parts = []
        while n > 0:
            if not self.buffer and not self.fill():
                raise Closed(f"ended {n} bytes early; had {b''.join(parts)[-500:]!r}")
            parts.append(self.take(n))
            n -= len(parts[-1])
        return b"".join(parts)

    def read_until(self, end):
        at = 0
        while True:
            found = self.buffer.find(end, at)
            if found >= 0:
                return self.take(found + len(end))
            at = max(0, len(self.buffer) - len(end) + 1)
            if not self.fill():
                raise Closed(f"ended before {end!r}; had {self.buffer[-2000:]!r}")

    def read_line(self):
        line = self.read_until(b"\n")
        assert line.endswith(b"\r\n"), f"line ends in a bare LF: {line!r}"
        assert b"\r" not in line[:-2], f"bare CR in {line!r}"
        return line[:-2]

    def read_head(self, kind):
        raw = self.read_until(b"\r\n\r\n")
        lines = raw[:-4].split(b"\r\n")
        for line in lines:
            assert b"\n" not in line and b"\r" not in line, f"bare CR or LF in {line!r}"
        return kind(lines[0].decode("latin-1"), parse_fields(lines[1:]), raw)

    def read_chunk(self):
        """One chunk's content, b"" for the last."""
        line = self.read_line()
        assert re.fullmatch(rb"[0-9a-fA-F]+", line), f"chunk size line {line!r}"
        size = int(line, 16)
        if size == 0:
            return b""
        data = self.read_exactly(size)
        assert self.read_exactly(2) == b"\r\n", "chunk does not end in CRLF"
        return data

    def read_trailers(self):
        lines = []
        while True:
            line = self.read_line()
            if not line:
                return parse_fields(lines)
            lines.append(line)

    def read_content(self, message, until_close=False):
        message.body = b""
        codings = message.fields.list("transfer-encoding")
        if codings:
            assert message.is_chunked, f"Transfer-Encoding: {codings}"
            assert message.length is None, "Content-Length beside Transfer-Encoding"
            parts = []
            while True:
                data = self.read_chunk()
                if not data:
                    break
                parts.append(data)
            message.chunks = parts
            message.body = b"".join(parts)
            message.trailers = self.read_trailers()
        elif message.length is not None:
            message.body = self.read_exactly(message.length)
        elif until_close:
            message.body = self.read_to_end()
        return message

    def read_request_head(self):
        return self.read_head(Request)

    def read_request(self):
        return self.read_content(self.read_head(Request))

    def read_response_head(self):
        return self.read_head(Response)

    def read_response(self, method="GET", skip_informational=False):
        while True:
            response = self.read_head(Response)
            if not skip_informational or response.status >= 200:
                break
        if response.status < 200 or response.status in (204, 304) or method == "HEAD":
            response.body = b""
            if response.status != 304 and method != "HEAD":
                assert "content-length" not in response.fields, f"{response.status} with a length"
                assert "transfer-encoding" not in response.fields, f"{response.status} with a coding"
            return response
        return self.read_content(response, until_close=True)

    def read_to_end(self, timeout=None):
        """Everything up to an orderly end."""
        end = time.monotonic() + (self.timeout if timeout is None else scaled(timeout))
        parts = [self.take(len(self.buffer))]
        while self.fill(timeout):
            parts.append(self.take(len(self.buffer)))
            assert time.monotonic() < end + 60, "still more and more"
        return b"".join(parts)

    def expect_end(self, timeout=None):
        """The other side closes in good order, without a further byte."""
        rest = self.read_to_end(timeout)
        assert rest == b"", f"more bytes before the end: {rest[:2000]!r}"

    def expect_gone(self, timeout=None):
        """The other side goes away, in good order or not. Returns the seconds that took."""
        start = time.monotonic()
        try:
            rest = self.read_to_end(timeout)
        except Reset:
            rest = b""
        assert rest == b"", f"more bytes before the end: {rest[:2000]!r}"
        return time.monotonic() - start

    def read_abort(self, timeout=None):
        """Everything up to an end of any kind."""
        try:
            return self.read_to_end(timeout)
        except Reset:
            return self.take(len(self.buffer))

    def is_quiet(self, seconds):
        """Nothing comes, and nothing ends, for @seconds: only for promises that something does not
        happen."""
        if self.buffer:
            return False
        ready, _, _ = select.select([self.sock], [], [], seconds)
        return not ready


def connect(address, timeout=PATIENCE, receive_buffer=None, source=None):
    """A Wire to @address: a port on loopback, (host, port), or the path of a unix socket."""
    if isinstance(address, int):
        address = ("127.0.0.1", address)
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        sock = socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if source:
        sock.bind((source, 0))
    sock.settimeout(scaled(timeout))
    sock.connect(address)
    return Wire(sock, timeout)


def request(method="GET", target="/", fields=(), body=b"", host="weir.test", version="HTTP/1.1"):
    """The bytes of a request. Content-Length is added when there is a body and no framing yet."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    names = set()
    for line in fields:
        lines.append(line)
        names.add(line.partition(":")[0].lower())
    body = body.encode() if isinstance(body, str) else body
    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def response(status=200, fields=(), body=b"", reason="OK", version="HTTP/1.1", length=True):
    """The bytes of a response."""
    lines = [f"{version} {status} {reason}", *fields]
    body = body.encode() if isinstance(body, str) else body
    if length and not any(f.lower().startswith(("content-length:", "transfer-encoding:")) for f in fields):
        if status >= 200 and status not in (204, 304):
            lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def chunked(*parts, trailers=()):
    """The chunked coding of @parts."""
    out = b""
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        out += b"%x\r\n%s\r\n" % (len(part), part)
    return out + b"0\r\n" + b"".join(f"{t}\r\n".encode("latin-1") for t in trailers) + b"\r\n"
