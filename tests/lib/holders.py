# SPDX-License-Identifier: ISC
"""The holders of shared sessions: processes in the background that a `proxy` leaves, found by their control sockets."""

import contextlib
import os
import pathlib
import signal
import socket
import struct
import time


def sockets(runtime, suffix=".session"):
    """The control sockets below this $XDG_RUNTIME_DIR."""
    return sorted(pathlib.Path(runtime).glob(f"gotthard/*{suffix}"))


def holder_of(path):
    """The process that listens at @path, or None."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except OSError:
            return None
        return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def pids(runtime):
    return [pid for pid in map(holder_of, sockets(runtime)) if pid]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"  # a container's init may reap none
    return False


def end_all(runtime, limit=5):
    """Ends every holder, by SIGKILL one that does not end in time."""
    ending = []
    for path in sockets(runtime):
        pid = holder_of(path)
        if pid and pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
                ending.append(pid)
    end = time.monotonic() + limit
    while ending and time.monotonic() < end:
        ending = [pid for pid in ending if is_running(pid)]
        time.sleep(0.01)
    for pid in ending:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for path in sockets(runtime):
        path.unlink(missing_ok=True)
