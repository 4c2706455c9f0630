# SPDX-License-Identifier: ISC
"""The ten invariants that hold after every fault (docs/faults.md), one function each. @run is a FaultRun (fault_run.py).

check_all() ends every fault test. Some of them may also be checked during a fault.
"""

import collections
import re
import secrets
import signal
import socket
import subprocess
import time

import harness
from harness import LIMIT, wait_until
from process_stats import DOCUMENTED_STATUSES, cpu_and_wakeups, is_alive, is_within, program_of

IS_SANITIZED = harness.SANITIZER != "none"
RECOVERY = 20 if IS_SANITIZED else 5  # seconds in which a new tunnel works after a fault
UNAUTHENTICATED = "127.0.0.9"  # the source of connections with a wrong key: penalties apply to it alone
ANSWER_TIMEOUT = "1s"  # of a command with a wrong key, which gets no answer


def check_all(run):
    """All ten. Each check leaves the system in the state that the next one needs: load and tunnels end in between."""
    check_isolation(run)  # I6
    check_streams(run)  # I1, I2
    check_recovery(run)  # I5
    check_wrong_key(run)  # I8
    check_idle(run)  # I7
    run.end_tunnels()
    check_resources(run)  # I4
    run.end_services()
    check_exit_statuses(run)  # I9
    check_logs(run)  # I10
    check_secrecy(run)  # I3


def check_streams(run):
    """I1 exact or reset, I2 no mixing: every byte was compared with its own stream's pattern; open streams continue and end without
    error. Streams that were reset delivered every byte before the reset, or were reported as lost."""
    assert not run.load.errors and not run.load.target.errors, (run.load.errors, run.load.target.errors)
    if run.has_started:
        before = [echo.n_echoes for echo in run.quiet]
        run.load.wait_for_progress(1)
        wait_until(lambda: all(echo.error or echo.n_echoes > n for echo, n in zip(run.quiet, before)), "an echo of each quiet stream")
        run.end_load()


def check_secrecy(run):
    """I3: no key and no payload occurs in a log or in a packet."""
    for process in run.env.processes:
        if program_of(process):
            text = process.log_path.read_bytes() + process.out_path.read_bytes()
            for name, needle in run.needles().items():
                assert needle not in text, f"{process.name} logs the {name}"
    if run.sniffer:
        run.sniffer.stop()
        assert "HIT" not in run.sniffer.out(), run.sniffer.out()
        n = int(re.search(r"seen (\d+) bytes", run.sniffer.out()).group(1))
        assert n > 5000, f"only {n} bytes were captured"


def check_resources(run):
    """I4 bounded: after the tunnels, sessions, descriptors and memory are back at their level before the test."""
    run.wait_no_workers(limit=run.recovery + 5)
    left = []

    def is_back():
        status = run.status()
        left[:] = [f"{status[what]} {what}" for what in ("sessions", "clients", "pairs", "tickets", "ports") if status[what]]
        for name, (n_fds, rss) in run.resources().items():
            fds_before, rss_before = run.before[name]
            if n_fds > fds_before:
                left.append(f"{name}: {n_fds} descriptors, before {fds_before}")
            if rss > rss_before * 1.25 + 2048 and not IS_SANITIZED:
                left.append(f"{name}: {rss} KiB, before {rss_before}")
        return not left

    try:
        wait_until(is_back, "baseline", limit=run.recovery + 5, step=0.2)
    except AssertionError:
        raise AssertionError(f"not released: {', '.join(left)}") from None


def check_recovery(run):
    """I5: a new tunnel works without manual intervention."""
    started, last_error = time.monotonic(), None
    while is_within(time.monotonic() - started, run.recovery):
        try:
            run.echo_through_new_tunnel()
            return
        except AssertionError as error:
            last_error = error
            time.sleep(0.4)  # the device answers five requests a second
    raise AssertionError(f"no new tunnel within {run.recovery} s") from last_error


def check_isolation(run):
    """I6: the bystander's echo takes at most twice as long as before, apart from the machine's own delays."""
    if not run.bystander:
        return
    wait_until(run.bystander.has_enough, "the bystander's echoes during the fault")
    run.bystander.stop()
    before, during, direct = run.bystander.worst_echoes()
    print(f"bystander's echo: {before * 1000:.1f} ms before, {during * 1000:.1f} ms during (direct connection {direct * 1000:.1f} ms)")
    run.bystander = None
    if not IS_SANITIZED:
        assert during <= 2 * before + 5 * direct + 0.010


