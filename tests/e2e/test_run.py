# SPDX-License-Identifier: ISC
"""`run`: one command on many devices over ssh, by tags and names."""

import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import termios

import pytest

import harness
import states
from harness import LIMIT, PROGRAMS, Process, wait_until
from setting_markers import effect
from test_cli import error_id


@pytest.fixture
def fleet(env):
    """gw-1 and gw-2 in zurich, gw-3 in bern, with one sshd; gw-4 in zurich is offline."""
    env.broker()
    env.relay()
    env.sshd = harness.Sshd(env)
    for name, site in (("gw-1", "zurich"), ("gw-2", "zurich"), ("gw-3", "bern")):
        env.agent(name, GOTTHARD_DEVICE_TAGS=f"site={site},number={name[-1]}", GOTTHARD_AGENT_DATA_PORT=env.sshd.port,
                  GOTTHARD_AGENT_HOST_KEYS=env.sshd.folder / "host_key.pub")
    states.retain(env, [states.State("gw-4", is_online=False, tags=("site=zurich", "number=4"))])
    return env


def words(env, *args):
    return [*args, "-F", "none", "-i", env.sshd.client_key, "-o", "IdentitiesOnly=yes", "--user", env.sshd.user]


def run(env, *args, command=("echo", "hello"), **more):
    return env.cli("run", *words(env, *args), "--", *command, **more)


@effect("cli", "--on", "--user")
def test_command_runs_on_selected_devices(fleet):
    result = run(fleet, "--on", "site=zurich", "--on", "gw-[12]")
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == ["gw-1: hello", "gw-2: hello"]
    assert "2 devices: 2 ok, 0 failed, 0 unreachable" in result.stderr
    assert run(fleet, "--on", "gw-3").stdout == "gw-3: hello\n"
    assert run(fleet, "--on", "number=*", "--on", "number!=4", "--quiet").stderr == ""


def test_unreachable_devices_are_named(fleet):
    result = run(fleet, "--on", "site=zurich")
    assert result.returncode == 69
    assert sorted(result.stdout.splitlines()) == ["gw-1: hello", "gw-2: hello"]
    assert "gw-4: unreachable, not online" in result.stderr and "3 devices: 2 ok, 0 failed, 1 unreachable" in result.stderr
    wrong = env_key(fleet)
    assert wrong.returncode == 255 and "gw-1: ssh failed (255)" in wrong.stderr and "Permission denied" in wrong.stderr, wrong.stderr
    assert "1 failed, 0 unreachable" in wrong.stderr


def test_proxy_without_connection_is_unreachable(fleet):
    """The device is online, and nothing listens at the relay's port."""
    result = run(fleet, "--on", "gw-1", GOTTHARD_SERVER_PORT=harness.free_ports(1), GOTTHARD_TIMEOUTS_PEER="1s")
    assert result.returncode == 69 and "gw-1: unreachable" in result.stderr and "GTD-E5" in result.stderr, result.stderr


def test_devices_without_pins_are_one_warning(fleet):
    result = run(fleet, "--on", "gw-[12]", GOTTHARD_TRUST_POLICY="auto")
    assert result.returncode == 0 and result.stderr.count("any holder of the fleet key") == 1, result.stderr


def env_key(env):
    """A login that sshd refuses."""
    return env.cli("run", "--on", "gw-1", "-F", "none", "-i", "/nonexistent", "-o", "IdentitiesOnly=yes", "--user", env.sshd.user, "--", "true")


def test_exit_status_is_the_greatest(fleet):
    result = run(fleet, "--on", "gw-[1-3]", command=("case $SSH_CONNECTION in *) exit 3 ;; esac",))
    assert result.returncode == 3 and result.stderr.count("exit status 3") == 3
    assert "3 devices: 0 ok, 3 failed, 0 unreachable" in result.stderr


