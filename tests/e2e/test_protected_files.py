# SPDX-License-Identifier: ISC
"""Files of trust and of secrets that another user could write, replace or read."""

import grp
import os
import pwd
import re
import shutil
import subprocess

import pytest

import harness
from setting_markers import check, private_file

OTHER = 54321  # a user without files of its own
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives a file to another user")



def has_own_group():
    """Returns true if files of this test have a group that only this user is in: it may write them (test-private-group.c)."""
    try:
        return os.getuid() != 0 and pwd.getpwuid(os.getuid()).pw_name == grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return False


# What another user could do, and the words of the message.
FAULTS = {
    "group-writes": (lambda path: path.chmod(0o660), "mode 0660.*chmod g-w"),
    "others-write": (lambda path: path.chmod(0o602), "mode 0602.*chmod o-"),
    "open-folder": (lambda path: path.parent.chmod(0o777), "a folder of this path has mode 0777.*chmod go-w"),
    "group-folder": (lambda path: path.parent.chmod(0o770), "a folder of this path has mode 0770.*chmod go-w"),
    "open-grandparent": (lambda path: path.parent.parent.chmod(0o777), "a folder of this path has mode 0777.*chmod go-w"),
    "owner": (lambda path: os.chown(path, OTHER, 0), f"belongs to uid {OTHER}"),
    "owner-of-folder": (lambda path: os.chown(path.parent, OTHER, 0), f"the folder .* belongs to uid {OTHER}"),
    "link-of-another": (lambda path: link_through(path, OTHER), "the folder .* belongs"),
    "device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "not a regular file"),
}


def link_through(path, owner):
    """Replaces the file by a link into a folder of another user, who has a link back."""
    foreign = path.parent / "foreign"
    foreign.mkdir()
    path.rename(path.parent / "real")
    (foreign / "back").symlink_to(path.parent / "real")
    os.chown(foreign, owner, 0)
    path.symlink_to(foreign / "back")


def files_of(program, folder):
    """Returns {name: (path, variables)}: each file of this program, valid, and what selects it."""
    certs = folder / "certs"
    shutil.copytree(harness.Authority.shared().certificates("GatewayOli"), certs)
    (folder / "etc" / f"{program}.conf.d").mkdir(parents=True)
    key = private_file(folder / "keys" / "key", "11" * 32)
    with_folder = {"GOTTHARD_CONFIG_DIR": folder / "etc"}
    text = 'log = { level = "info"; };'
    found = {
        "key": (key, {"GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_KEY_FILE": key}),
        "salt": (private_file(folder / "keys" / "iv", "22" * 16), {"GOTTHARD_CRYPT_IV": None, "GOTTHARD_CRYPT_IV_FILE": folder / "keys/iv"}),
        "previous": (private_file(folder / "keys" / "old", "33" * 32), {"GOTTHARD_CRYPT_KEY_PREVIOUS_FILE": folder / "keys/old"}),
        "credential": (private_file(folder / "run" / "gotthard_crypt_key", "11" * 32, 0o440),
                       {"GOTTHARD_CRYPT_KEY": None, "CREDENTIALS_DIRECTORY": folder / "run"}),
        "configuration": (private_file(folder / "etc" / f"{program}.conf", text), with_folder),
        "drop-in": (private_file(folder / "etc" / f"{program}.conf.d" / "10.conf", text), with_folder),
    }
    if program != "relayd":
        found["password"] = (private_file(folder / "keys" / "password", "secret"), {"GOTTHARD_MQTT_PASSWORD_FILE": folder / "keys/password"})
    if program == "agentd":
        tls = {"GOTTHARD_AWS_CERT_PATH": certs, "GOTTHARD_MQTT_ENDPOINT": "localhost"}
        pins = folder / "etc" / "operators.pins"
        pins.write_text(f"alice {'ab' * 32}\n")
        found.update({name: (certs / name, tls) for name in ("private.key", "cert.pem", "ca.crt")}, pins=(pins, with_folder))
    return found


CASES = [(program, name) for program in ("relayd", "agentd", "cli")
         for name in ("key", "salt", "previous", "credential", "configuration", "drop-in", "password", "private.key", "cert.pem", "ca.crt", "pins")
         if not (program == "relayd" and name == "password") and not (program != "agentd" and name in ("private.key", "cert.pem", "ca.crt", "pins"))]


@pytest.mark.parametrize("program,name", CASES)
def test_file_that_another_user_can_change_is_refused(tmp_path, program, name):
    """Each fault is named with the file and the command that mends it; the same file without a fault is used."""
    _, variables = files_of(program, tmp_path / "good")[name]
    assert check(program, **variables).returncode == 0
    for fault, (damage, words) in FAULTS.items():
        if os.getuid() != 0 and fault in ("owner", "owner-of-folder", "link-of-another"):
            continue
        if has_own_group() and fault in ("group-writes", "group-folder"):
            continue
        path, variables = files_of(program, tmp_path / fault)[name]
        damage(path)
        done = check(program, **variables)
        assert done.returncode == 78, (fault, done.stdout)
        assert re.search(words, done.stderr) and str(path.parent.parent) in done.stderr, (fault, done.stderr)


