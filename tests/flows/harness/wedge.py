"""Stops one thread of another process, as a debugger does, until that ends or this does: what a thread
looks like that hangs. Usage: wedge.py TID"""

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
tid = int(sys.argv[1])
for what in (PTRACE_SEIZE, PTRACE_INTERRUPT):
    if libc.ptrace(what, tid, None, None) != 0:
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
os.waitpid(tid, WALL)
print("stopped", flush=True)
while True:
    try:
        os.waitpid(tid, WALL)  # its signals and at last its end: it stays where it is
    except ChildProcessError:
        break
