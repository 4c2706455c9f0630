# SPDX-License-Identifier: ISC
"""The agent never loses its device: every way of breaking it ends with a tunnel, without a command on the device.

Each row breaks something while the service manager starts the agent again. Rows with a mend are those in which a key, a
certificate or a pin is missing: the device is online again when the file exists.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import harness
from harness import wait_until
from keeper import DEVICE, Keeper
from setting_markers import private_file
from test_sessions import read_tag, tagged
from test_units import service

PRELOAD = pathlib.Path(harness.BUILD) / "tests" / "preload"
LAST_GOOD = "last-good.conf"
unsanitized = pytest.mark.skipif(harness.SANITIZER != "none", reason="a sanitizer replaces these functions")


@pytest.fixture(name="kept")
def kept_fixture(env):
    """An agent that has been online with a good configuration."""
    env.broker()
    env.relay()
    made = Keeper(env, data_port=env.target(tagged("<oli!>")).port)
    env.kept = made
    made.wait_for("online")
    yield made
    made.stop()


def assert_online(kept):
    assert read_tag(kept.env.connect(DEVICE, options=["--wait"])) == "<oli!>"


def is_in_use(kept):
    """Returns True if the log names the fault since the last restart."""
    return "the last good one is: " in kept.log()


# --- faults of the configuration: the last good one is used -----------------------------------------


def drop_in(kept, text, mode=0o600):
    private_file(kept.etc / "agentd.conf.d" / "site.conf", text, mode)


CONFIGURATION = {
    "wrong setting": lambda kept: kept.write(kept.text + 'limits = { sessions = 0; };'),
    "unknown setting": lambda kept: kept.write(kept.text + 'limits = { colour = 0; };'),
    "setting given twice": lambda kept: kept.write(kept.text + 'device = { name = "Other"; };'),
    "half-written file": lambda kept: kept.write(kept.text[:len(kept.text) // 2]),
    "empty file": lambda kept: kept.write(""),
    "no file": lambda kept: kept.conf.unlink(),
    "file of NULs": lambda kept: kept.conf.write_bytes(bytes(200)),
    "no folder": lambda kept: kept.variables.update(GOTTHARD_CONFIG_DIR=str(kept.etc) + "-away"),
    "wrong variable": lambda kept: kept.variables.update(GOTTHARD_SERVER_PORT="seven"),
    "file that others may write": lambda kept: kept.conf.chmod(0o666),
    "drop-in that others may write": lambda kept: drop_in(kept, "", 0o622),
    "key of another device": lambda kept: kept.write(kept.text.replace("key_file", "key = \"gk1d.Other.xx\"; #")),
    "new key that is missing": lambda kept: kept.write(kept.text.replace(str(kept.key), "/nonexistent/key")),
    "new certificates that are missing": lambda kept: kept.write(kept.text.replace(str(kept.certificates), "/nonexistent")),
    "new pins that are missing": lambda kept: kept.write(kept.text + 'trust = { pins = "/nonexistent"; };'),
}


@pytest.mark.parametrize("row", CONFIGURATION)
def test_last_good_configuration_is_used(kept, row):
    CONFIGURATION[row](kept)
    kept.forget_log()
    kept.restart()
    kept.wait_for("the last good one is: ")
    kept.wait_for("online")
    assert_online(kept)


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_file_of_another_owner(kept):
    os.chown(kept.conf, 65534, 65534)
    kept.restart()
    kept.wait_for("the last good one is: ")
    assert_online(kept)


def test_bad_reload_then_restart(kept):
    kept.write(kept.text + "limits = { sessions = 0; };")
    kept.child.send_signal(signal.SIGHUP)
    kept.wait_for("not reloaded, the configuration in use stays")
    status = json.loads(kept.env.cli("status", DEVICE, "--json").stdout)
    assert "limits.sessions" in status["fault"], status
    kept.restart()
    kept.wait_for("the last good one is: ")
    assert_online(kept)


def test_operators_read_the_reason_and_mended_files_are_used(kept):
    """Without a reload: operators may have no other way to the device. A restart then has no fault."""
    kept.write(kept.text + "limits = { sessions = 0; };")
    kept.forget_log()
    kept.restart()
    kept.wait_for("the last good one is: ")
    kept.wait_for("online")
    said = kept.env.cli("status", DEVICE).stdout
    assert re.search(r"warning +it does not use its present configuration: .*limits.sessions", said), said
    assert "limits.sessions" in json.loads(kept.env.cli("status", DEVICE, "--json").stdout)["fault"]
    said = kept.env.cli("doctor", DEVICE).stdout
    assert "does not use its present configuration" in said, said
    kept.write(kept.text + "limits = { sessions = 5; };")
    kept.wait_for(" reloaded services")
    wait_until(lambda: "fault" not in json.loads(kept.env.cli("status", DEVICE, "--json").stdout), "no fault")
    assert "limits" in (kept.state / LAST_GOOD).read_text()
    kept.forget_log()
    kept.restart()
    kept.wait_for("online")
    assert not is_in_use(kept)


def test_check_judges_the_present_files(kept):
    kept.write("nonsense")
    done = subprocess.run([harness.PROGRAMS["agentd"], "--check-config"], env=kept.variables, capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode == 78 and "syntax error" in done.stderr


def test_first_start_with_a_fault_is_tried_again(env):
    """Without a last good configuration the agent exits, and its manager starts it until the files are right."""
    env.broker()
    env.relay()
    kept = Keeper(env, first_text="nonsense", data_port=env.target(tagged("<oli!>")).port)
    try:
        wait_until(lambda: kept.statuses.count(78) >= 2, "two attempts")
        kept.write(kept.text)
        assert_online(kept)
    finally:
        kept.stop()
    assert service("agentd")["Restart"] == "always" and "RestartPreventExitStatus" not in service("agentd")
    assert "RestartPreventExitStatus" not in service("relayd")


# --- the last good configuration itself -------------------------------------------------------------


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


CORRUPT = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-70]),
    "a bit of the text": lambda path: flip(path, 30),
    "a bit of the checksum": lambda path: flip(path, -3),
    "NULs": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "readable by others": lambda path: path.chmod(0o644),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "too large": lambda path: path.write_bytes(path.read_bytes() * 100),
    "a link": lambda path: (path.rename(path.parent / "other"), path.parent.joinpath("other").chmod(0o666), path.symlink_to("other")),
}


@pytest.mark.parametrize("row", CORRUPT)
def test_corrupt_last_good_configuration_is_never_used(kept, row):
    """With good files it does not matter. With bad ones the agent exits, and is online when they are mended."""
    CORRUPT[row](kept.state / LAST_GOOD)
    kept.write("nonsense")
    kept.restart(signal.SIGKILL)
    wait_until(lambda: 78 in kept.statuses, "it exits")
    assert not is_in_use(kept)
    kept.write(kept.text)
    assert_online(kept)


def test_last_good_configuration_is_private_and_holds_no_copy_of_a_key_file(kept):
    path = kept.state / LAST_GOOD
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept.env.key not in text and str(kept.key) in text and kept.env.iv in text
    before = path.stat().st_ino
    kept.restart()
    assert_online(kept)
    assert path.stat().st_ino == before, "an unchanged configuration is not written again"


def test_last_good_configuration_never_widens_access(env):
    """What it grants is the rights that were in effect: pins, services, and a reload since."""
    env.broker()
    env.relay()
    web, shell = env.target(tagged("<webs>")), env.target(tagged("<shel>"))
    kept = Keeper(env, data_port=shell.port)
    try:
        pins = kept.etc / "alice.pins"
        pins.write_text(env.cli("fingerprint").stdout)
        kept.text = kept.text.replace(f"data_port = {shell.port};", "") + f'''
            services = {{ web = "127.0.0.1:{web.port}"; }}; trust = {{ policy = "pin"; pins = "{pins}"; }};'''
        kept.write(kept.text)
        kept.restart()
        assert read_tag(env.connect(DEVICE, "web", options=["--wait"]), "web") == "<webs>"
        kept.write("")  # alone it would offer ssh to any holder of the key
        kept.restart()
        kept.wait_for("the last good one is: ")
        assert read_tag(env.connect(DEVICE, "web", options=["--wait"]), "web") == "<webs>"
        assert env.cli("connect", DEVICE, "ssh").returncode != 0
        assert env.cli("connect", DEVICE, "web", name="bob").returncode != 0
    finally:
        kept.stop()


# --- files that are waited for ------------------------------------------------------------------------


def half(path):
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    return lambda: path.write_bytes(data)


def away(path):
    path.rename(f"{path}-away")
    return lambda: os.rename(f"{path}-away", path)


def mode(path, bits):
    before = path.stat().st_mode
    path.chmod(bits)
    return lambda: path.chmod(before)


FILES = {
    "half-written certificate": lambda kept: half(kept.certificates / "cert.pem"),
    "half-written authority": lambda kept: half(kept.certificates / "ca.crt"),
    "deleted ca.crt": lambda kept: away(kept.certificates / "ca.crt"),
    "missing private key": lambda kept: away(kept.certificates / "private.key"),
    "missing key": lambda kept: away(kept.key),
    "half-written key": lambda kept: half(kept.key),
    "key that others may read": lambda kept: mode(kept.key, 0o644),
    "no folder of certificates": lambda kept: away(kept.certificates),
}


@pytest.mark.parametrize("row", FILES)
@pytest.mark.parametrize("is_bad", [False, True], ids=["good configuration", "bad configuration"])
def test_device_is_back_with_its_file(kept, row, is_bad):
    """With a bad configuration beside it, the last good one waits for its files."""
    mend = FILES[row](kept)
    if is_bad:
        kept.write("nonsense")
    kept.forget_log()
    kept.restart()
    kept.wait_for("waiting: ")
    assert kept.child.poll() is None
    mend()
    assert_online(kept)


# --- the machine ----------------------------------------------------------------------------------------


def test_storm_of_kills(kept):
    for _ in range(15):
        kept.restart(signal.SIGKILL)
        time.sleep(0.05)
    assert_online(kept)
    kept.write("nonsense")
    kept.forget_log()
    kept.restart(signal.SIGKILL)
    kept.wait_for("the last good one is: ")
    assert_online(kept)


def test_corrupt_session_files(kept):
    tunnel = kept.env.connect(DEVICE)
    assert read_tag(tunnel) == "<oli!>"
    for path in kept.state.iterdir():
        if path.name != LAST_GOOD and path.is_file():
            path.write_bytes(os.urandom(300))
    (kept.state / "0123456789abcdef.session").write_bytes(os.urandom(5000))
    kept.restart(signal.SIGKILL)
    assert_online(kept)


def test_state_directory_is_missing(kept):
    kept.variables["STATE_DIRECTORY"] = str(kept.state) + "-away"
    kept.restart()
    assert_online(kept)


needs_mount = pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")


@pytest.fixture(name="disk")
def disk_fixture(kept):
    """A small state disk, with the last good configuration."""
    disk = kept.env.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", disk], check=True)
    kept.variables["STATE_DIRECTORY"] = str(disk)
    kept.restart()
    wait_until((disk / LAST_GOOD).exists, "the last good configuration")
    yield disk
    kept.stop()
    wait_until(lambda: subprocess.run(["umount", disk], check=False, stderr=subprocess.DEVNULL).returncode == 0, "unmounted")


def fill(disk):
    with open(disk / "fill", "wb", buffering=0) as file:
        with pytest.raises(OSError):
            while True:
                file.write(bytes(4096))


def permit(first):
    """A long setting of a drop-in."""
    return "agent = { permit = \"" + " ".join(f"10.{first}.{n}.0/24:80" for n in range(200)) + "\"; };"


def offer_web_by_key(kept):
    """Access that is restricted later: any holder of the first key reaches two services."""
    kept.text += 'services = { ssh = "127.0.0.1:1"; web = "127.0.0.1:2"; }; trust = { policy = "psk"; };'
    kept.text = kept.text.replace(f'key_file = "{kept.key}"', f'key = "{kept.env.key}"')
    kept.write(kept.text)
    kept.restart()
    wait_until(lambda: kept.env.key in (kept.state / LAST_GOOD).read_text(), "the wide configuration is kept")


def restrict(kept):
    """Pins, one service, another key."""
    pins = kept.etc / "alice.pins"
    pins.write_text(kept.env.cli("fingerprint").stdout)
    text = kept.text.replace('web = "127.0.0.1:2";', "").replace('"psk"', f'"pin"; pins = "{pins}"').replace(kept.env.key, "7" * 64)
    kept.write(text)
    kept.forget_log()
    kept.restart()
    kept.wait_for("policy=pin")


def assert_restricted(kept):
    """A typo and a restart bring no wide access back. Returns True if the restricted one is used."""
    kept.write("nonsense")
    kept.forget_log()
    before = len(kept.statuses)
    kept.restart()
    wait_until(lambda: "the last good one is: " in kept.log() or kept.statuses[before:].count(78) >= 2, "a decision")
    assert "policy=psk" not in kept.log()
    path = kept.state / LAST_GOOD
    assert not path.exists() or kept.env.key not in path.read_text()
    return "the last good one is: " in kept.log()


@needs_mount
def test_state_disk_is_full(kept, disk):
    """The older file makes room for the configuration in use."""
    fill(disk)
    kept.write(kept.text + "limits = { sessions = 7; };")
    kept.restart()
    wait_until(lambda: "sessions = 7;" in (disk / LAST_GOOD).read_text(), "the configuration in use is kept")
    kept.write("nonsense")
    kept.forget_log()
    kept.restart()
    kept.wait_for("the last good one is: ")
    assert_online(kept)


@needs_mount
@pytest.mark.parametrize("fits", [True, False], ids=["new one fits", "new one does not fit"])
def test_full_state_disk_never_brings_wide_access_back(kept, disk, fits):
    kept.state = disk
    offer_web_by_key(kept)
    fill(disk)
    if not fits:
        drop_in(kept, permit(0))
    restrict(kept)
    assert assert_restricted(kept) == fits
    kept.forget_log()
    kept.write(kept.text)
    kept.wait_for("reloaded" if fits else "online")


def test_many_drop_ins_never_bring_wide_access_back(kept):
    """Overridden values take no room in the last good configuration."""
    offer_web_by_key(kept)
    for n in range(20):
        private_file(kept.etc / "agentd.conf.d" / f"{n}.conf", permit(n), 0o600)
    restrict(kept)
    assert assert_restricted(kept)


@needs_mount
def test_read_only_state_disk_is_an_error(kept, disk):
    """The older file can neither be replaced nor removed: the log names it and what to do."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    kept.write(kept.text + "limits = { sessions = 7; };")
    kept.restart()
    kept.wait_for(f"{disk}/{LAST_GOOD}: remove it")
    assert_online(kept)


@unsanitized
@pytest.mark.parametrize("at", [1, 40, 400, 900])
def test_allocation_fails_at_the_start(kept, at):
    kept.variables.update(LD_PRELOAD=PRELOAD / "shim-fail.so", FAIL_CALL="malloc", FAIL_AT=at, FAIL_DONE=kept.env.folder / "failed")
    kept.restart()
    wait_until((kept.env.folder / "failed").exists, "one has failed")
    assert_online(kept)


@unsanitized
def test_wrong_clock_at_the_start(kept):
    """1970, as after a boot without a battery; the certificates are not valid yet. The clock is set later."""
    shift = kept.env.folder / "shift"
    shift.write_bytes((-int(time.time())).to_bytes(8, "little", signed=True))
    kept.variables.update(LD_PRELOAD=PRELOAD / "shim-clock.so", CLOCK_SHIFT=shift)
    kept.write(kept.text + "limits = { sessions = 0; };")
    kept.forget_log()
    kept.restart()
    kept.wait_for("the last good one is: ")
    kept.wait_for("not reachable")
    with open(shift, "r+b") as file:
        file.write(bytes(8))
    assert_online(kept)