@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_folder_of_configuration_is_checked_without_files(tmp_path, program):
    """A user who may write the folder could have removed the files from it."""
    for mode, folder in ((0o777, tmp_path / "a"), (0o775, tmp_path / "b")):
        (folder / f"{program}.conf.d").mkdir(parents=True)
        assert check(program, GOTTHARD_CONFIG_DIR=folder).returncode == 0
        if has_own_group() and mode == 0o775:
            continue
        for part in (folder, folder / f"{program}.conf.d"):
            part.chmod(mode)
            done = check(program, GOTTHARD_CONFIG_DIR=folder)
            assert done.returncode == 78 and f"chmod go-w {part}" in done.stderr, done.stderr
            part.chmod(0o755)


@needs_root
def test_files_of_umask_002_are_accepted(tmp_path):
    """Ubuntu's users have it, and a group each: a folder of mode 0775, a file of 0664. Another member of the group, or a list, is refused."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    program = shutil.copy(harness.PROGRAMS["cli"], tmp_path)
    home = tmp_path / "oli"
    folder = home / ".config" / "gotthard"
    folder.mkdir(parents=True)
    (folder / "cli.conf").write_text('server = { host = "relay.example.org"; };')
    for path in (home, home / ".config", folder, folder / "cli.conf"):
        os.chown(path, OTHER, OTHER)
        path.chmod(0o664 if path.is_file() else 0o775)
    (tmp_path / "passwd").write_text(f"root:x:0:0::/:/bin/sh\noli:x:{OTHER}:{OTHER}::{home}:/bin/sh\n")
    for members, status in (("", 0), ("oli", 0), ("oli,bob", 78)):
        (tmp_path / "group").write_text(f"root:x:0:\noli:x:{OTHER}:{members}\n")
        command = (f"mount --bind {tmp_path}/passwd /etc/passwd && mount --bind {tmp_path}/group /etc/group && "
                   f"exec setpriv --reuid={OTHER} --regid={OTHER} --clear-groups {program} config show")
        done = subprocess.run(["unshare", "--mount", "sh", "-c", command], env=harness.clean_environment(HOME=home, GOTTHARD_CONFIG_DIR=folder),
                              capture_output=True, text=True, timeout=harness.LIMIT)
        assert done.returncode == status, (members, done.stderr)
    assert "must not be writable by others" in done.stderr


@needs_root
def test_usual_owners_are_accepted(tmp_path):
    """Root's file with the group of the service (0640), and the service's own file, as the service reads them."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    program = shutil.copy(harness.PROGRAMS["relayd"], tmp_path)
    key = private_file(tmp_path / "key", "11" * 32, 0o640)
    variables = {"GOTTHARD_CRYPT_KEY_FILE": key, "GOTTHARD_CRYPT_IV": "22" * 16, "GOTTHARD_CONFIG_DIR": tmp_path}
    for owner, mode in ((0, 0o640), (OTHER, 0o600), (0, 0o440), (OTHER, 0o400)):
        os.chown(key, owner, OTHER)
        key.chmod(mode)
        done = subprocess.run(["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", program, "--check-config"],
                              env=harness.clean_environment(**variables),
                              capture_output=True, text=True, timeout=harness.LIMIT)
        assert done.returncode == 0, (owner, mode, done.stderr)


def test_certificate_file_with_a_private_key_is_a_secret(tmp_path):
    """A cert.pem or ca.crt that contains a private key must not be readable by others."""
    for name in ("cert.pem", "ca.crt"):
        certs = tmp_path / name / "certs"
        shutil.copytree(harness.Authority.shared().certificates("GatewayOli"), certs)
        with open(certs / name, "a") as file:
            file.write((certs / "private.key").read_text())
        (certs / name).chmod(0o644)
        done = check("agentd", GOTTHARD_AWS_CERT_PATH=certs, GOTTHARD_MQTT_ENDPOINT="localhost")
        assert done.returncode == 78 and f"{name}: mode 0644, must not be accessible by others (chmod o-rwx)" in done.stderr, done.stderr
        (certs / name).chmod(0o640)
        done = check("agentd", GOTTHARD_AWS_CERT_PATH=certs, GOTTHARD_MQTT_ENDPOINT="localhost")
        assert done.returncode == 0, done.stderr


def test_files_in_a_sticky_folder_are_accepted(tmp_path):
    """As in /tmp: another user can neither remove nor replace our file there."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    key = private_file(folder / "key", "11" * 32)
    assert check("relayd", GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_KEY_FILE=key).returncode == 0
