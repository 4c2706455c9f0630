# SPDX-License-Identifier: ISC
"""Confines a process to a share of one core: by a control group, else by SIGSTOP and SIGCONT in turn."""

import contextlib
import os
import pathlib
import secrets
import signal
import threading

PERIOD_S = .1


def _mounts():
    """Yields (folder, is_v2) of the hierarchies of control groups that may have the controller of the CPU."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield pathlib.Path(folder), kind == "cgroup2"


class _Group:
    """A control group of one process, with a quota."""

    def __init__(self, parent, is_v2, share):
        self.folder = parent / f"gotthard-fleet-{secrets.token_hex(4)}"
        self.description = f"cgroup {'v2, cpu.max' if is_v2 else 'v1, cpu.cfs_quota_us'}"
        period = int(PERIOD_S * 1e6)
        self.folder.mkdir()
        try:
            if is_v2:
                (self.folder / "cpu.max").write_text(f"{int(share * period)} {period}")
            else:
                (self.folder / "cpu.cfs_period_us").write_text(str(period))
                (self.folder / "cpu.cfs_quota_us").write_text(str(int(share * period)))
        except OSError:
            self.folder.rmdir()
            raise

    def add(self, process):
        (self.folder / "cgroup.procs").write_text(str(process.pid))

    def close(self):
        with contextlib.suppress(OSError):  # as long as the process runs
            self.folder.rmdir()


class _DutyCycle:
    """Lets the process run for a part of each period. A process that is idle in its part loses it, so this is stricter."""

    description = "SIGSTOP and SIGCONT in turn"

    def __init__(self, share):
        self.share, self.is_over, self.process = share, threading.Event(), None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def add(self, process):
        self.process = process
        self.thread.start()

    def _run(self):
        while not self.is_over.is_set() and self.process.is_running():
            self.process.send(signal.SIGSTOP)
            self.is_over.wait(PERIOD_S * (1 - self.share))
            self.process.send(signal.SIGCONT)
            self.is_over.wait(PERIOD_S * self.share)

    def close(self):
        self.is_over.set()
        if self.thread.ident:
            self.thread.join()


def duty_cycle(share):
    return _DutyCycle(share)


def confinement(share):
    """Returns an object with add(process), close() and a description."""
    for folder, is_v2 in _mounts():
        if os.access(folder, os.W_OK):
            with contextlib.suppress(OSError):
                return _Group(folder, is_v2, share)
    return duty_cycle(share)
