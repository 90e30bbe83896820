"""The cases of gRPC's interoperability tests, as data; and who runs them: clients and servers of
python3-grpcio, and of @grpc/grpc-js in a process of its own (tests/node/grpc_interop.js).

Messages are plain bytes. The first line of one tells the server what to do:

    size N          answer with N zeros
    status N TEXT   end the call so (the message ends with TEXT, which may have lines)
    sleep           until the call is cancelled
    anything else   answer with the message itself
"""

import hashlib
import json
import queue
import subprocess
import threading
import time
from concurrent import futures

import grpc

from .env import PATIENCE, ROOT, scaled
from .node import NODE, install

SERVICE = "weir.test.Interop"
KINDS = {
    "Unary": "unary_unary",
    "Collect": "stream_unary",
    "Spread": "unary_stream",
    "Talk": "stream_stream",
    "Nothing": "unary_unary",
}
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]

# Code points as the interop cases have them.
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
ECHO = [
    ["x-grpc-test-echo-initial", "test_initial_metadata_value"],
    ["x-grpc-test-echo-trailing-bin", "ababab"],
]
ASKED = [27182, 8, 1828, 45904]
ANSWERED = [31415, 9, 2653, 58979]


def zeros(n):
    return [n, hashlib.sha1(bytes(n)).hexdigest()]


def text(data):
    return [len(data), hashlib.sha1(data).hexdigest()]


# send: [first line, bytes in all, padded with zeros]; metadata: values of -bin keys in hex.
# expect: what the outcome must have, whoever the client and the server are.
CASES = {
    "empty_unary": {
        "method": "Unary", "send": [["", 0]],
        "expect": {"code": 0, "replies": [zeros(0)]},
    },
    "large_unary": {
        "method": "Unary", "send": [["size 314159", 271828]],
        "expect": {"code": 0, "replies": [zeros(314159)]},
    },
    "client_streaming": {
        "method": "Collect", "send": [["", n] for n in ASKED],
        "expect": {"code": 0, "replies": [text(b"74922")]},
    },
    "server_streaming": {
        "method": "Spread", "send": [["31415,9,2653,58979", 0]],
        "expect": {"code": 0, "replies": [zeros(n) for n in ANSWERED]},
    },
    "ping_pong": {
        "method": "Talk", "lockstep": True,
        "send": [[f"size {n}", size] for n, size in zip(ANSWERED, ASKED)],
        "expect": {"code": 0, "replies": [zeros(n) for n in ANSWERED]},
    },
    "empty_stream": {
        "method": "Talk", "send": [],
        "expect": {"code": 0, "replies": []},
    },
    "cancel_after_begin": {
        "method": "Collect", "send": [], "is_open": True, "cancel": "begin",
        "expect": {"code": 1},
    },
    "cancel_after_first_response": {
        "method": "Talk", "send": [["size 31415", 27182]], "is_open": True, "cancel": "first",
        "expect": {"code": 1, "replies": [zeros(31415)]},
    },
    "timeout_on_sleeping_server": {
        "method": "Talk", "send": [["sleep", 27182]], "is_open": True, "timeout_ms": 100,
        "expect": {"code": 4, "replies": []},
    },
    "status_code_and_message of a unary call": {
        "method": "Unary", "send": [["status 2 test status message", 0]],
        "expect": {"code": 2, "details": "test status message"},
    },
    "status_code_and_message of a stream": {
        "method": "Talk", "send": [["status 2 test status message", 0]],
        "expect": {"code": 2, "details": "test status message", "replies": []},
    },
    "special_status_message": {
        "method": "Unary", "send": [["status 2 " + SPECIAL, 0]],
        "expect": {"code": 2, "details": SPECIAL},
    },
    "unimplemented_method": {
        "method": "Nothing", "send": [["", 0]],
        "expect": {"code": 12},
    },
    "unimplemented_service": {
        "method": "Nothing", "service": "weir.test.Nobody", "send": [["", 0]],
        "expect": {"code": 12},
    },
    "custom_metadata of a unary call": {
        "method": "Unary", "send": [["size 314159", 271828]], "metadata": ECHO,
        "expect": {"code": 0, "initial": ECHO[:1], "trailing": ECHO[1:]},
    },
    "custom_metadata of a stream": {
        "method": "Talk", "send": [["size 314159", 271828]], "metadata": ECHO,
        "expect": {"code": 0, "initial": ECHO[:1], "trailing": ECHO[1:]},
    },
}  # fmt: skip


def message(line, size):
    return line.encode().ljust(size, b"\0") if not line else (line.encode() + b"\n").ljust(size, b"\0")


# grpcio.