def test_streams_and_lines_stay_apart(fleet):
    """Whole lines with their device, to the stream that they came from. The words reach the shell as those of ssh do."""
    script = "for i in 1 2 3 4 5; do printf 'a%s' $i; sleep .02; echo \" b$i\"; echo err$i >&2; done; printf end"
    result = run(fleet, "--on", "gw-[12]", command=(script,))
    assert result.returncode == 0, result.stderr
    for name in ("gw-1", "gw-2"):
        mine = [line.partition(": ")[2] for line in result.stdout.splitlines() if line.startswith(name)]
        assert mine == [f"a{i} b{i}" for i in range(1, 6)] + ["end"]
        assert [line for line in result.stderr.splitlines() if line.startswith(f"{name}: err")] == [f"{name}: err{i}" for i in range(1, 6)]
    assert run(fleet, "--on", "gw-1", command=("echo", "'a  b'", "$((1+1))")).stdout == "gw-1: a  b 2\n"


def test_output_controls_no_terminal(fleet):
    result = run(fleet, "--on", "gw-1", command=(r"printf '\033[2Jx\rgw-2: fake\tä\302\233y\n\377\n'",))
    assert result.stdout == "gw-1: \\x1b[2Jx\\x0dgw-2: fake\tä\\xc2\\x9by\ngw-1: \\xff\n", result.stdout


@effect("cli", "--forks")
def test_forks_limit_the_devices_at_a_time(fleet):
    command = ("echo begin; sleep 1; echo end",)
    result = run(fleet, "--on", "gw-[1-3]", "--forks", "1", command=command)
    assert re.fullmatch(r"((gw-\d): begin\n\2: end\n){3}", result.stdout), result.stdout
    meeting = fleet.folder / "meeting"
    meeting.mkdir()
    wait_for_the_others = f"cd {meeting} && mkdir $$ && for i in $(seq 600); do [ $(ls | wc -l) != 3 ] || exit 0; sleep .1; done; exit 1"
    result = run(fleet, "--on", "gw-[1-3]", "--forks", "3", command=(wait_for_the_others,))
    assert result.returncode == 0, result.stderr  # each has seen the two others


def test_events_for_programs(fleet):
    result = run(fleet, "--json", "--on", "site=zurich", command=("echo out; echo err >&2; exit $(test -n \"$SSH_CONNECTION\" && echo 0)",))
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["event"] == "selected" and events[0]["devices"] == 3
    assert {(e["device"], e["stream"], e["line"]) for e in events if e["event"] == "output"} == {
        (name, stream, text) for name in ("gw-1", "gw-2") for stream, text in (("stdout", "out"), ("stderr", "err"))}
    ended = {e["device"]: (e["result"], e.get("exit"), e.get("reason")) for e in events if e["event"] == "ended"}
    assert ended == {"gw-1": ("ok", 0, None), "gw-2": ("ok", 0, None), "gw-4": ("unreachable", None, "not online")}
    assert {k: v for k, v in events[-1].items() if k != "time"} == {
        "event": "summary", "devices": 3, "ok": 2, "failed": 0, "unreachable": 1, "not_run": 0}


def test_ctrl_c_ends_all_children(fleet):
    process = Process(fleet, "run", [PROGRAMS["cli"], "run", *words(fleet, "--on", "gw-[123]"), "--forks", "2", "--", "echo ready; sleep 1000"],
                      env=fleet.cli_environment())
    wait_until(lambda: process.out().count("ready") == 2, "two commands run")
    children = harness.children_of(process.pid)
    assert len(children) == 2
    process.send(signal.SIGINT)
    assert process.wait() == 130
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), "the children have ended")
    assert "3 devices: 0 ok, 0 failed, 0 unreachable, 3 not run" in process.log()


def test_list_that_fails_runs_nothing(env):
    result = env.cli("run", "--on", "*", "--", "true")
    assert result.returncode == 69 and error_id(result) == "GTD-E20" and result.stdout == ""
    env.broker()
    states.retain(env, [states.State("gw-9")])
    result = env.cli("run", "--on", "site=nowhere", "--", "true")
    assert result.returncode == 64 and error_id(result) == "GTD-E12" and "no device is selected" in result.stderr


def test_device_that_ssh_cannot_name_is_not_run(fleet):
    """ssh would take the part after the last @ for the device."""
    states.retain(fleet, [states.State("root@gw-3"), states.State("gw-3.gotthard")])
    result = run(fleet, "--on", "root@gw-3", "--on", "gw-3.gotthard")
    assert result.returncode == 69 and result.stdout == "", result.stdout
    assert result.stderr.count("unreachable, ssh cannot name a device with @") == 2 and "2 unreachable" in result.stderr


