# SPDX-License-Identifier: ISC
"""Facts about running processes from /proc, and the exit statuses that the manuals document."""

import os
import re
import subprocess
import sys

DOCUMENTED_STATUSES = {"relayd": (0, 64, 69, 70, 78), "agentd": (0, 64, 70, 78), "cli": (0, 64, 69, 70, 75, 76, 77, 78, 130)}


def program_of(process):
    """relayd, agentd or cli; None for any other process of the harness."""
    return next((name for name in DOCUMENTED_STATUSES if process.name.startswith(name)), None)


def cpu_and_wakeups(pid):
    """CPU seconds and voluntary context switches of all threads; the clock of /proc/PID/stat is too coarse."""
    seconds, n_switches = 0, 0
    for task in os.listdir(f"/proc/{pid}/task") if os.path.exists(f"/proc/{pid}/task") else ():
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                seconds += int(file.read().split()[0]) / 1e9
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
                n_switches += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", file.read(), re.MULTILINE).group(1))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return seconds, n_switches


COMPUTE = """
import time
begin, cpu = time.monotonic(), time.process_time()
while time.process_time() - cpu < .1:
    pass
print((time.monotonic() - begin) / .1)"""


def is_within(seconds, limit):
    """Returns whether @seconds are less than @limit. On a busy machine the limit is as many times longer as a process now takes to compute."""
    if seconds < limit:
        return True
    slowness = float(subprocess.run([sys.executable, "-c", COMPUTE], check=True, stdout=subprocess.PIPE).stdout)
    print(f"{seconds:.2f} s are more than {limit:.2f} s; processes take {slowness:.1f} times longer than alone")
    return seconds < limit * slowness


def pss_kib(pid):
    """Returns the memory of a process, with its part of what it shares with others."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"^Pss:\s*(\d+)", file.read(), re.MULTILINE).group(1))


def is_alive(pid):
    """Returns false for zombies as well."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
