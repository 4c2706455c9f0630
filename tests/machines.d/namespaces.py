# SPDX-License-Identifier: ISC
"""A run has namespaces of its own for mounts, processes and networks: all that it makes there ends with it, even if it is
killed. Only its cgroups and its temporary directory have names outside. These are unique, and removed afterwards."""

import os
import pathlib
import signal
import subprocess
import tempfile

# The first process of the namespace reaps the processes that lose their parents. Changes of its mounts stay inside.
# nspawn has a folder for each machine, by its name alone.
INSIDE = """set -e
while umount --recursive /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for folder in /run/netns /run/systemd/nspawn; do mkdir -p $folder && mount -t tmpfs machines $folder; done
mount -t tmpfs machines "$TMPDIR"
set +e
"$@"
exit $?"""
# After a kill the processes take a moment to end.
REMOVE_CGROUPS = """while umount --recursive /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for _ in {1..100}; do
    [ -d "/sys/fs/cgroup/$1" ] || exit 0
    find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
done
echo "processes of the run remain in the cgroup $1" >&2"""


def run(*command):
    """Runs @command in new namespaces, with GOTTHARD_CGROUP and TMPDIR set. Returns its exit status."""
    with tempfile.TemporaryDirectory(prefix="gotthard-machines-") as folder:
        cgroup = pathlib.Path(folder).name
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                                  "--kill-child", "--mount-proc", "--net", "--ipc", "bash", "-c", INSIDE, "bash", *map(str, command)],
                                 env=dict(os.environ, GOTTHARD_CGROUP=cgroup, TMPDIR=folder))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the child, which shows the journals
        signal.signal(signal.SIGTERM, lambda *_: child.kill())
        try:
            status = child.wait()
            return status if status >= 0 else 128 - status
        finally:
            subprocess.run(["unshare", "--mount", "--propagation", "private", "bash", "-c", REMOVE_CGROUPS, "bash", cgroup], check=False)
