"""An HTTP/2 client for tests, with python3-h2: well-behaved unless a test sends frames of its own.

It does nothing by itself: what has come is read while the test waits for something."""

import socket
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

from .env import PATIENCE, scaled
from .wire import Fields


class Reply:
    """One stream; what has come of its response so far."""

    def __init__(self, number):
        self.id = number
        self.interim = []
        self.status = None
        self.fields = Fields()
        self.body = bytearray()
        self.trailers = Fields()
        self.is_ended = False
        self.reset_code = None
        self.reset_time = None

    def __repr__(self):
        return (
            f"<{self.id}: {self.status} {len(self.body)} bytes, ended {self.is_ended}, reset {self.reset_code}>"
        )

    @property
    def is_over(self):
        return self.is_ended or self.reset_code is not None


class H2Client:
    """@settings by name as in h2.settings.SettingCodes. With @gives_credit off no WINDOW_UPDATE
    is sent but the test's own."""

    def __init__(self, port, *, settings=None, gives_credit=True, receive_buffer=None, timeout=PATIENCE):
        self.timeout = timeout
        self.gives_credit = gives_credit
        self.replies = {}
        self.goaway = None  # (code, last id)
        self.goaways = 0
        self.pongs = 0
        self.is_gone = False
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(scaled(timeout))
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        asked = {getattr(h2.settings.SettingCodes, name): value for name, value in (settings or {}).items()}
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={**dict(self.h2.local_settings), **asked}
        )
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # Sending.

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.raw(data)

    def raw(self, data):
        """Bytes as they are; whether somebody was there to take them."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            self.is_gone = True
            return False

    def frame(self, frame):
        return self.raw(frame.serialize())

    def ask(self, method="GET", path="/", fields=(), body=None, *, end=None, head=None):
        """Opens a stream; @head instead of the usual pseudo fields. It ends with @body, unless
        @end says otherwise."""
        if head is None:
            head = [
                (":method", method),
                (":scheme", "http"),
                (":authority", "weir.test"),
                (":path", path),
            ]
        number = self.h2.get_next_available_stream_id()
        reply = self.replies[number] = Reply(number)
        end = True if end is None else end
        self.h2.send_headers(number, [*head, *fields], end_stream=end and not body)
        self.flush()
        if body:
            self.send(reply, body, end=end)
        return reply

    def send(self, reply, data=b"", end=False):
        """Waits for credit where that is missing. False: the stream is over."""
        view = memoryview(data)
        while True:
            if reply.reset_code is not None or self.is_gone:
                return False
            room = min(self.h2.local_flow_control_window(reply.id), self.h2.max_outbound_frame_size)
            if len(view) and room <= 0:
                self.fill()
                continue
            part, view = view[:room], view[room:]
            self.h2.send_data(reply.id, bytes(part), end_stream=end and not len(view))
            self.flush()
            if not len(view):
                return True

    def reset(self, reply, code=h2.errors.ErrorCodes.CANCEL):
        self.h2.reset_stream(reply.id, code)
        self.flush()

    def credit(self, reply, n):
        """So much window, of the stream and of the connection."""
        self.h2.increment_flow_control_window(n, reply.id)
        self.h2.increment_flow_control_window(n)
        self.flush()

    # Receiving.

    def await_(self, what, condition, timeout=None):
        """Reads until @condition is true, and returns what it gave."""
        end = time.monotonic() + scaled(timeout or self.timeout)
        while True:
            value = condition()
            if value:
                return value
            left = end - time.monotonic()
            assert left > 0, f"waited in vain: {what} ({self})"
            assert not self.is_gone, f"the connection has ended: {what} ({self})"
            self.fill(left)

    def __repr__(self):
        return f"goaway {self.goaway}, {list(self.replies.values())[:20]}"

    def head(self, reply):
        return self.await_("a head", lambda: reply.status is not None and reply)

    def whole(self, reply, timeout=None):
        """The response, that must come to its proper end."""
        self.await_(f"the end of {reply}", lambda: reply.is_over, timeout)
        assert reply.is_ended, reply
        return reply

    def get(self, path="/", **more):
        return self.whole(self.ask(path=path, **more))

    def ended(self):
        """Reads to the end of the connection."""
        self.await_("the end of the connection", lambda: self.is_gone or not self.fill() or self.is_gone)

    def fill(self, timeout=None):
        """Reads once; False when nothing came in time, or nothing comes any more."""
        self.sock.settimeout(scaled(self.timeout) if timeout is None else max(timeout, 0.001))
        try:
            data = self.sock.recv(1 << 16)
        except socket.timeout:
            return False
        except OSError:
            data = b""
        finally:
            self.sock.settimeout(scaled(self.timeout))
        if not data:
            self.is_gone = True
            return False
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            if self.goaway:
                self.is_gone = True
                return False
            raise AssertionError(f"weir breaks HTTP/2: {error!r}") from error
        for event in events:
            self.take(event)
        self.flush()
        return True

    def take(self, event):
        reply = self.replies.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = (event.error_code, event.last_stream_id)
            self.goaways += 1
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1
        elif reply is None:
            pass
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.interim_of(reply, event)
        elif isinstance(event, h2.events.ResponseReceived):
            reply.fields = Fields((n, v) for n, v in event.headers if not n.startswith(":"))
            reply.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data
            if self.gives_credit and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            reply.trailers = Fields(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            reply.is_ended = True
        elif isinstance(event, h2.events.StreamReset) and event.remote_reset is not False:
            reply.reset_code = event.error_code
            reply.reset_time = time.monotonic()

    @staticmethod
    def interim_of(reply, event):
        reply.interim.append(int(dict(event.headers)[":status"]))


# Frames that python3-h2 would not send.


def raw_frame(kind, flags=0, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def ping(n=0, ack=False):
    frame = hyperframe.frame.PingFrame(0, n.to_bytes(8, "big"))
    if ack:
        frame.flags.add("ACK")
    return frame.serialize()


def window_update(stream, n):
    return raw_frame(8, 0, stream, n.to_bytes(4, "big"))


def rst(stream, code=8):
    return raw_frame(3, 0, stream, int(code).to_bytes(4, "big"))
