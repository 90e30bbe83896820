"""MCP: a stdio server that does as it is told, and clients over Streamable HTTP."""

import http.client
import itertools
import json
import socket
from pathlib import Path

from .env import PATIENCE, scaled
from .programs import PYTHON
from .weir import base_config, merged

# What a tool does is in its name. Each line that it gets is written to the file that is its argument.
SERVER = r"""
import json, os, sys, time
seen = open(sys.argv[1], "a", buffering=1)
refuses, is_mute = sys.argv[2:] == ["refuse"], sys.argv[2:] == ["mute"]
held, asked = [], {}

def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()

def say(**message):
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

def answer(id, text):
    say(id=id, result={"content": [{"type": "text", "text": text}]})

def call(id, params):
    name, args = params["name"], params.get("arguments", {})
    token = params.get("_meta", {}).get("progressToken")
    value = args.get("value")
    if name == "echo":
        answer(id, value)
    elif name == "id":
        answer(id, json.dumps([id, token]))
    elif name == "progress":
        for i in range(value):
            say(method="notifications/progress", params={"progressToken": token, "progress": i})
        answer(id, "done")
    elif name == "hold":
        held.append((id, token, value))
    elif name == "release":
        for other, token, text in reversed(held):
            if token is not None:
                say(method="notifications/progress", params={"progressToken": token, "progress": text})
            answer(other, text)
        held.clear()
        answer(id, "released")
    elif name == "ask":
        key = f"ask-{len(asked)}"
        asked[key] = id
        say(id=key, method=args.get("method", "sampling/createMessage"),
            params={"about": value, "_meta": {"progressToken": key}})
    elif name == "take back":
        say(id="gone", method="roots/list")
        say(method="notifications/cancelled", params={"requestId": "gone"})
        answer(id, "taken back")
    elif name == "ping":
        asked["ping"] = id
        say(id="ping", method="ping")
    elif name == "die":
        os._exit(3)
    elif name == "close":
        os.close(1)
        time.sleep(3600)
    elif name == "end slowly":
        os.close(1)
        time.sleep(value)
        os._exit(4)
    elif name == "close input":
        os.close(0)
        answer(id, "closed")
        time.sleep(3600)
    elif name == "garbage":
        write("Hello, I am a server.\n\n[]\n{\n\xff\n" + json.dumps({"jsonrpc": "2.0"}) + "\n")
        answer(id, "sorry")
    elif name == "bad answer":
        write('{"jsonrpc":"2.0","id":%d,"result":{"x":}}\n' % id)
    elif name == "unknown":
        answer(4711, "nobody's")
        answer("4711", "nobody's")
        answer(id, "mine")
    elif name == "twice":
        answer(id, "once")
        answer(id, "twice")
    elif name == "long":
        write('{"jsonrpc":"2.0","result":{"text":"')
        for _ in range(value):
            write("x" * (1 << 20))
        write('"},"id":%d}\n' % id)
    elif name == "notify":
        for i in range(value):
            say(method=args["method"], params={"n": i, **args.get("params", {})})
        answer(id, "told")
    elif name == "stop reading":
        answer(id, "deaf")
        time.sleep(3600)

for line in sys.stdin:
    seen.write(line)
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    if is_mute:
        continue
    if method == "initialize" and refuses:
        say(id=id, error={"code": -1, "message": "I do not want to"})
    elif method == "initialize":
        say(id=id, result={"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "told", "version": "1"}, "huge": 12345678901234567890.5})
    elif method == "tools/call":
        call(id, message["params"])
    elif method is None:
        answer(asked.pop(id), json.dumps(message.get("result", message.get("error"))))
    elif id is not None:
        say(id=id, result={"method": method, "params": message.get("params")})
"""

HEAD = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def mcp_config(directory, *, mcp=None, process=None, pipeline=None, instances=1, argv=(), code=SERVER):
    """One pipeline with the server behind it; what it is told is in seen.txt."""
    directory = Path(directory)
    (directory / "server.py").write_text(code)
    config = base_config(directory, [f"unix:{directory}/mcp{i}.sock" for i in range(instances)])
    config["pipeline"][0] = merged(config["pipeline"][0], {
        "protocol": "mcp-stdio",
        "process": merged({"command": [PYTHON, "-S", str(directory / "server.py"), str(directory / "seen.txt"),
                                       *argv]}, process)})
    if mcp:
        config["pipeline"][0]["mcp"] = mcp
    config["pipeline"][0] = merged(config["pipeline"][0], pipeline)
    return config


