"""The rows of bench: what is asked of the proxies, and how."""

import proxies


class Wrk:
    """A row that wrk loads, because loadgen speaks no TLS: @path over .tls_port, and options."""

    def __init__(self, path, *options):
        self.path, self.options = path, options


# What it is, the kind of traffic (proxies.py), options of the load generator.
ROWS = {
    "small": ("keepalive, 13 B, 64 conns", "http1", ["--bytes", 13]),
    "small-1000": ("keepalive, 13 B, 1,000 conns", "http1",
                   ["--bytes", 13, "--connections", 1000]),
    "small-8000": ("keepalive, 13 B, 8,000 conns", "http1",
                   ["--bytes", 13, "--connections", 8000]),
    "64k": ("64 KiB response", "http1", ["--path", "/bytes/65536", "--bytes", 65536]),
    "post": ("16 KiB POST", "http1", ["--post", 16384, "--bytes", 13, "--path", "/post"]),
    "new": ("new connection per request", "http1", ["--new", "--bytes", 13]),
    "tls": ("TLS, keepalive, 13 B, 64 conns", "tls", Wrk("/bytes/13")),
    "tls-64k": ("TLS, 64 KiB response", "tls", Wrk("/bytes/65536")),
    "tls-new": ("TLS, a handshake per request", "tls", Wrk("/bytes/13", "-H", "Connection: close")),
    "h2": ("HTTP/2 to HTTP/1.1, 13 B, 8 x 32 streams", "h2", ["--path", "/bytes/13", "--bytes", 13]),
    "grpc": ("gRPC unary, 8 x 32 streams", "grpc", ["--grpc", "--path", "/load.Engine/Unary"]),
    "grpc-stream": ("gRPC, 100 messages down", "grpc",
                    ["--grpc", "--path", "/load.Engine/Stream100", "--messages", 100]),
    "grpc-echo": ("gRPC, 10 messages there and back", "grpc",
                  ["--grpc", "--path", "/load.Engine/Echo", "--messages", 10, "--echo"]),
    "handler-1": ("a handler that does nothing, 1 conn", "handlers", ["--bytes", 13, "--connections", 1]),
    "handler-8": ("a handler that does nothing, 8 conns", "handlers", ["--bytes", 13, "--connections", 8]),
    "handler-64": ("a handler that does nothing, 64 conns", "handlers", ["--bytes", 13]),
}
# What weir may take of the CPU that the best peer takes for the same.
BARS = {"small": 0.8, "small-1000": 0.7, "64k": 0.82, "post": 0.85, "new": 0.78, "tls-64k": 1, "tls-new": 1,
        "h2": 0.85, "grpc": 0.8}
# What a handler may add to a request, in us of CPU.
HANDLER_BARS = {"handler-1": 8, "handler-8": 2.5, "handler-64": 2.5}


def loadgen_of(row):
    return "h2loadgen" if ROWS[row][1] in proxies.HTTP2_KINDS else "loadgen"


def engine_of(row):
    return "h2engine" if ROWS[row][1] == "grpc" else "engine"
