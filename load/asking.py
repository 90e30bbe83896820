"""Clients for scenarios in which something happens to the proxy: they ask at a fixed rate, whatever the
answers do, and account for every request."""

import asyncio
import time

REQUEST = "GET {path} HTTP/1.1\r\nHost: load\r\n\r\n"


class Account:
    """.refused: connections not let in; .cut: requests sent and not answered whole; .wrong: answers
    other than 200; .late: how long the longest request took; .answered: when each answer came."""

    def __init__(self):
        self.refused = self.cut = self.wrong = 0
        self.late = 0.0
        self.answered = []
        self.under_way = 0

    def longest_gap(self):
        return max((b - a for a, b in zip(self.answered, self.answered[1:])), default=float("inf"))


async def read_answer(reader):
    """(status, may the connection be used again); IncompleteReadError when it ends early."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if "content-length" in fields:
        await reader.readexactly(int(fields["content-length"]))
    else:
        while size := int((await reader.readuntil(b"\r\n")), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return int(lines[0].split()[1]), fields.get("connection") != "close"


async def ask(port, path, account, period, first, end):
    """One client: a request each @period seconds from @first to @end, on a connection kept while it may."""
    connection = Connection()
    due = first
    try:
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += period
            await ask_once(connection, port, path, account)
    finally:
        connection.close()


class Connection:
    reader = writer = None

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def ask_once(connection, port, path, account):
    if connection.writer is not None and (connection.reader.at_eof() or connection.writer.is_closing()):
        connection.close()  # it was closed while nothing was asked: no failure
    if connection.writer is None:
        try:
            connection.reader, connection.writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            account.refused += 1
            return
    asked = time.monotonic()
    account.under_way += 1
    try:
        connection.writer.write(REQUEST.format(path=path).encode())
        status, may_go_on = await read_answer(connection.reader)
    except (asyncio.IncompleteReadError, OSError, ValueError):
        account.cut += 1
        may_go_on = False
    else:
        now = time.monotonic()
        account.answered.append(now)
        account.late = max(account.late, now - asked)
        account.wrong += status != 200
    account.under_way -= 1
    if not may_go_on:
        connection.close()


async def ask_at_rate(port, path, rate, connections, seconds):
    """(account, task): @rate requests/s over @connections for @seconds."""
    account = Account()
    start, period = time.monotonic(), connections / rate
    clients = [ask(port, path, account, period, start + i * period / connections, start + seconds)
               for i in range(connections)]
    return account, asyncio.gather(*clients)
