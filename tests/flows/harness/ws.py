"""WebSocket frames, by hand (RFC 6455)."""

import base64
import hashlib
import struct

UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


def accept_of(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def frame(opcode, payload=b"", final=True, mask=b"\1\2\3\4", reserved=0):
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    return head + (mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload)


class WsReader:
    """Takes a server's frames out of a bytearray that grows."""

    def __init__(self, buffer):
        self.buffer = buffer
        self.at = 0

    def measure(self):
        """Where the next frame's payload begins and ends, or None while it is not all there."""
        data = self.buffer
        begin = self.at + 2
        if len(data) < begin:
            return None
        size = data[self.at + 1]
        assert not size & 0x80, "a server masks nothing"
        if size >= 126:
            wide = 2 if size == 126 else 8
            size = int.from_bytes(data[begin : begin + wide], "big")
            begin += wide
        return (begin, begin + size) if len(data) >= begin + size else None

    def has_next(self):
        return self.measure() is not None

    def next(self):
        """(opcode, payload)"""
        begin, end = self.measure()
        opcode = self.buffer[self.at] & 0x0F
        self.at = end
        return opcode, bytes(self.buffer[begin:end])
