"""An HTTP/2 client on a plain socket: python3-h2 keeps the protocol, the test says what is sent
when and what is read when. raw() sends bytes past it, for what no proper client would say."""

import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack

from .env import PATIENCE, scaled
from .wire import Fields


# RFC 9113 section 6.8 lets streams below a GOAWAY's last go on; python3-h2 does not.
h2.connection.H2ConnectionStateMachine._transitions[
    (h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionInputs.RECV_GOAWAY)
] = (None, h2.connection.ConnectionState.CLIENT_OPEN)


class Stream:
    """What has come on one stream."""

    def __init__(self):
        self.status = None
        self.fields = Fields()
        self.informational = []
        self.body = bytearray()
        self.trailers = Fields()
        self.is_ended = False
        self.reset = None  # the code

    @property
    def is_over(self):
        return self.is_ended or self.reset is not None

    def __repr__(self):
        return f"<{self.status} {list(self.fields)} {len(self.body)} bytes, ended={self.is_ended} reset={self.reset}>"


class Http2Client:
    def __init__(self, port, window=None, acknowledge=True, greet=True):
        self.sock = socket.create_connection(("127.0.0.1", port), scaled(PATIENCE))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        if window is not None:
            values = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.acknowledge = acknowledge  # DATA, with new windows
        self.streams = {}
        self.goaways = []  # (last stream, code)
        self.settings = {}
        self.pings = 0
        self.is_closed = False
        if greet:
            self.h2.initiate_connection()
            self.flush()
            self.await_("SETTINGS", lambda: self.settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # Saying.

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            try:
                self.sock.sendall(data)
            except OSError:
                self.is_closed = True

    def raw(self, *parts):
        """False: the other side has closed."""
        try:
            self.sock.sendall(b"".join(parts))
            return True
        except OSError:
            return False

    def ask(self, method="GET", path="/", fields=(), body=b"", end=True, authority="weir.test", head=None):
        """Starts a request and returns its stream's id."""
        sid = self.h2.get_next_available_stream_id()
        lines = head or [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
        self.streams[sid] = Stream()
        self.h2.send_headers(sid, lines + list(fields), end_stream=end and not body)
        self.flush()
        if body:
            self.send(sid, body, end)
        return sid

    def send(self, sid, body, end=False):
        """All of it, as the windows allow."""
        while body:
            room = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size, len(body))
            if room == 0:
                self.await_("a window", lambda: self.h2.local_flow_control_window(sid) > 0)
                continue
            last = room == len(body)
            self.h2.send_data(sid, body[:room], end_stream=end and last)
            body = body[room:]
            self.flush()

    def end(self, sid, trailers=None):
        if trailers:
            self.h2.send_headers(sid, trailers, end_stream=True)
        else:
            self.h2.end_stream(sid)
        self.flush()

    def cancel(self, sid, code=8):
        self.h2.reset_stream(sid, code)
        self.flush()

    # Hearing.

    def pump(self, seconds=0.0):
        """Takes what is there, or comes within @seconds; False when nothing did."""
        self.sock.settimeout(max(seconds, 0.0001))
        try:
            data = self.sock.recv(1 << 16)
        except (socket.timeout, BlockingIOError):
            return False
        except OSError:
            data = b""
        self.sock.settimeout(scaled(PATIENCE))
        if not data:
            self.is_closed = True
            return False
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as failure:
            raise AssertionError(f"weir broke the protocol: {failure}") from failure
        for event in events:
            self._take(event)
        self.flush()
        return True

    def _take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings.update({int(k): v.new_value for k, v in event.changed_settings.items()})
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((event.last_stream_id, int(event.error_code)))
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.informational.append(dict(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            assert stream.status is None, "two responses on one stream"
            stream.status = int(dict(event.headers)[":status"])
            stream.fields = Fields((n, v) for n, v in event.headers if n[0] != ":")
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if self.acknowledge and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = Fields(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream.is_ended = True
        elif isinstance(event, h2.events.StreamReset) and stream:
            stream.reset = int(event.error_code)

    def await_(self, what, condition, timeout=PATIENCE):
        end = time.monotonic() + scaled(timeout)
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"waited {scaled(timeout):.1f} s in vain: {what}; {self.streams}"
            assert not self.is_closed, f"closed by weir while waiting: {what}; {self.goaways} {self.streams}"
            self.pump(left)

    def response(self, sid, timeout=PATIENCE):
        """The stream, once its response is whole."""
        stream = self.streams[sid]
        self.await_(f"the response on stream {sid}", lambda: stream.is_over, timeout)
        assert stream.is_ended, f"stream {sid}: {stream}"
        return stream

    def await_reset(self, sid, timeout=PATIENCE):
        stream = self.streams[sid]
        self.await_(f"a reset of stream {sid}", lambda: stream.reset is not None, timeout)
        return stream.reset

    def get(self, path="/", **options):
        return self.response(self.ask(path=path, **options))

    def await_end(self, timeout=PATIENCE):
        """Reads to the end of the connection."""
        end = time.monotonic() + scaled(timeout)
        while not self.is_closed:
            assert time.monotonic() < end, f"the connection is still open: {self.goaways}"
            self.pump(end - time.monotonic())


# Frames by hand.


class RawClient:
    """Says what it likes, and takes the answers frame by frame."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), scaled(PATIENCE))
        self.say(PREFACE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def say(self, data):
        """False: the other side has closed."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def goaways(self, timeout=PATIENCE):
        """Reads to the end of the connection; the codes of its GOAWAYs. A reset may have eaten them."""
        self.sock.settimeout(scaled(timeout))
        data, codes = b"", []
        try:
            while more := self.sock.recv(1 << 16):
                data += more
        except socket.timeout:
            raise AssertionError("the connection is still open") from None
        except OSError:
            pass
        while len(data) >= 9:
            length, kind = int.from_bytes(data[:3], "big"), data[3]
            if kind == GOAWAY:
                codes.append(int.from_bytes(data[13:17], "big"))
            data = data[9 + length :]
        return codes


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def section(*fields, path="/", method="GET"):
    """A header section that enters no table."""
    lines = [(":method", method), (":scheme", "http"), (":authority", "weir.test"), (":path", path)]
    return b"".join(literal(n, v) for n, v in lines + list(fields))


def literal(name, value):
    def text(s):
        s = s.encode() if isinstance(s, str) else s
        return hpack.hpack.encode_integer(len(s), 7) + s

    return b"\0" + bytes(text(name)) + bytes(text(value))


DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 2, 3, 8, 11
