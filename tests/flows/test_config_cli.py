"""The command line, and what weir says of a file that will not do."""

import re
import socket

import pytest
from harness.env import free_port
from harness.weir import Weir, base_config, run_cli, toml

GOOD = """\
[server]
threads = 2

[admission]
fd_reserve = 50

[admin]
listen = "127.0.0.1:9901"

[[listener]]
name = "http"
listen = "127.0.0.1:8080"

[[pipeline]]
name = "up"
endpoints = ["127.0.0.1:8090"]
queue = { size = 256, max_wait = "2s" }

[[route]]
listener = "http"
match = { path = "/" }
priority = "critical"
pipeline = "up"
"""


def check(tmp_path, text, **options):
    file = tmp_path / "weir.toml"
    file.write_text(text, encoding="utf-8") if isinstance(text, str) else file.write_bytes(text)
    return run_cli("check", file, **options)


def faults(tmp_path, text):
    """The errors of `weir check`, as (line, column, rest); status 2 is asserted."""
    status, out, err = check(tmp_path, text)
    assert status == 2, f"status {status}\n{out}{err}"
    found = re.findall(r"^\S*weir\.toml:(\d+):(\d+): (.*)$", err, re.M)
    assert found, f"no error with a position in:\n{err}"
    lines = text.splitlines()
    for line, column, _ in found:
        assert 1 <= int(line) <= len(lines) + 1
        assert int(column) >= 1
        if int(line) <= len(lines):
            assert int(column) <= len(lines[int(line) - 1]) + 1
    return [(int(line), int(column), rest) for line, column, rest in found]


def line_of(text, part):
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_good_file_passes_and_its_limits_are_printed(tmp_path):
    status, out, err = check(tmp_path, GOOD)
    assert status == 0, err
    assert "http" in out and "up" in out
    assert re.search(r"fd", out, re.I), "the fd sum is printed"