def seen(w):
    """What the server was told, without the greeting."""
    lines = [json.loads(line) for line in (Path(w.directory) / "seen.txt").read_text().splitlines()]
    return [m for m in lines if m.get("method") not in ("initialize", "notifications/initialized")]


class Events:
    """A stream of server-sent events, read as they come."""

    def __init__(self, connection, reply):
        self.connection, self.reply = connection, reply

    def next(self):
        """The next message; None: the end."""
        data = []
        while True:
            line = self.reply.readline()
            if not line:
                return None
            line = line.decode().rstrip("\n")
            if line.startswith("data: "):
                data.append(line[6:])
            elif not line and data:
                return json.loads("\n".join(data))

    def all(self):
        return list(iter(self.next, None))

    def close(self):
        self.connection.close()


class Mcp:
    """A client; with a session unless @greet is false."""

    def __init__(self, w, capabilities=None, greet=True, **fields):
        self.w, self.fields, self.ids = w, {**HEAD, **fields}, itertools.count(1)
        self.session = None
        if greet:
            status, head, [answer] = self.post(self.initialize(capabilities))
            assert status == 200, answer
            self.session = self.fields["mcp-session-id"] = head["mcp-session-id"]
            self.greeting = answer["result"]
            assert self.note("notifications/initialized")[0] == 202

    @staticmethod
    def initialize(capabilities=None, version="2025-06-18", id="hello"):
        return {"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": capabilities or {},
            "clientInfo": {"name": "test", "version": "1"}}}

    def open(self, method, content=None, timeout=PATIENCE, **fields):
        """(connection, reply) as soon as its head is there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.w.port, timeout=scaled(timeout))
        content = json.dumps(content) if isinstance(content, (dict, list)) else content
        given = {k.replace("_", "-"): v for k, v in {**self.fields, **fields}.items()}
        connection.request(method, "/mcp", content, {k: v for k, v in given.items() if v is not None})
        return connection, connection.getresponse()

    def post(self, content, method="POST", **options):
        """(status, fields, messages)"""
        connection, reply = self.open(method, content, **options)
        if reply.getheader("content-type") == "text/event-stream":
            messages = Events(connection, reply).all()
        else:
            body = reply.read()
            messages = [json.loads(body)] if body else []
        connection.close()
        return reply.status, reply.headers, messages

    def begin(self, method, params=None, id=None):
        """Sends a request, and leaves its answer in the socket that it returns."""
        content = json.dumps(self.request(method, params, id)).encode()
        sock = socket.create_connection(("127.0.0.1", self.w.port), timeout=scaled(PATIENCE))
        fields = "".join(f"{k}: {v}\r\n" for k, v in self.fields.items())
        sock.sendall(f"POST /mcp HTTP/1.1\r\nhost: x\r\n{fields}content-length: {len(content)}\r\n\r\n".encode()
                     + content)
        return sock

    def request(self, method, params=None, id=None):
        message = {"jsonrpc": "2.0", "id": next(self.ids) if id is None else id, "method": method}
        if params is not None:
            message["params"] = params
        return message

    def note(self, method, params=None):
        return self.post({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def ask(self, method, params=None, id=None, **options):
        """All messages of the answer; the last one is the response."""
        status, _, messages = self.post(self.request(method, params, id), **options)
        assert status == 200, messages
        return messages

    def tool(self, name, value=None, token=None, **args):
        """The messages of a call."""
        return self.ask("tools/call", tool(name, value, token, **args))

    def text(self, name, value=None, **args):
        return text_of(self.tool(name, value, **args)[-1])

    def listen(self):
        connection, reply = self.open("GET")
        assert reply.status == 200 and reply.getheader("content-type") == "text/event-stream"
        return Events(connection, reply)

    def stream(self, method, params=None, id=None):
        """The answer as it comes."""
        connection, reply = self.open("POST", self.request(method, params, id))
        assert reply.getheader("content-type") == "text/event-stream", reply.read()
        return Events(connection, reply)


def tool(name, value=None, token=None, **args):
    params = {"name": name, "arguments": {**args, "value": value}}
    return {**params, "_meta": {"progressToken": token}} if token is not None else params


def text_of(message):
    return message["result"]["content"][0]["text"]
