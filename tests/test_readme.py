"""What README.md tells its readers to type works.

Every fenced ```sh block is run, in order, in one scratch folder that looks like the repository (its files
are linked there), with weir on the PATH. A comment in the line above a block, which readers do not see,
says how:

    (no comment)                            the whole block runs under `bash -e` and must succeed
    <!-- test: background ready=URL -->     its last command keeps running until the end or until the next
                                            background block; goes on when URL answers, with any status
    <!-- test: known -->                    is not run (it would run these tests); its command must exist:
                                            a file, and in the help of ./dev when it is a command of that
    <!-- test: file=NAME -->                before a block of any language: writes it to NAME

An sh block that is neither run nor known cannot be written. Where that is allowed (as root) the commands
have a network of their own, so that the ports in the README are free.
"""
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
READY_SECONDS = 120
RUN_SECONDS = 60

FENCE = re.compile(
    r"^(?:<!-- *test: *(?P<how>[^\n]*?) *-->\n\n?)?"
    r"^(?P<fence>```+|~~~+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.M | re.S)


class Block:
    def __init__(self, match, text):
        self.line = text.count("\n", 0, match.start("fence")) + 1
        self.language = match["language"].strip()
        self.text = match["text"]
        words = (match["how"] or "run").split()
        self.how = words[0].partition("=")[0]
        self.options = dict(word.partition("=")[::2] for word in words)


def blocks(text):
    """The blocks that matter: sh ones and files. Raises ValueError for one that says nonsense."""
    for match in FENCE.finditer(text):
        block = Block(match, text)
        is_shell = block.language in ("sh", "bash", "shell", "console")
        if is_shell and block.language != "sh":
            raise ValueError(f"line {block.line}: write ```sh, not ```{block.language}")
        if is_shell and block.how not in ("run", "background", "known", "file"):
            raise ValueError(f"line {block.line}: 'test: {block.how}' means nothing")
        if block.how == "background" and "ready" not in block.options:
            raise ValueError(f"line {block.line}: background needs ready=URL")
        if is_shell or block.how == "file":
            yield block


def private_network():
    """A running process whose network namespace is ours alone, or None."""
    if os.geteuid() != 0:
        return None
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if holder.stdout.readline() == "up\n":
        return holder
    holder.wait()
    return None


class Shell:
    """Runs blocks in @folder."""

    def __init__(self, folder, path):
        self.folder = folder
        self.environment = dict(os.environ, PATH=f"{path}:{os.environ['PATH']}")
        self.log = folder / "background.log"
        self.background = None
        self.network = private_network()
        self.enter = ["nsenter", "-n", "-t", str(self.network.pid)] if self.network else []

    def start(self, text):
        self.stop()
        with open(self.log, "wb") as log:
            self.background = subprocess.Popen(
                [*self.enter, "bash", "-ec", text], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def await_ready(self, url, seconds=READY_SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.background.poll() is not None:
                pytest.fail(f"ended with {self.background.returncode} before {url} answered:\n{self.said()}")
            if self.answers(url):
                return
            time.sleep(0.1)
        pytest.fail(f"{url} did not answer within {seconds} s:\n{self.said()}")

    def answers(self, url):
        if self.enter:
            return subprocess.run([*self.enter, "curl", "-sk", "--noproxy", "*", "-m", "2", "-o", "/dev/null", url],
                                  check=False).returncode == 0
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(url, timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def run(self, text):
        return subprocess.run([*self.enter, "bash", "-ec", text], cwd=self.folder, env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=RUN_SECONDS, check=False)

    def said(self):
        return self.log.read_text(errors="replace")[-5000:]

    def stop(self):
        if self.background is None:
            return
        background, self.background = self.background, None
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(background.pid, number)
                background.wait(15)
                return
            except ProcessLookupError:
                background.wait()
                return
            except subprocess.TimeoutExpired:
                pass

    def close(self):
        self.stop()
        if self.network:
            self.network.kill()
            self.network.wait()
            self.network.stdout.close()


@pytest.fixture
def shell(tmp_path):
    folder = tmp_path / "weir"
    folder.mkdir()
    for path in REPOSITORY.iterdir():
        (folder / path.name).symlink_to(path)
    shell = Shell(folder, pathlib.Path(os.environ.get("WEIR_BIN", REPOSITORY / "build" / "weir")).parent)
    yield shell
    shell.close()


def command_of(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [shlex.split(line, comments=True) for line in lines]


def is_known(words, folder):
    if shutil.which(words[0], path=f"{folder}:{os.environ['PATH']}") is None and not (folder / words[0]).is_file():
        return False
    if words[0] == "./dev" and len(words) > 1:
        text = subprocess.run([folder / "dev", "help"], capture_output=True, text=True, check=True).stdout
        return re.search(rf"^  {re.escape(words[1])}\b", text, re.M) is not None
    return True


def perform(block, shell):
    if block.how == "file":
        path = shell.folder / block.options["file"]
        path.unlink(missing_ok=True)  # a link to the real one
        path.write_text(block.text)
    elif block.how == "known":
        for words in command_of(block.text):
            assert is_known(words, shell.folder), f"README.md:{block.line}: no such command: {words}"
    elif block.how == "background":
        shell.start(block.text)
        shell.await_ready(block.options["ready"])
    else:
        done = shell.run(block.text)
        assert done.returncode == 0, (f"README.md:{block.line}: exit status {done.returncode}\n{block.text}\n"
                                      f"{done.stdout}\nbackground:\n{shell.said() if shell.background else ''}")


@pytest.mark.timeout(600)
@pytest.mark.skipif(not (REPOSITORY / "proxy" / "main.c").exists(), reason="there is no weir to run yet")
def test_every_command_in_the_readme_works(shell):
    for block in blocks((REPOSITORY / "README.md").read_text()):
        perform(block, shell)


def test_the_readme_names_the_two_commands():
    commands = [words for block in blocks((REPOSITORY / "README.md").read_text())
                if block.language == "sh" for words in command_of(block.text)]
    assert ["./dev", "run"] in commands
    assert ["./dev", "test"] in commands


# --- This test can fail ----------------------------------------------------------------------------------

def run_text(text, shell):
    for block in blocks(text):
        perform(block, shell)


def test_a_command_that_fails_is_noticed(shell):
    run_text("```sh\ntrue\n```\n", shell)
    with pytest.raises(AssertionError, match="README.md:4: exit status 1"):
        run_text("one\n\n\n```sh\nfalse\ntrue\n```\n", shell)


def test_what_is_unknown_is_noticed(shell):
    run_text("<!-- test: known -->\n```sh\n./dev test   # all\n```\n", shell)
    for command in ("./dev tset", "./devel", "no-such-program-anywhere"):
        with pytest.raises(AssertionError, match="no such command"):
            run_text(f"<!-- test: known -->\n```sh\n{command}\n```\n", shell)


def test_files_stay_in_the_scratch_folder(shell):
    before = (REPOSITORY / "README.md").read_text()
    run_text("<!-- test: file=README.md -->\n```toml\na = 1\n```\n\n```sh\ngrep -q '^a = 1$' README.md\n```\n", shell)
    assert (REPOSITORY / "README.md").read_text() == before


SERVER = "<!-- test: background ready=http://127.0.0.1:{port}/ -->\n```sh\n{command}\n```\n\n"


def test_a_server_is_awaited_and_lives_until_the_next(shell):
    run_text(SERVER.format(port=18437, command="sleep 0.3; exec /usr/bin/python3 -m http.server 18437")
             + "```sh\ncurl -sf --noproxy '*' http://127.0.0.1:18437/\n```\n", shell)
    first = shell.background
    shell.start("exec sleep 60")
    assert first.poll() is not None


def test_a_server_that_dies_is_noticed(shell):
    with pytest.raises(pytest.fail.Exception, match="ended with 3 before"):
        run_text(SERVER.format(port=18438, command="echo no such luck; exit 3"), shell)
    assert "no such luck" in shell.said()


def test_a_server_that_never_answers_is_noticed(shell):
    shell.start("exec sleep 60")
    with pytest.raises(pytest.fail.Exception, match="did not answer within 0.3 s"):
        shell.await_ready("http://127.0.0.1:18439/", seconds=0.3)


@pytest.mark.parametrize("text", [
    "```bash\ntrue\n```\n",
    "<!-- test: skip -->\n```sh\ntrue\n```\n",
    "<!-- test: background -->\n```sh\ntrue\n```\n",
])
def test_a_block_that_would_not_be_tested_is_refused(text):
    with pytest.raises(ValueError):
        list(blocks(text))
