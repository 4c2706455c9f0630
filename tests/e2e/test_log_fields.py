# SPDX-License-Identifier: ISC
"""Text from outside in log lines, on terminals and in JSON: it forges no field, no line and no terminal sequence, and a log
line can be read back exactly."""

import json
import os
import pty
import random
import re
import struct
import subprocess

import harness
from log_fields import parse, unescape
from relayclient import Client

HOSTILE = [
    b"", b" ", b"plain", b"two words", b'x" member=g1:o:alice up a="', b"a=b", b"=", b"==", b" =", b"=\"", b"\\", b"\\x22", b'\\" a=1',
    b"\n", b"x\n<0>2026-01-01T00:00:00.000Z error gotthard-relayd: up a=1", b"\r", b"\t", b"\x1b[2J\x1b]0;title\x07", b"\x7f", b"\x9b31m",
    "\u202euser=root\u202c".encode(), "\u2028a=1".encode(), "\u0085".encode(), "\u2066".encode(), "ä€😀".encode(), b"\xc0\xaf\xe0\x80\xaf",
    b"\xff\xfe", b"\xed\xa0\x80", b"%s%n%d", b"value=1 end=2", b'"', b'""', b"'", b"a\"b\"c", b"x=\"y z\" w", b"...",
]


def alphabet_text(chance):
    pieces = [b" ", b"=", b'"', b"\\", b"\\x", b"22", b"a", b"end=", b"value=", b"\n", b"\x1b", b"\xe2\x80", b"\xae", b",", b")", b":"]
    return b"".join(chance.choice(pieces) for _ in range(chance.randrange(24)))


def test_log_line_is_read_back_exactly(tmp_path):
    """Hostile and random texts, in a value, in quotes and in free text. The seed is printed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    texts = HOSTILE + [alphabet_text(chance) for _ in range(1500)] + [
        bytes(chance.randrange(1, 256) for _ in range(chance.randrange(30))) for _ in range(500)]
    program = harness.BUILD / "subprojects" / "common" / "tests" / "log-lines"
    with open(tmp_path / "log", "wb") as log:  # a file takes every line
        subprocess.run([program], input=b"".join(text + b"\0" for text in texts), stderr=log, check=True, timeout=60)
    lines = (tmp_path / "log").read_text("ascii").splitlines()
    assert len(lines) == len(texts)
    for text, line in zip(texts, lines):
        assert re.fullmatch(r"[ -~]*", line), line
        message = line.split(" log-lines: ", 1)[1]
        words, fields = parse(message)
        assert fields == [("value", text), ("address", text + b":7"), ("reason", text), ("end", b"1")], line
        free = message[message.rindex('" free ') + 7 if '" free ' in message else 0:]
        assert unescape(free) == text + b", (" + text + b") end=1", line


def hello(software):
    return struct.pack(">BBHHHH", 1, 0, 6 + len(software), 1, 1, len(software)) + software


def test_software_forges_no_field(env):
    relay, env.clients = env.relay(), []
    texts = [text for text in HOSTILE if 0 < len(text) <= 64]
    for n, software in enumerate(texts):
        client = Client(env, f"g1:o:mallory{n}", hello=False)
        client.receive("connected")
        client.do("raw", hello(software).hex())
        relay.wait_for(f"client=g1:o:mallory{n} up")
        client.kill()
    for n, software in enumerate(texts):
        line = next(line for line in relay.log().splitlines() if f"g1:o:mallory{n} up" in line)
        words, fields = parse(line.split("gotthard-relayd: ", 1)[1])
        assert words == ["up"] and [name for name, _ in fields] == ["client", "address", "software"], line
        assert dict(fields)["software"] == software


def test_service_of_operator_forges_no_field(env):
    env.broker()
    env.relay()
    agent = env.agent()
    service = 'x" operator=bob a="\n\x1b[2J\u202e'
    result = env.cli("connect", "GatewayOli", f"0:{service}")
    if "refused service" not in agent.log():
        assert result.returncode == 64, "the command line did not send it"
        return
    line = next(line for line in agent.log().splitlines() if "refused service" in line)
    fields = dict(parse(line.split("gotthard-agentd: ", 1)[1])[1])
    assert fields["service"] == service.encode() and fields["operator"] == b"alice", line
    assert re.fullmatch(r"[ -~\n]*", result.stderr), result.stderr


BAD_NAME = b"conf\x1b[2J\xe2\x80\xae\xff\nerror a=1"


def test_file_name_reaches_terminal_and_json_escaped(env):
    """A path is printed on a terminal, in a log line, and in a JSON event that stays complete."""
    path = bytes(env.folder) + b"/" + BAD_NAME
    os.mkdir(path)
    variables = {os.fsencode(k): os.fsencode(str(v)) for k, v in env.cli_environment().items()} | {
        b"GOTTHARD_AWS_CERT_PATH": path, b"TERM": b"xterm", b"NO_COLOR": b"1"}
    argv = [str(harness.PROGRAMS["cli"]), "connect", "--json", "GatewayOli"]
    done = subprocess.run(argv, capture_output=True, env=variables, timeout=harness.LIMIT)
    assert re.fullmatch(rb"[ -~\n]*", done.stderr), done.stderr
    event = [json.loads(line) for line in done.stdout.splitlines()][-1]
    assert event["event"] == "error" and "\\x1b[2J\\xe2\\x80\\xae\\xff\\x0a" in event["message"], done.stdout
    master, slave = pty.openpty()
    subprocess.run([argv[0], "connect", "GatewayOli"], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=variables,
                   timeout=harness.LIMIT)
    os.close(slave)
    shown = os.read(master, 65536)
    os.close(master)
    assert b"\\x1b[2J" in shown and not re.search(rb"\x1b\[2J|\xe2\x80\xae|\xff", shown), shown
