"""Takes an fd out of another process's epoll sets: what one looks like that has lost sight of it.
Usage: unpoll.py PID FD EPOLL_FD..."""

import ctypes
import os
import sys

PIDFD_GETFD = 438
FAR = 4000  # above what the other process has

libc = ctypes.CDLL(None, use_errno=True)
pid, number, *epolls = map(int, sys.argv[1:])
pidfd = os.dup2(os.pidfd_open(pid), FAR)
removed = 0
for i, epoll in enumerate(epolls):
    copy = os.dup2(libc.syscall(PIDFD_GETFD, pidfd, epoll, 0), FAR + 1 + i)
    os.dup2(libc.syscall(PIDFD_GETFD, pidfd, number, 0), number)  # epoll knows it by its number, too
    removed += libc.epoll_ctl(copy, 2, number, None) == 0
if removed != 1:
    sys.exit(f"fd {number} was in {removed} of {len(epolls)} sets")