def test_check_opens_no_sockets(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        text = GOOD.replace("127.0.0.1:8080", f"127.0.0.1:{busy.getsockname()[1]}")
        assert check(tmp_path, text)[0] == 0


@pytest.mark.parametrize(
    "old,new,words",
    [
        ("size = 256", 'size = "lots"', ["queue.size", "lots", "integer"]),
        ("size = 256", "size = nan", ["queue.size", "integer"]),
        ("size = 256", "size = 2.5", ["queue.size", "integer"]),
        ("size = 256", "size = -1", ["queue.size", "-1"]),
        ("size = 256", "size = 9223372036854775807", ["queue.size"]),
        ('max_wait = "2s"', 'max_wait = "2 parsecs"', ["max_wait", "2 parsecs"]),
        ('max_wait = "2s"', "max_wait = 2", ["max_wait"]),
        ('max_wait = "2s"', 'max_wait = "-2s"', ["max_wait"]),
        ('max_wait = "2s"', 'max_wait = "99999999999999h"', ["max_wait"]),
        ('max_wait = "2s"', 'max_wait = ""', ["max_wait"]),
        ('max_wait = "2s"', 'max_wait = "NaNs"', ["max_wait"]),
        ("queue = {", "queu = {", ["queu", "queue"]),
        ("max_wait =", "maxwait =", ["maxwait", "max_wait"]),
        ("threads = 2", "thread = 2", ["thread", "threads"]),
        ("threads = 2", "threads = 0", ["threads"]),
        ("threads = 2", 'threads = "many"', ["threads", "many"]),
        ("[admin]", "[admn]", ["admn", "admin"]),
        ('listen = "127.0.0.1:8080"', 'listen = "127.0.0.1:99999"', ["listen", "99999"]),
        ('listen = "127.0.0.1:8080"', 'listen = "127.0.0.1"', ["listen", "127.0.0.1"]),
        ('listen = "127.0.0.1:8080"', "listen = 8080", ["listen"]),
        ('listen = "127.0.0.1:8080"', 'listen = "127.0.0.1:9901"', ["9901"]),
        ('endpoints = ["127.0.0.1:8090"]', "endpoints = []", ["endpoints"]),
        ('endpoints = ["127.0.0.1:8090"]', 'endpoints = ["127.0.0.1"]', ["endpoints"]),
        ('endpoints = ["127.0.0.1:8090"]', "", ["endpoints"]),
        ('pipeline = "up"', 'pipeline = "upp"', ["upp", "up"]),
        ('listener = "http"', 'listener = "htp"', ["htp", "http"]),
        ('match = { path = "/" }', 'match = { path = "nothing" }', ["path", "nothing"]),
        ('match = { path = "/" }', 'match = { path = "/", exact = "/" }', ["exact"]),
        ('match = { path = "/" }', 'match = { pth = "/" }', ["pth", "path"]),
        ("fd_reserve = 50", "shed_at = { fds = nan }", ["shed_at.fds", "share"]),
        ("fd_reserve = 50", "shed_at = { fds = 95 }", ["shed_at.fds", "0.10 to 1.00"]),
        ("fd_reserve = 50", 'memory = "1MiB"', ["admission.memory", "16MiB"]),
        ("fd_reserve = 50", 'memory = "auto mem"', ["admission.memory", "auto"]),
        ('priority = "critical"', 'priority = "high"', ["priority", "critical"]),
        ('name = "up"', 'name = ""', ["name"]),
        ('name = "up"', "", ["name"]),
    ],
)
def test_a_setting_is_refused_with_its_place(tmp_path, old, new, words):
    assert old in GOOD
    text = GOOD.replace(old, new)
    found = faults(tmp_path, text)
    if new:
        line = line_of(GOOD, old.splitlines()[0])
        mine = [rest for at, _, rest in found if at == line]
        assert mine, f"expected an error on line {line}: {found}"
        for word in words:
            assert any(word in rest for rest in mine), f"{word!r} is not in {mine}"
    else:
        assert any(words[0] in rest for _, _, rest in found)


def test_a_suggestion_is_made_for_a_slip(tmp_path):
    text = GOOD.replace("max_wait =", "max_wiat =")
    _, _, err = check(tmp_path, text)
    assert re.search(r"did you mean .?max_wait", err)


def test_what_was_found_and_what_was_expected_is_said(tmp_path):
    [(_, _, rest)] = faults(tmp_path, GOOD.replace("size = 256", 'size = "lots"'))
    assert "found" in rest and "expected" in rest


def test_all_errors_are_printed(tmp_path):
    text = (
        GOOD.replace("threads = 2", 'threads = "x"')
        .replace("size = 256", "size = -1")
        .replace('max_wait = "2s"', 'max_wait = "soon"')
        .replace('pipeline = "up"', 'pipeline = "down"')
    )
    found = faults(tmp_path, text)
    assert len(found) == 4, found
    assert [f[0] for f in found] == sorted(f[0] for f in found), "in the order of the file"


DOUBLE = {
    "two pipelines": '\n[[pipeline]]\nname = "up"\nendpoints = ["127.0.0.1:1"]\n',
    "two listeners": '\n[[listener]]\nname = "http"\nlisten = "127.0.0.1:8081"\n',
    "two listeners on one address": '\n[[listener]]\nname = "twin"\nlisten = "127.0.0.1:8080"\n',
    "two routes of one name": (
        '\n[[route]]\nname = "r"\nmatch = { path = "/a" }\npipeline = "up"\n'
        '[[route]]\nname = "r"\nmatch = { path = "/b" }\npipeline = "up"\n'
    ),
}


@pytest.mark.parametrize("more", DOUBLE.values(), ids=DOUBLE.keys())
def test_doubles_are_refused(tmp_path, more):
    faults(tmp_path, GOOD + more)


BROKEN = {
    "no TOML": GOOD + "this is not toml\n",
    "an open string": GOOD.replace('name = "up"', 'name = "up'),
    "a key twice": GOOD.replace("threads = 2", "threads = 2\nthreads = 3"),
    "a table twice": GOOD + "\n[server]\nthreads = 1\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_broken_toml_is_refused_with_its_place(tmp_path, text):
    faults(tmp_path, text)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"\x00\x00", b"[server]\nthreads = 1\n"])
def test_a_file_with_nothing_to_serve_is_refused(tmp_path, text):
    status, _, err = check(tmp_path, text)
    assert status == 2 and err.strip()


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for command in ("check", "run"):
        status, _, err = run_cli(command, tmp_path / "nowhere.toml")
        assert status == 2
        assert "nowhere.toml" in err and "No such file" in err


def test_a_directory_is_no_file(tmp_path):
    status, _, err = run_cli("check", tmp_path)
    assert status == 2 and str(tmp_path) in err


def test_limits_above_the_fd_limit_are_refused(tmp_path):
    text = GOOD.replace("fd_reserve = 50", "fd_reserve = 50\nmax_connections = 100000")
    status, _, err = check(tmp_path, text, limit_nofile=256)
    assert status == 2
    assert "max_connections" in err and "256" in err


def test_derived_limits_fit_a_small_fd_limit(tmp_path):
    status, out, err = check(tmp_path, GOOD, limit_nofile=256)
    assert status == 0, err


def run_to_failure(tmp_path, config):
    """`weir run` with a file that cannot be served: what it says."""
    file = tmp_path / "weir.toml"
    file.write_text(toml(config))
    status, out, err = run_cli("run", file, timeout=20)
    assert status == 2, f"status {status}\n{err}"
    return err


