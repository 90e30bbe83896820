"""What the load scenarios share: ports, processes and their accounts, small HTTP, tables.

Processes are always ended by the pid that was started here. Accounts come from /proc and from the
kernel's per-process CPU clocks, and cover the whole tree below a process: a proxy may be a supervisor
with workers, and what it costs is what all of them cost.
"""

import ctypes
import http.client
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build"
PROFILED = ROOT / "build-release" / "weir"

# Below the range from which the kernel takes the ports of outgoing connections, so that no client
# can sit on a port between the probe and the server's own bind.
PORTS = range(20000, 32000)

PR_SET_PDEATHSIG = 1
CPUCLOCK_SCHED = 2

_libc = ctypes.CDLL(None, use_errno=True)
_ports_given = set()


class Failure(Exception):
    """A scenario could not be run (which is not the same as a bar that was missed)."""


# -- what to run -----------------------------------------------------------------------------------

def weir_bin():
    """The weir executable from $WEIR_BIN or build/weir; None when there is none."""
    path = Path(os.environ.get("WEIR_BIN") or BUILD / "weir")
    return path.resolve() if path.is_file() and os.access(path, os.X_OK) else None


# What each program of load/tools is made of.
TOOLS = {
    "bare": ["wire"],
    "engine": ["wire"],
    "loadgen": ["wire", "measure", "plan", "result"],
    "h2engine": ["wire", "h2wire"],
    "h2loadgen": ["wire", "measure", "plan", "result", "h2wire"],
}


def tool(name):
    """The path of a program of load/tools ("engine", "loadgen"), compiled when it is out of date.

    meson builds these too, with the options of its build directory; a sanitizer's build of the load
    generator would measure the load generator. So the scenarios always use this plain -O2 build.
    """
    parts = TOOLS[name]
    sources = [HERE / "tools" / f"{part}.c" for part in [name, *parts]]
    inputs = sources + [HERE / "tools" / f"{part}.h" for part in parts]
    program = BUILD / "load-tools" / name
    if program.exists() and program.stat().st_mtime > max(p.stat().st_mtime for p in inputs):
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g",
               "-o", str(fresh), *map(str, sources), "-lm"]
    if "h2wire" in parts:
        command.append("-lnghttp2")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"cannot compile {name}:\n{done.stderr}")
    fresh.replace(program)
    return program


def find_program(name):
    """A program of the system, also from the sbin directories; None when it is not installed."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")


def raise_fd_limit(wanted=None):
    """Raises the soft limit on open files to the hard one, checks that @wanted fit, returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if wanted and hard < wanted:
        raise Failure(f"{wanted} open files are needed, the limit is {hard}")
    return hard


# -- ports -----------------------------------------------------------------------------------------

def free_port():
    """A TCP port that nothing listens on, IPv4 or IPv6, wildcard or loopback.

    The probe binds what a server may bind (the IPv4 wildcard and the v6-only one apart) and also
    connects, because a listener on one address can stand beside a wildcard one with SO_REUSEPORT.
    """
    # Of several test processes each has ports of its own (tests/flows/harness/env.py).
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for _ in range(200 * workers):
        port = random.choice(PORTS)
        if port % workers == worker and port not in _ports_given and _is_free(port):
            _ports_given.add(port)
            return port
    raise Failure("no free port found")


def _is_free(port):
    with socket.socket() as probe:
        probe.settimeout(0.2)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError:
            if family == socket.AF_INET:  # there may be no IPv6 at all
                return False
    return True


TCP_STATES = {1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2",
              6: "TIME_WAIT", 7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN",
              11: "CLOSING", 12: "NEW_SYN_RECV"}


def tcp_sockets_to(port):
    """{near end: state} of the TCP sockets (of any process, or of none any more) whose far end is @port.

    A socket that its owner has closed but the kernel has not finished with is among them, which is
    why this looks at the kernel's table and not at a process's descriptors.
    """
    found = {}
    wanted = f":{port:04X}"
    with open("/proc/net/tcp") as table:
        for line in table:
            fields = line.split(None, 4)
            if fields[2].endswith(wanted):
                found[fields[1]] = TCP_STATES.get(int(fields[3], 16), fields[3])
    return found


# -- processes -------------------------------------------------------------------------------------

def pin(core):
    """Binds the calling process to one core."""
    os.sched_setaffinity(0, {core})


