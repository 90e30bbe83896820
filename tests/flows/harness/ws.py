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

    def next(self):
        """(opcode, payload) of the next whole frame, or None."""
        data = self.buffer
        if len(data) < self.at + 2:
            return None
        head, size = 2, data[self.at + 1]
        assert not size & 0x80, "a server masks nothing"
        if size >= 126:
            wide = 2 if size == 126 else 8
            head += wide
            if len(data) < self.at + head:
                return None
            size = int.from_bytes(data[self.at + 2 : self.at + head], "big")
        if len(data) < self.at + head + size:
            return None
        opcode = data[self.at] & 0x0F
        payload = bytes(data[self.at + head : self.at + head + size])
        self.at += head + size
        return opcode, payload