def check_idle(run):
    """I7: in one of the next few seconds no process uses CPU time or wakes up."""
    if not run.is_idle_checked:
        return
    found = []

    def is_idle():
        before = {pid: cpu_and_wakeups(pid) for pid in run.our_pids()}
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started >= 1, "one second", step=1)
        after = {pid: cpu_and_wakeups(pid) for pid in before if is_alive(pid)}
        found[:] = [(pid, s - before[pid][0], n - before[pid][1]) for pid, (s, n) in after.items()]
        return all(seconds < (0.1 if IS_SANITIZED else 0.005) and (n < 5 or IS_SANITIZED) for _, seconds, n in found)

    if run.bystander:
        run.bystander.may_run.clear()
    try:
        wait_until(is_idle, "idle", limit=12)
    except AssertionError:
        raise AssertionError(f"not idle: pid, seconds of CPU, wake-ups in a second: {found}") from None
    finally:
        if run.bystander:
            run.bystander.may_run.set()


def check_wrong_key(run):
    """I8 fail closed: a wrong key gets no TLS session, no answer to a JOIN and no tunnel. Checked once: during the fault if the test
    calls it while the relay is running, otherwise at the end."""
    if run.is_wrong_key_checked:
        return
    run.is_wrong_key_checked = True
    n_workers, wrong = len(run.workers()), secrets.token_hex(32)
    command = subprocess.Popen(
        [harness.PROGRAMS["cli"], "connect", run.DEVICE, "0:echo"], cwd=run.env.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=run.env.cli_environment("operator", GOTTHARD_CRYPT_KEY=wrong, GOTTHARD_TIMEOUTS_ANSWER=ANSWER_TIMEOUT))
    try:
        if run.relay.is_running():
            _try_relay_with(run, wrong)
        out, _ = command.communicate(timeout=LIMIT)
    finally:
        command.kill()
        command.wait()
    assert command.returncode in (69, 77), (command.returncode, out)
    assert len(run.workers()) <= n_workers, "the device serves a client with a wrong key"


def _try_relay_with(run, key):
    is_v6 = ":" in run.relay_host  # IPv6 has one loopback address only: no source of our own
    address, bind = (f"[{run.relay_host}]", ()) if is_v6 else (run.relay_host, ("-bind", f"{UNAUTHENTICATED}:0"))
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{address}:{run.env.relay_port}", *bind, "-tls1_3",
         "-psk_identity", "g1:o:alice", "-psk", key, "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-alpn", "gotthard-r/1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode != 0 and "Reused, TLSv1.3" not in done.stdout, done.stdout
    try:
        with socket.create_connection((run.relay_host, run.env.relay_port), timeout=LIMIT,
                                      source_address=None if is_v6 else (UNAUTHENTICATED, 0)) as sock:
            sock.sendall(b"GTJ1\x01\x01\0\0" + bytes(56))
            assert sock.recv(100) == b"", "an answer to an invalid ticket"
    except ConnectionError:
        pass


def check_exit_statuses(run):
    """I9 clean: no signal except our own SIGKILL ended a program, and every exit status is documented."""
    for process in run.env.processes:
        program, code = program_of(process), process.child.poll()
        if program and code not in (None, -signal.SIGKILL):
            assert code in DOCUMENTED_STATUSES[program], (process.name, code)
    for path in run.env.folder.glob("core*"):
        raise AssertionError(f"{path} is a core")


def check_logs(run):
    """I10: few lines of one cause in one second, and no control characters."""
    for process in run.env.processes:
        if not program_of(process):
            continue
        raw = process.log_path.read_bytes()
        bad = set(raw) - set(range(0x20, 0x7f)) - {0x0a}
        assert program_of(process) == "cli" or not bad, f"{process.name} logs bytes {bad}"
        assert not set(raw) & (set(range(0x20)) - {0x0a}), f"{process.name} logs control characters"
        for (second, cause), n in lines_per_cause(raw.decode(errors="replace")).items():
            assert n <= 20, f"{process.name}: {n} lines at {second}: {cause}"  # two bursts may fall into one second


def lines_per_cause(log):
    """{(second, cause): number of lines}. Lines about authenticated parties and requested output have no cause."""
    counts = collections.Counter()
    for second, level, words in re.findall(r"^(\S+:\d\d)\.\d+Z (\w+) [\w-]+: (.*)$", log, re.MULTILINE):
        if level == "info" and re.match(r"client=|session=|stream=|status|device=|configuration reloaded", words):
            continue
        counts[second, re.sub(r'[=:]("[^"]*"|\S+)|[0-9a-f]{8,}|\d+', "", words)] += 1
    return counts
