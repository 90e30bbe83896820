"""Programs that weir starts: configurations with them, and what of them is there."""

import os
from pathlib import Path

from .env import PATIENCE, free_port, wait_for
from .weir import base_config, children, merged

PYTHON = "/usr/bin/python3"

# An HTTP server that serves where it is told to. What it answers names its process; /die ends it.
ENGINE = """
import http.server, os, signal, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        text = f"{os.getpid()} {os.environ['WEIR_INSTANCE']} {os.environ.get('COLOUR')}".encode()
        self.send_response(200 if self.path != "/never" else 503)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
server = Server((os.environ["WEIR_HOST"], int(os.environ["WEIR_PORT"])), Handler)
print("now listening", flush=True)
if len(sys.argv) > 1 and float(sys.argv[1]):
    threading.Timer(float(sys.argv[1]), os._exit, [3]).start()
server.serve_forever()
"""


def exec_config(directory, command, *, process=None, pipeline=None, route=None, server=None):
    """One pipeline that runs @command for each request."""
    config = base_config(directory, [])
    config["server"] = merged(config["server"], server)
    config["pipeline"][0] = merged(
        {"name": "up", "protocol": "exec", "process": merged({"command": command}, process)}, pipeline)
    config["route"][0] = merged(config["route"][0], route)
    return config


def engine_config(directory, *, argv=(), process=None, pipeline=None, server=None, port=None, code=ENGINE):
    """One pipeline with a supervised engine behind it."""
    program = Path(directory) / "engine.py"
    program.write_text(code)
    config = base_config(directory, [f"127.0.0.1:{port or free_port()}"])
    config["server"] = merged(config["server"], server)
    config["pipeline"][0] = merged(config["pipeline"][0], {
        "process": merged({"command": [PYTHON, "-S", str(program), *map(str, argv)]}, process)})
    config["pipeline"][0] = merged(config["pipeline"][0], pipeline)
    return config


def pids_with(token):
    """The processes that have @token in their command line, but for ours."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if token.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def await_none(token, timeout=PATIENCE):
    wait_for(f"no process has {token!r}", lambda: not pids_with(token), timeout)


def descendants(pid):
    """All of them, the nearest first."""
    found, at = [pid], 0
    while at < len(found):
        found += children(found[at])
        at += 1
    return found[1:]


def named(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def nursery(w):
    """The pid of a weir's nursery."""
    return wait_for("there is a nursery",
                    lambda: [p for p in descendants(w.pid) if named(p) == "weir-nursery"])[0]


def minders(w):
    return [p for p in descendants(w.pid) if named(p) == "weir-minder"]


def process_of(w, pipeline="up"):
    """What /status says of its process."""
    return next(p for p in w.status()["pipelines"] if p["name"] == pipeline)["process"]
