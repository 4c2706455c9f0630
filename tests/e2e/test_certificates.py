# SPDX-License-Identifier: ISC
"""The example of a certificate authority: what it issues, renews, revokes and refuses, and that a failure leaves nothing."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "etc/make-certificate-example"


def run(folder, *args, **options):
    return subprocess.run([SCRIPT, *args], cwd=folder, capture_output=True, text=True, timeout=60, check=False, **options)


def make(folder, *args):
    done = run(folder, *args)
    assert done.returncode == 0, done.stderr
    return done


SUBJECT = "-subject", "-nameopt", "RFC2253"  # the default has blanks in OpenSSL 3.0 only


def openssl(folder, *args):
    return subprocess.run(["openssl", *args], cwd=folder, capture_output=True, text=True, check=True).stdout


def show(folder, name, *what):
    return openssl(folder, "x509", "-in", f"{name}/cert.pem", "-noout", *what)


def verify(folder, name, *more):
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", *more, f"{name}/cert.pem"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def listing(folder):
    return sorted(os.listdir(folder))


@pytest.fixture(name="authority")
def authority_fixture(tmp_path):
    make(tmp_path, "alice")
    return tmp_path


def test_hosts_become_names_and_addresses(tmp_path):
    make(tmp_path, "broker", "broker.example.org.", "10.1.2.3", "2001:db8::1", "[::1]", "*.example.net", "my_host")
    names = show(tmp_path, "broker", "-ext", "subjectAltName").split("\n")[1]
    assert [name.strip() for name in names.split(",")] == [
        "DNS:broker.example.org", "IP Address:10.1.2.3", "IP Address:2001:DB8:0:0:0:0:0:1", "IP Address:0:0:0:0:0:0:0:1",
        "DNS:*.example.net", "DNS:my_host"]
    for option, name in (("-verify_ip", "10.1.2.3"), ("-verify_ip", "::1"), ("-verify_hostname", "broker.example.org")):
        assert verify(tmp_path, "broker", "-purpose", "sslserver", option, name).returncode == 0
    assert verify(tmp_path, "broker", "-verify_ip", "10.1.2.4").returncode != 0
    assert verify(tmp_path, "broker", "-purpose", "sslclient").returncode != 0


def test_device_is_a_client_only(authority):
    assert verify(authority, "alice", "-purpose", "sslclient").returncode == 0
    assert verify(authority, "alice", "-purpose", "sslserver").returncode != 0
    assert show(authority, "alice", *SUBJECT).strip() == "subject=CN=alice"


def test_secrets_belong_to_the_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        make(tmp_path, "broker", "broker.example.org")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


LONGEST = "N" * 64


@pytest.mark.parametrize("name", ["a", "9", LONGEST, "a:b@c.d_e-f", "a..b", "crl"])
def test_odd_names_are_issued(authority, name):
    make(authority, name)
    assert verify(authority, name).returncode == 0
    make(authority, "--renew", name)
    make(authority, "--revoke", name)


@pytest.mark.parametrize("args, words", [
    ([LONGEST + "N"], "at most 64 characters"),
    (["--renew", LONGEST + "N"], "at most 64 characters"),
    (["../evil"], "letters, digits"), (["a/b"], "letters, digits"), ([".."], "letters, digits"), ([".hidden"], "letters, digits"),
    (["-x"], "letters, digits"), (["--", "x"], "letters, digits"), (["a b"], "letters, digits"), (["a\nb"], "letters, digits"),
    ([""], "letters, digits"), (["a/CN=b"], "letters, digits"), (["ä"], "letters, digits"), (["--revoke", "../alice"], "letters, digits"),
    (["ca.key"], "belong to the authority"), (["ca.new"], "belong to the authority"),
    (["alice"], "already exists"),
    (["broker", ""], "host name"), (["broker", "a,DNS:b"], "host name"), (["broker", "a b"], "host name"), (["broker", "-a"], "host name"),
    (["broker", "a\nbasicConstraints=CA:TRUE"], "host name"), (["broker", "a..b"], "host name"), (["broker", "ä.org"], "host name"),
    (["broker", "[::1"], "host name"), (["broker", "mqtts://broker"], "host name"), (["broker", "fe80::1%eth0"], "host name"),
    (["broker", "broker:8883"], "without a port"), (["broker", "10.0.0.1:8883"], "without a port"),
    (["broker", "[::1]:8883"], "host name"), (["broker", "h" * 254], "253 characters"),
    (["broker", "999.1.1.1"], "IP address"), (["broker", "1.2.3"], "IP address"), (["broker", "1::2::3"], "IP address"),
    (["--days", "0", "bob"], "number of days"), (["--days", "-5", "bob"], "number of days"), (["--days", "1e3", "bob"], "number of days"),
    (["--days", "99999999999999999999", "bob"], "number of days"), (["--days", "8000", "bob"], "authority itself ends earlier"),
    (["--renew", "bob"], "private.key and cert.pem"), (["--revoke", "bob"], "no certificate of this name"),
    (["operator alice"], "letters, digits"), (["--operator", "a b"], "letters, digits"), (["--operator", ""], "letters, digits"),
    (["--operator", "N" * 56], "at most 64 characters"), (["--operator", "bob", "host"], "--renew"), (["--operator"], "--renew"),
    (["--renew", "--operator", "alice"], "--renew"), (["--revoke", "--operator", "alice"], "no certificate of this name"),
    (["--renew", "alice", "host"], "--renew"), (["--days"], "--revoke"), ([], "--revoke"), (["--help"], "--revoke"),
])
def test_refused_in_words(authority, args, words):
    """Nothing is left behind, inside the folder or above it."""
    before = listing(authority), listing(authority.parent), (authority / "ca.index").read_text()
    done = run(authority, *args)
    assert done.returncode in (1, 64) and words in done.stderr, done.stderr
    assert "error:" not in done.stderr, "openssl's own text"
    assert (listing(authority), listing(authority.parent), (authority / "ca.index").read_text()) == before


def wrapped_openssl(folder, before):
    """Returns an environment in which `before` runs before each call of openssl."""
    (folder / "openssl").write_text(f'#!/bin/sh\n{before}\nexec /usr/bin/openssl "$@"\n')
    (folder / "openssl").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_failure_of_openssl_leaves_no_folder(authority, tmp_path_factory):
    before = listing(authority)
    done = run(authority, "bob", env=wrapped_openssl(
        tmp_path_factory.mktemp("path"), '[ "$1" != ca ] || { echo broken >&2; exit 1; }'))
    assert done.returncode == 1 and "broken" in done.stderr
    assert listing(authority) == before
    make(authority, "bob")


def test_missing_openssl_leaves_nothing(tmp_path, tmp_path_factory):
    programs = tmp_path_factory.mktemp("path")
    for name in ("sh", "mkdir", "rm", "cp", "mv", "mktemp", "sed", "awk", "flock", "cat"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    done = run(tmp_path, "bob", env={"PATH": str(programs)})
    assert done.returncode == 1 and "openssl" in done.stderr and listing(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_leaves_no_folder(authority, tmp_path_factory, number):
    """The signal arrives while openssl runs."""
    before = listing(authority)
    done = run(authority, "bob", env=wrapped_openssl(
        tmp_path_factory.mktemp("path"), f'[ "$1" != req ] || {{ kill -{int(number)} $PPID; exit 1; }}'))
    assert done.returncode != 0 and listing(authority) == before


def test_authority_key_kept_elsewhere_is_never_replaced(authority):
    """Its holder may keep ca.key on another medium: a second authority would make all certificates useless."""
    certificate = (authority / "ca.crt").read_bytes()
    (authority / "ca.key").rename(authority / "elsewhere")
    done = run(authority, "bob")
    assert done.returncode == 1 and "ca.key" in done.stderr
    assert (authority / "ca.crt").read_bytes() == certificate and not (authority / "bob").exists()
    (authority / "elsewhere").rename(authority / "ca.key")
    make(authority, "bob")


def test_validity(authority):
    make(authority, "--days", "2", "bob")
    assert verify(authority, "bob").returncode == 0
    for seconds, code in ((86400, 0), (3 * 86400, 1)):
        done = subprocess.run(["openssl", "x509", "-in", "bob/cert.pem", "-noout", "-checkend", str(seconds)], cwd=authority,
                              capture_output=True, check=False)
        assert done.returncode == code


def test_renewal_keeps_key_and_hosts(authority):
    """Pins are fingerprints of the key: they must survive. The folder may have another name than the certificate."""
    make(authority, "--days", "2", "broker", "broker.example.org", "::1")
    (authority / "broker").rename(authority / "mqtt")
    kept = "-pubkey", "-subject", "-ext", "subjectAltName,extendedKeyUsage"
    key, before = (authority / "mqtt/private.key").read_bytes(), show(authority, "mqtt", *kept)
    make(authority, "--renew", "mqtt")
    assert (authority / "mqtt/private.key").read_bytes() == key and show(authority, "mqtt", *kept) == before
    assert verify(authority, "mqtt", "-attime", str(int(time.time()) + 1000 * 86400)).returncode == 0


def test_revocation(authority):
    """All certificates of a name are revoked, wherever their folders are, and no other ones."""
    make(authority, "bob")
    (authority / "alice").rename(authority / "mqtt")
    done = make(authority, "alice")
    assert "still valid" in done.stderr
    checked = "-crl_check", "-CRLfile", "ca.crl"
    for name in ("mqtt", "alice", "bob"):
        assert verify(authority, name, *checked).returncode == 0
    make(authority, "--revoke", "alice")
    for name in ("mqtt", "alice"):
        assert "revoked" in verify(authority, name, *checked).stderr
        done = run(authority, "--renew", name)
        assert done.returncode == 1 and "revoked" in done.stderr
    assert verify(authority, "bob", *checked).returncode == 0
    make(authority, "--revoke", "alice")
    (authority / "alice").rename(authority / "old")
    make(authority, "alice")
    assert verify(authority, "alice", *checked).returncode == 0


def test_operator_and_device_of_one_name(authority):
    """The common name of an operator is no name of a device. Each is revoked alone."""
    (authority / "alice").rename(authority / "device")
    make(authority, "--operator", "alice")
    assert show(authority, "alice", *SUBJECT).strip() == "subject=CN=operator alice"
    assert show(authority, "device", *SUBJECT).strip() == "subject=CN=alice"
    make(authority, "--renew", "alice")
    assert show(authority, "alice", *SUBJECT).strip() == "subject=CN=operator alice"
    checked = "-crl_check", "-CRLfile", "ca.crl"
    make(authority, "--revoke", "--operator", "alice")
    assert "revoked" in verify(authority, "alice", *checked).stderr
    assert verify(authority, "device", *checked).returncode == 0
    make(authority, "--operator", "bob")
    done = run(authority, "--revoke", "bob")
    assert done.returncode == 1 and "--operator" in done.stderr
    assert verify(authority, "bob", *checked).returncode == 0


def test_revocation_of_an_authority_without_records(authority):
    """One that an earlier version of the script made, or a backup of the key and the certificate alone."""
    for path in [*authority.glob("ca.i*"), authority / "ca.crl"]:
        subprocess.run(["rm", "-r", path], check=True)
    make(authority, "bob")
    assert verify(authority, "alice", "-crl_check", "-CRLfile", "ca.crl").returncode == 0
    make(authority, "--revoke", "alice")
    assert "revoked" in verify(authority, "alice", "-crl_check", "-CRLfile", "ca.crl").stderr
    assert verify(authority, "bob", "-crl_check", "-CRLfile", "ca.crl").returncode == 0


def test_many_at_the_same_time(tmp_path):
    children = [subprocess.Popen([SCRIPT, f"device-{i}"], cwd=tmp_path, stderr=subprocess.PIPE) for i in range(8)]
    for child in children:
        assert child.communicate()[1] == b"" and child.returncode == 0
    assert len((tmp_path / "ca.index").read_text().splitlines()) == 8
    assert all(verify(tmp_path, f"device-{i}").returncode == 0 for i in range(8))