@pytest.mark.parametrize("what", ["listener", "admin"])
def test_a_busy_port_is_an_error_at_start(tmp_path, what):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        config = base_config(tmp_path, ["127.0.0.1:1"])
        table = config["listener"][0] if what == "listener" else config["admin"]
        table["listen"] = f"127.0.0.1:{port}"
        err = run_to_failure(tmp_path, config)
    assert str(port) in err and "in use" in err


def test_a_second_weir_on_the_same_port_is_refused(weir, serve, tmp_path):
    """SO_REUSEPORT must not hide it."""
    first = weir(serve())
    config = base_config(tmp_path, ["127.0.0.1:1"])
    config["listener"][0]["listen"] = f"127.0.0.1:{first.port}"
    assert str(first.port) in run_to_failure(tmp_path, config)


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(weir, serve, tmp_path):
    path = tmp_path / "front.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    upstream = serve()
    config = base_config(tmp_path, [upstream.endpoint])
    config["listener"][0]["listen"] = f"unix:{path}"
    weir(config=config)
    other = base_config(tmp_path, [upstream.endpoint])
    other["listener"][0]["listen"] = f"unix:{path}"
    (tmp_path / "second").mkdir()
    assert str(path) in run_to_failure(tmp_path / "second", other)


def test_a_name_that_does_not_resolve_is_an_error_at_start(tmp_path, names):
    config = base_config(tmp_path, ["nowhere.test:80"])
    config["server"]["resolver"] = names.address
    assert "nowhere.test" in run_to_failure(tmp_path, config)


def test_a_silent_name_server_does_not_hang_the_start(tmp_path, names):
    names.is_silent = True
    config = base_config(tmp_path, ["nowhere.test:80"])
    config["server"]["resolver"] = names.address
    assert "nowhere.test" in run_to_failure(tmp_path, config)


def test_an_address_that_is_not_ours_is_an_error_at_start(tmp_path):
    config = base_config(tmp_path, ["127.0.0.1:1"])
    config["listener"][0]["listen"] = f"192.0.2.1:{free_port()}"
    assert "192.0.2.1" in run_to_failure(tmp_path, config)


def test_a_log_that_cannot_be_written_is_an_error_at_start(tmp_path):
    config = base_config(tmp_path, ["127.0.0.1:1"])
    config["log"]["access"] = str(tmp_path / "no" / "such" / "directory" / "access.log")
    assert "access.log" in run_to_failure(tmp_path, config)


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["check", "--help"], ["demo", "--help"], ["status", "--help"]])
def test_help_is_help_and_no_error(args):
    status, out, err = run_cli(*args)
    assert status == 0 and err == ""
    assert "usage" in out.lower() and "weir" in out
    if args == ["--help"]:
        for command in ("run", "check", "demo", "status"):
            assert command in out


@pytest.mark.parametrize("args", [["--version"], ["run", "--version"]])
def test_version_is_told(args):
    status, out, _ = run_cli(*args)
    assert status == 0
    assert re.match(r"weir \d+\.\d+\.\d+", out)


@pytest.mark.parametrize(
    "args",
    [[], ["fly"], ["chekc", "x"], ["--fly"], ["run"], ["check"], ["run", "--fly", "x"], ["run", "a", "b"], ["check", "a", "b"]],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_is_status_2(args):
    status, out, err = run_cli(*args)
    assert status == 2
    assert err.strip(), "and it says why"
    if args and args[0] not in ("run", "check"):
        assert args[0] in err


def test_an_unknown_command_gets_a_suggestion():
    _, _, err = run_cli("chekc", "x")
    assert "check" in err


def test_status_of_nobody_is_status_1(tmp_path):
    status, _, err = run_cli("status", "--admin", f"127.0.0.1:{free_port()}")
    assert status == 1 and err.strip()


def test_a_derived_configuration_serves_under_a_small_fd_limit(tmp_path, serve):
    upstream = serve()
    weir = Weir(base_config(tmp_path, [upstream.endpoint]), tmp_path / "small", limit_nofile=128)
    try:
        from harness.wire import request

        assert weir.exchange(request()).status == 200
        assert weir.metrics().sum("weir_fd_limit") == 128
    finally:
        weir.stop()


def test_more_metric_series_than_can_be_had_are_an_error_at_start(tmp_path):
    text = "".join(f'[[listener]]\nname = "l{i}"\nlisten = "127.0.0.1:{free_port()}"\n' for i in range(20))
    text += '[[pipeline]]\nname = "up"\nendpoints = ["127.0.0.1:9"]\n'
    text += "".join(f'[[route]]\nname = "r{i}"\nmatch = {{ path = "/r{i}" }}\npipeline = "up"\n' for i in range(1000))
    file = tmp_path / "weir.toml"
    file.write_text('[admin]\nlisten = "off"\n' + text)
    code, _, err = run_cli("run", str(file))
    assert code == 2
    assert "metric series" in err and "name the listener" in err
