"""weir as a process: a file, a command line, ports, and what it says of itself."""

import glob
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .env import BINARY, PATIENCE, free_port, scaled, wait_for
from .wire import connect

SANITIZER = re.compile(
    r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|LeakSanitizer|runtime error:|ThreadSanitizer"
)

# No proxy setting of the surroundings may come between a test and loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http_get(url, timeout=PATIENCE):
    """(status, fields, body) of a GET, whatever the status."""
    try:
        with _opener.open(url, timeout=scaled(timeout)) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def environment():
    env = dict(os.environ)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=0")
    env.setdefault("TSAN_OPTIONS", "halt_on_error=0:second_deadlock_stack=1")
    env.pop("NOTIFY_SOCKET", None)
    return env


# TOML out of plain Python values.


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(str(value), ensure_ascii=False)


def _key(key):
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def toml(config):
    """Top-level dicts are tables, lists of dicts are arrays of tables; what is in them is inline."""
    out = []
    for name, value in config.items():
        for table in value if isinstance(value, list) else [value]:
            out.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            out += [f"{_key(k)} = {_value(v)}" for k, v in table.items()]
            out.append("")
    return "\n".join(out)


def merged(base, more):
    """@base with @more laid over it; inner tables are merged, None removes a key."""
    out = dict(base)
    for key, value in (more or {}).items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = value
    return out


class Sample:
    __slots__ = ("name", "labels", "value")

    def __init__(self, name, labels, value):
        self.name, self.labels, self.value = name, labels, value

    def __repr__(self):
        return f"{self.name}{self.labels} {self.value}"


class Metrics(list):
    LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?\Z")
    LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')

    @classmethod
    def parse(cls, text):
        self = cls()
        self.text = text
        self.types = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.types[name] = kind
            if not line or line.startswith("#"):
                continue
            match = cls.LINE.match(line)
            assert match, f"metrics line {line!r}"
            labels = {
                k: v.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
                for k, v in cls.LABEL.findall(match[2] or "")
            }
            self.append(Sample(match[1], labels, float(match[3])))
        return self

    def all(self, name, **labels):
        return [s for s in self if s.name == name and all(s.labels.get(k) == v for k, v in labels.items())]

    def sum(self, name, **labels):
        """0 when there is no such series: sparse ones are left out while they are 0."""
        return sum(s.value for s in self.all(name, **labels))

    def names(self):
        return set(self.types)


def children(pid):
    """The pids of a process's children, those of a thread oldest first; none when it is gone. The kernel may leave one
    out while another ends (proc_pid_task(5)), so it is asked until it says the same twice."""
    before = None
    while True:
        now = []
        for path in sorted(glob.glob(f"/proc/{pid}/task/*/children")):
            try:
                now += map(int, Path(path).read_text().split())
            except OSError:  # that thread, or all of them, have gone
                pass
        if now == before:
            return now
        before = now