def test_sshd_that_is_silent_is_left(fleet):
    """ssh has a limit of 30 s. An option of the user comes first."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fleet.agent("gw-9", GOTTHARD_AGENT_DATA_PORT=silent.getsockname()[1])
        process = Process(fleet, "run", [PROGRAMS["cli"], "run", "--on", "gw-9", "-o", "ConnectTimeout=5", "-F", "none", "--", "true"],
                          env=fleet.cli_environment())
        limits = wait_until(lambda: [re.findall("ConnectTimeout=[0-9]+", pathlib.Path(f"/proc/{pid}/cmdline").read_text())
                                     for pid in harness.children_of(process.pid) if "BatchMode" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()], "ssh runs")
        assert process.wait() == 69 and "gw-9: unreachable" in process.log()
    assert limits == [["ConnectTimeout=5", "ConnectTimeout=30"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_while_the_reader_is_slow(fleet, number):
    with subprocess.Popen([PROGRAMS["cli"], "run", *map(str, words(fleet, "--on", "gw-1")), "--", "echo ready; yes"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=fleet.cli_environment()) as child:
        assert child.stdout.readline() == b"gw-1: ready\n"
        wait_until(lambda: queued(child.stdout) > 60000, "the pipe is full")
        child.send_signal(number)
        assert child.wait(LIMIT) == 130


def queued(pipe):
    count = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def test_no_further_device_after_the_reader_is_gone(fleet):
    with subprocess.Popen([PROGRAMS["cli"], "run", *map(str, words(fleet, "--on", "gw-[1-3]")), "--forks", "1", "--", "echo hello; sleep 1; echo end"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=fleet.cli_environment()) as child:
        assert child.stdout.readline().endswith(b": hello\n")
        child.stdout.close()
        text = child.stderr.read().decode()
        assert child.wait(LIMIT) == 130
    assert "3 devices: 1 ok, 0 failed, 0 unreachable, 2 not run" in text


def test_long_lines_are_whole_in_events(fleet):
    """Lines that are not UTF-8, and parts of long ones: no character is cut."""
    script = r"printf '\377%02000d\n' 0; printf x; i=0; while [ $i -lt 6000 ]; do printf '\342\202\254'; i=$((i+1)); done"
    events = [json.loads(line) for line in run(fleet, "--json", "--on", "gw-1", command=(script,)).stdout.splitlines()]
    lines = [event["line"] for event in events if event["event"] == "output"]
    assert lines[0] == "\\xff" + "0" * 2000
    assert len(lines) == 3 and "".join(lines[1:]) == "x" + "€" * 6000


@pytest.mark.parametrize("args,why", [
    (["true"], "missing --on"), (["--on", "*"], "missing argument"), (["--on", "1=2", "true"], "--on '1=2': a tag's name"),
    (["--on", "*", "--forks", "0", "true"], "--forks: expected a number from 1 to 64"), (["--on", "*", "--user", "-x", "true"], "--user")])
def test_misuse(env, args, why):
    result = env.cli("run", *args)
    assert result.returncode == 64 and why in result.stderr, result.stderr


def test_progress_on_a_terminal(fleet):
    reader, terminal = pty.openpty()
    with subprocess.Popen([PROGRAMS["cli"], "run", *map(str, words(fleet, "--on", "gw-[12]")), "--", "echo", "hello"], stdin=terminal, stdout=terminal,
                          stderr=terminal, env=fleet.cli_environment(TERM="xterm", LANG="C.UTF-8", GOTTHARD_TRUST_POLICY="psk"),
                          start_new_session=True) as child:
        os.close(terminal)
        text = ""
        while "2 devices:" not in text:
            text += os.read(reader, 65536).decode()
        assert child.wait(LIMIT) == 0
    os.close(reader)
    assert "0 of 2 done, 2 running" in text
    lines = re.sub(r"[^\n]*\r\x1b\[K", "", text.replace("\r\n", "\n")).splitlines()
    assert {"gw-1: hello", "gw-2: hello"} <= set(lines) and lines[-1].startswith("2 devices: 2 ok"), lines
