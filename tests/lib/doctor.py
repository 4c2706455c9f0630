# SPDX-License-Identifier: ISC
"""Runs `gotthard-cli doctor` and `gotthard-agentd --doctor`, and reads their rows."""

import contextlib
import json
import os
import shutil
import subprocess
import socket
import threading

import pytest

import harness

# Each test has these warnings: its certificates are for two days, it has no pins, and a device has the fleet key.
USUAL = ("trust", "certificate", "key", "agent", "")

needs_mounts = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="a mount namespace needs root")


def _rows(result, expected):
    events = [json.loads(line) for line in result.stdout.splitlines()]
    rows = {event["check"]: event for event in events if event["event"] == "check"}
    rows[""] = {**(events[-1] if events else {}), "exit": result.returncode, "stderr": result.stderr, "result": ""}
    if expected is not None:
        assert result.returncode == expected, (rows, result.stderr)
    return rows


def _run(program, words, prefix, environment):
    return subprocess.run([*prefix, harness.PROGRAMS[program], *words], env=environment, text=True, capture_output=True,
                          timeout=harness.LIMIT * 2, stdin=subprocess.DEVNULL)


def doctor(env, *args, name="alice", expected=None, prefix=(), **more):
    """Returns the rows by name; "" is the end. @expected: the exit status. @prefix: of the command."""
    return _rows(_run("cli", ["doctor", "--json", *args], prefix, env.cli_environment(name, **more)), expected)


def agent_doctor(env, name="GatewayOli", expected=None, prefix=(), **more):
    return _rows(_run("agentd", ["--doctor", "--json"], prefix, env.agent_environment(name, **more)), expected)


def faults(rows):
    """The rows that are not ok, apart from the usual warnings."""
    return {name: row for name, row in rows.items()
            if row["result"] == "failure" or (row["result"] != "ok" and name not in USUAL)}


def first_failure(rows):
    return next((row for row in rows.values() if row["result"] == "failure"), None)


def assert_fails(rows, name, id_, *words):
    """The first failure is the row @name with this id, and its cause and remedy have @words."""
    row = first_failure(rows)
    assert row and row["check"] == name and row["id"] == id_, (row, faults(rows), rows[""])
    text = f"{row['text']} ; {row['hint']}"
    assert not [word for word in words if word not in text], text
    assert rows[""]["exit"] != 0
    return row


def connect_failure(env, device="GatewayOli", name="alice", prefix=(), **more):
    """The failure of `connect` in the same situation: its event."""
    result = _run("cli", ["connect", "--json", "--answer-timeout", "3s", device, "0:ssh"], prefix, env.cli_environment(name, **more))
    events = [json.loads(line) for line in result.stdout.splitlines()]
    errors = [event for event in events if event["event"] == "error"]
    assert errors, (result.stdout, result.stderr)
    return errors[0]


def private_files(env, **files):
    """A prefix of a command that sees these files in /etc: hosts="...", resolv__conf="..."."""
    mounts = []
    for name, text in files.items():
        path = env.folder / env.unique(name)
        path.write_text(text)
        mounts.append(f"mount --bind {path} /etc/{name.replace('__', '.')}")
    return ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]


@contextlib.contextmanager
def name_server(code):
    """A name server on 127.0.0.1:53 of this network that answers each query with @code, or with nothing (None)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 53))
        sock.settimeout(0.1)
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    query, peer = sock.recvfrom(512)
                    if code is not None:  # QR, RD, RA and the code; the question is repeated
                        sock.sendto(query[:2] + bytes([0x81, 0x80 | code]) + query[4:6] + bytes(6) + question(query), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join()


def question(query):
    """The question of a DNS query (RFC 1035, section 4.1.2), without additional records."""
    end = 12
    while query[end]:
        end += query[end] + 1
    return query[12:end + 5]