class Service(grpc.GenericRpcHandler):
    def __init__(self, hear):
        self.hear = hear

    def service(self, details):
        service, _, name = details.method[1:].rpartition("/")
        kind = KINDS.get(name)
        if service != SERVICE or name == "Nothing":
            return None
        handler = getattr(grpc, f"{kind}_rpc_method_handler")
        return handler(getattr(self, name.lower()))

    def begin(self, context):
        """Metadata goes back as it came; the end of the call is told, whoever has ended it."""
        got = dict(context.invocation_metadata())
        ended = threading.Event()
        context.add_callback(lambda: (self.hear(time.monotonic()), ended.set()))
        context.send_initial_metadata([(k, got[k]) for k in got if k == ECHO[0][0]])
        context.set_trailing_metadata([(k, got[k]) for k in got if k == ECHO[1][0]])
        return ended

    def obey(self, data, context, ended):
        line = data.partition(b"\n")[0]
        word, _, rest = line.partition(b" ")
        if word == b"size":
            return bytes(int(rest))
        if word == b"status":
            number, _, details = data[len("status ") :].partition(b" ")
            code = next(c for c in grpc.StatusCode if c.value[0] == int(number))
            context.abort(code, details.decode().removesuffix("\n"))
        if word == b"sleep":
            ended.wait(30)
        return data

    def unary(self, data, context):
        ended = self.begin(context)
        reply = self.obey(data, context, ended)
        return reply

    def collect(self, messages, context):
        self.begin(context)
        reply = b"%d" % sum(len(m) for m in messages)
        return reply

    def spread(self, data, context):
        self.begin(context)
        for size in data.partition(b"\n")[0].split(b","):
            yield bytes(int(size))

    def talk(self, messages, context):
        ended = self.begin(context)
        for data in messages:
            yield self.obey(data, context, ended)


class PythonServer:
    def __init__(self, options=(), threads=64):
        self.heard = queue.Queue()  # times at which calls ended
        self.server = grpc.server(
            futures.ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0), *options]
        )
        self.server.add_generic_rpc_handlers((Service(self.heard.put),))
        self.endpoint = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def close(self):
        self.server.stop(None).wait()


class PythonClient:
    def run(self, target, case):
        with grpc.insecure_channel(target, options=OPTIONS) as channel:
            return self.call(channel, case)

    def call(self, channel, case):
        kind = KINDS[case["method"]]
        path = f"/{case.get('service', SERVICE)}/{case['method']}"
        answered = threading.Semaphore(0)
        over = threading.Event()
        patience = scaled(20)

        def messages():
            for line, size in case["send"]:
                yield message(line, size)
                if case.get("lockstep"):
                    answered.acquire(timeout=patience)
            if case.get("is_open"):
                over.wait(patience)

        metadata = [(k, bytes.fromhex(v) if k.endswith("-bin") else v) for k, v in case.get("metadata", [])]
        timeout = case["timeout_ms"] / 1000 if "timeout_ms" in case else patience
        start = getattr(channel, kind)(path)
        if kind.endswith("_unary"):
            start = start.future
        asks = messages() if kind.startswith("stream") else message(*case["send"][0])
        call = start(asks, metadata=metadata, timeout=timeout)
        outcome = {"replies": []}

        def cancel():
            outcome["cancelled_at"] = time.monotonic()
            call.cancel()

        if case.get("cancel") == "begin":
            call.initial_metadata()
            cancel()
        try:
            for reply in [call.result()] if kind.endswith("_unary") else call:
                outcome["replies"].append(text(reply))
                answered.release()
                if case.get("cancel") == "first":
                    cancel()
        except (grpc.RpcError, grpc.FutureCancelledError):
            pass
        over.set()
        code = call.code()

        def known(pairs):
            return [
                [k, v.hex() if isinstance(v, bytes) else v]
                for k, v in pairs or ()
                if k.startswith("x-grpc-test")
            ]

        outcome |= {"code": code.value[0], "details": call.details()}
        if not case.get("cancel"):
            outcome |= {"initial": known(call.initial_metadata()), "trailing": known(call.trailing_metadata())}
        return outcome

    def close(self):
        pass


# grpc-js.


class NodeProcess:
    """Lines of JSON in and out."""

    def __init__(self, mode):
        install()
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            ["node", str(ROOT / "tests" / "node" / "grpc_interop.js"), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=NODE,
            text=True,
        )
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.take(json.loads(line))

    def take(self, said):
        self.lines.put(said)

    def ask(self, question, timeout=30):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.lines.get(timeout=scaled(timeout))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(scaled(PATIENCE))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.thread.join()
        self.process.stdout.close()


class NodeServer(NodeProcess):
    def __init__(self):
        self.heard = queue.Queue()
        super().__init__("server")
        self.endpoint = f"127.0.0.1:{self.lines.get(timeout=scaled(20))['port']}"

    def take(self, said):
        if "ended" in said:
            self.heard.put(said["ended"])
        else:
            self.lines.put(said)


class NodeClient(NodeProcess):
    def __init__(self):
        super().__init__("client")

    def run(self, target, case):
        outcome = self.ask({"target": target, "case": {**case, "kind": KINDS[case["method"]]}})
        assert "failure" not in outcome, outcome["failure"]
        return outcome