class Weir:
    """A running weir. Its files live in @directory."""

    def __init__(self, config, directory, *, command="run", limit_nofile=None, args=(), wait=True,
                 binary=BINARY, env=None, pass_fds=(), prepare=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.file = self.directory / "weir.toml"
        self.stderr_path = self.directory / "stderr"
        self.access_path = self.directory / "access.log"
        self.clients = []
        self.must_be_clean = True
        self.expect_status = 0
        if config is not None:
            self.text = config if isinstance(config, str) else toml(config)
            self.file.write_text(self.text, encoding="utf-8")
        self.ports = {}
        self.admin_port = None
        if isinstance(config, dict):
            for listener in config.get("listener", []):
                address = listener["listen"]
                if not address.startswith("unix:"):
                    self.ports[listener["name"]] = int(address.rpartition(":")[2])
            if "admin" in config:
                self.admin_port = int(config["admin"]["listen"].rpartition(":")[2])
        argv = [str(binary), command, *([str(self.file)] if config is not None else []), *args]

        def limit():
            import resource

            if limit_nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit_nofile, limit_nofile))

        with open(self.stderr_path, "wb") as err, open(self.directory / "stdout", "wb") as out:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**environment(), **(env or {})},
                cwd=self.directory,
                preexec_fn=prepare or (limit if limit_nofile else None),
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.pid = self.process.pid
        if wait and self.admin_port:
            self.await_ready()

    # Coming up and going down.

    def await_ready(self, timeout=PATIENCE):
        def is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"weir ended with {self.process.returncode} at start:\n{self.log()}")
            try:
                return self.admin("/readyz")[0] == 200
            except OSError:
                return False

        wait_for("weir is ready", is_ready, timeout)

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def await_exit(self, timeout=PATIENCE):
        try:
            return self.process.wait(scaled(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"weir is still there {scaled(timeout):.1f} s later; it said:\n{self.log()[-3000:]}"
            ) from None

    def is_running(self):
        return self.process.poll() is None

    def stop(self):
        """Ends it, if nobody has, and judges how it went."""
        for client in self.clients:
            client.close()
        if self.is_running():
            self.signal()
            try:
                self.await_exit(20)
            except AssertionError:
                self.process.send_signal(signal.SIGABRT)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                raise
        if self.must_be_clean:
            found = SANITIZER.search(self.log())
            assert not found, f"sanitizer report:\n{self.log()[max(0, found.start() - 200):][:8000]}"
            assert self.process.returncode == self.expect_status, (
                f"exit status {self.process.returncode}:\n{self.log()[-3000:]}"
            )

    # Clients.

    @property
    def port(self):
        return next(iter(self.ports.values()))

    def client(self, listener=None, **options):
        wire = connect(self.ports[listener] if listener else self.port, **options)
        self.clients.append(wire)
        return wire

    def url(self, path="/", listener=None):
        return f"http://127.0.0.1:{self.ports[listener] if listener else self.port}{path}"

    def exchange(self, data, method="GET"):
        """Sends @data on a new connection, reads one response and leaves."""
        with self.client() as client:
            client.send(data)
            return client.read_response(method)

    # What it says.

    def admin(self, path, timeout=PATIENCE):
        return http_get(f"http://127.0.0.1:{self.admin_port}{path}", timeout)

    def metrics(self):
        status, _, body = self.admin("/metrics")
        assert status == 200, f"/metrics: {status}"
        return Metrics.parse(body.decode())

    def status(self):
        status, fields, body = self.admin("/status")
        assert status == 200, f"/status: {status}"
        return json.loads(body)

    def await_metric(self, name, value, timeout=PATIENCE, **labels):
        """Counters are added up by the loops and may come a moment after the response."""
        return wait_for(
            f"{name}{labels} is {value}",
            lambda: self.metrics().sum(name, **labels) == value,
            timeout,
        )

    def log(self):
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def stdout(self):
        return (self.directory / "stdout").read_text(errors="replace")

    def access(self, path=None):
        path = Path(path or self.access_path)
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def await_access(self, n, path=None):
        def lines():
            path_ = Path(path or self.access_path)
            text = path_.read_text() if path_.exists() else ""
            whole = text[: text.rfind("\n") + 1].splitlines()
            return [json.loads(line) for line in whole] if len(whole) >= n else None

        return wait_for(f"{n} lines in the access log", lines)

    def variables_of(self, n):
        """What handlers have left in the access log for each of @n exchanges, in any order: each I/O thread
        writes its own lines."""
        return [line.get("variables") for line in self.await_access(n)]

    # What it uses: the process that serves, which the one that was started looks after.

    def gateways(self):
        """The pids of its gateway processes, oldest first."""
        return [pid for pid in children(self.pid) if self.role(pid) == b"gateway"]

    @staticmethod
    def role(pid):
        try:
            return (Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") + [b"", b""])[1]
        except OSError:
            return b""

    @property
    def gateway(self):
        pids = self.gateways()
        assert pids, "there is no gateway process"
        return pids[-1]

    def fds(self):
        """Open fds, but for the two pipes by which a sanitizer talks to its symbolizer (of a report that
        tests/tsan.supp then suppresses, too)."""
        pid = self.gateway
        symbolizers = sum(b"symbolizer" in Path(f"/proc/{child}/comm").read_bytes() for child in children(pid))
        return len(os.listdir(f"/proc/{pid}/fd")) - 2 * symbolizers

    def threads(self):
        return len(os.listdir(f"/proc/{self.gateway}/task"))

    def rss(self):
        """Resident bytes."""
        for line in Path(f"/proc/{self.gateway}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


def run_cli(*args, timeout=PATIENCE, cwd=None, limit_nofile=None):
    """One run of the binary to its end: (status, stdout, stderr)."""

    def prepare():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (limit_nofile, limit_nofile))

    done = subprocess.run(
        [str(BINARY), *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=scaled(timeout),
        env=environment(),
        cwd=cwd,
        preexec_fn=prepare if limit_nofile else None,
    )
    err = done.stderr.decode(errors="replace")
    found = SANITIZER.search(err)
    assert not found, f"sanitizer report:\n{err}"
    return done.returncode, done.stdout.decode(errors="replace"), err


def base_config(directory, endpoints, *, threads=2):
    """One listener, one pipeline, one route for everything: what most tests start from."""
    return {
        "server": {"threads": threads, "drain": {"shutdown": "3s"}},
        # A test machine may be late without being overloaded; test_overload.py and test_queue.py turn this on.
        "admission": {"shed_at": {"loop_lag": 0}},
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "log": {"level": "debug", "access": str(Path(directory) / "access.log")},
        "listener": [{"name": "http", "listen": f"127.0.0.1:{free_port()}"}],
        "pipeline": [{"name": "up", "endpoints": list(endpoints), "queue": {"target": 0}}],
        "route": [{"name": "all", "listener": "http", "match": {}, "pipeline": "up"}],
    }