class Process:
    """A child of ours: started with its output in a file, pinned if wanted, ended by its pid.

    It gets SIGTERM when we die, so that an interrupted scenario leaves nothing behind. @nofile is its
    limit on open files, soft and hard; None: ours.
    """

    def __init__(self, argv, name=None, core=None, env=None, cwd=None, nofile=None):
        self.name = name or Path(argv[0]).name
        self.output = tempfile.TemporaryFile()
        us = os.getpid()

        def prepare():
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != us:
                os._exit(1)
            if core is not None:
                os.sched_setaffinity(0, {core})
            if nofile is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

        self.popen = subprocess.Popen(
            [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT, preexec_fn=prepare, env=env, cwd=cwd)
        self.pid = self.popen.pid

    def is_running(self):
        return self.popen.poll() is None

    def said(self, limit=4000):
        """The end of what the process wrote."""
        size = os.fstat(self.output.fileno()).st_size
        start = max(0, size - limit)
        return os.pread(self.output.fileno(), size - start, start).decode(errors="replace")

    def wait_until(self, is_ready, seconds=10.0):
        """Waits until is_ready() is true; raises Failure with the process's words otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.is_running():
                raise Failure(f"{self.name} ended with {self.popen.returncode}:\n{self.said()}")
            if is_ready():
                return self
            time.sleep(0.02)
        raise Failure(f"{self.name} is not ready after {seconds:g} s:\n{self.said()}")

    def stop(self, seconds=10.0):
        """SIGTERM, a wait, SIGKILL for whatever of the tree is left then. Returns the exit status,
        or None when it had to be killed."""
        known = {pid: _start_time(pid) for pid in self.tree()}
        if self.is_running():
            self.popen.send_signal(signal.SIGTERM)
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            self.popen.kill()
            self.popen.wait()
        for pid, started in known.items():
            if started is not None and pid != self.pid and _start_time(pid) == started:
                signal_process(pid, signal.SIGKILL)
                status = None
        self.output.close()
        return status

    def tree(self):
        """The pids of the process and of all that descend from it."""
        return process_tree(self.pid)

    def gateways(self):
        """Of a weir: the pids of its gateway processes, oldest first."""
        found = []
        for pid in self.tree()[1:]:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as line:
                    if b"\0gateway\0" in line.read():
                        found.append(pid)
            except OSError:
                pass
        return found

    def cpu_s(self):
        """User and system time of the living tree in seconds, exact to the moment."""
        return sum(process_cpu_s(pid) for pid in self.tree())

    def rss_bytes(self):
        return sum(process_rss_bytes(pid) for pid in self.tree())

    def fds(self):
        return sum(process_fds(pid) for pid in self.tree())


def process_tree(pid):
    """@pid and its descendants, from the kernel's lists of children."""
    pids, at = [pid], 0
    while at < len(pids):
        try:
            for task in os.listdir(f"/proc/{pids[at]}/task"):
                with open(f"/proc/{pids[at]}/task/{task}/children") as children:
                    pids += [int(child) for child in children.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
        at += 1
    return pids


def process_cpu_s(pid):
    """utime + stime of all threads, but in nanoseconds, from the process's CPU clock; 0 if gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) / 1e9
    except OSError:
        return 0.0


def process_cpu_ticks_s(pid):
    """The same from /proc/PID/stat, in ticks of 10 ms, to check the other against."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_rss_bytes(pid):
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError):
        return 0


def process_fds(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _start_time(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def signal_process(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# -- small clients ---------------------------------------------------------------------------------

def http_get(port, path, timeout=5.0, headers=None):
    """(status, fields, content) of one GET on a connection of its own; OSError as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()


def answers(port, path, status=200):
    """Whether a GET is answered with @status."""
    try:
        return http_get(port, path, timeout=1.0)[0] == status
    except OSError:
        return False


def is_listening(port):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run_loadgen(port, *options, core=None, seconds=60, program="loadgen"):
    """Runs a load generator, "loadgen" or "h2loadgen", to its end and returns its result."""
    argv = [str(tool(program)), *map(str, options), f"127.0.0.1:{port}"]
    if core is not None:
        argv = ["taskset", "-c", str(core), *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise Failure(f"{program}: {done.stderr.strip() or done.returncode}")
    return loadgen_result(done.stdout)


# A load generator that began more of its requests late than this was starved: what it has measured
# of the slowest hundredth is its own.
STARVED_SHARE = 0.01


def loadgen_result(text):
    """What a load generator has printed; says so when it was starved."""
    found = json.loads(text)
    if is_starved(found):
        late = found["late"]
        say(f"the load generator was starved: it began {late['share']:.1%} of its requests late, by up to "
            f"{late['max_us'] / 1000:,.0f} ms; times that it has measured are the machine's, not the proxy's")
    return found


def is_starved(found):
    """Whether the load generator whose result is @found had too little time to keep to its plan."""
    return found["late"]["share"] > STARVED_SHARE


# -- output ----------------------------------------------------------------------------------------

def quantile(values, share):
    """The value below which @share of all lie (nearest rank); nan for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(head, rows, left=1):
    """An aligned text table; the first @left columns are words, the others figures."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = [cell.ljust(width) if i < left else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(head, rows, left=1):
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, rule, *rows])


class Verdicts:
    """The bars of a scenario: what was measured against what is wanted.

    A time is not judged when the load generator that measured it was starved. @is_lenient: such a bar is
    as good as met, for forms that run on machines with other work; else it is missed.
    """

    def __init__(self, is_lenient=False):
        self.rows, self.is_lenient = [], is_lenient

    def add(self, part, what, measured, bar, is_met):
        self.rows.append((part, what, str(measured), bar, bool(is_met)))
        return is_met

    def add_time(self, part, what, measured, bar, is_met, *found):
        """@found: the results of the load generators that measured it."""
        if not any(map(is_starved, found)):
            return self.add(part, what, measured, bar, is_met)
        self.rows.append((part, what, str(measured), bar, None))
        return self.is_lenient

    def add_share(self, part, what, measured, bar, is_met, *found):
        """Of what was asked for. To be starved only spoils it, so a bar that is met is met."""
        if is_met:
            return self.add(part, what, measured, bar, True)
        return self.add_time(part, what, measured, bar, False, *found)

    def is_passed(self):
        return bool(self.rows) and all(self.is_lenient if row[4] is None else row[4] for row in self.rows)

    def text(self):
        words = {True: "pass", False: "FAIL", None: "not judged: the load generator was starved"}
        return table(["part", "what", "measured", "bar", ""],
                     [(*row[:4], words[row[4]]) for row in self.rows], left=5)

    def as_json(self):
        return [dict(zip(("part", "what", "measured", "bar", "is_met"), row)) for row in self.rows]


def write_json(path, value):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def say(text):
    print(text, file=sys.stderr, flush=True)
