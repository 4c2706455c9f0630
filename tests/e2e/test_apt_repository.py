# SPDX-License-Identifier: ISC
"""packaging/apt-repository, with apt itself: a machine that knows the repository's key installs and upgrades from it, and
refuses whatever that key has not signed. The packages are small ones of the same names, and the machine is a folder."""

import datetime
import email.utils
import gzip
import os
import re
import shutil
import subprocess

import pytest

import harness

PROGRAM = harness.ROOT / "packaging/apt-repository"
NATIVE, FOREIGN = "amd64", "arm64"
AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
# Nothing of this machine's own apt is read.
APT_CONFIGURATION = """
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Bin::methods "/usr/lib/apt/methods";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
DPkg::Options {{ "--root={root}"; "--force-architecture"; }};
"""


def run(*command, code=0, **variables):
    done = subprocess.run(list(map(str, command)), env=dict(os.environ, LC_ALL="C", **variables), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, timeout=harness.LIMIT)
    assert code is None or done.returncode == code, f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def make_key(folder, name, passphrase=""):
    """Returns the file with a new secret key."""
    home = folder / f"gpg-{name}"
    home.mkdir(mode=0o700)
    gpg = "gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase
    run(*gpg, "--quick-gen-key", name, "ed25519", "sign", "never")
    (folder / f"{name}.key").write_text(run(*gpg, "--armor", "--export-secret-keys").stdout)
    (folder / f"{name}.asc").write_text(run(*gpg, "--armor", "--export").stdout)
    run("gpgconf", "--homedir", home, "--kill", "all")
    return folder / f"{name}.key"


def make_package(folder, version, architecture=NATIVE, text=None):
    """Returns a package with one file, which contains its version or text."""
    tree = folder / f"tree-{version}-{architecture}-{text}"
    program = tree / "usr/sbin/gotthard-agentd"
    program.parent.mkdir(parents=True)
    program.write_text(text or f"{version} {architecture}")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(f"Package: gotthard-agentd\nVersion: {version}\nArchitecture: {architecture}\n"
                                         "Maintainer: A Test <test@example.org>\nDescription: a test\n")
    deb = tree / f"gotthard-agentd_{version}_{architecture}.deb"
    run("dpkg-deb", "--root-owner-group", "--build", tree, deb)
    return deb


class Machine:
    """A folder with an apt of its own, whose one source is the repository."""

    def __init__(self, root, repository, key, suite="bookworm", architecture=NATIVE):
        self.root = root
        for path in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "var/lib/dpkg", "var/lib/apt/lists/partial",
                     "var/cache/apt/archives/partial", "var/log/apt"):
            (root / path).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/own.conf").write_text(APT_CONFIGURATION.format(root=root, architecture=architecture))
        (root / "etc/apt/sources.list.d/gotthard.sources").write_text(
            f"Types: deb\nURIs: file:{repository}\nSuites: {suite}\nComponents: main\nSigned-By: {key}\n")

    def apt(self, *words, code=0):
        return run(*AS_ROOT, "apt-get", "-y", *words, code=code, APT_CONFIG=str(self.root / "etc/apt/own.conf"))

    def install(self, version=None):
        self.apt("update")
        self.apt("install", "gotthard-agentd" + (f"={version}" if version else ""))
        return (self.root / "usr/sbin/gotthard-agentd").read_text()

    def assert_refuses(self):
        """Neither the index nor a package of it is used."""
        update = self.apt("update", code=None)
        install = self.apt("install", "gotthard-agentd", code=None)
        assert install.returncode == 100, update.stderr + install.stderr
        assert not (self.root / "usr/sbin/gotthard-agentd").exists()
        return update.stderr + install.stderr


class Repository:
    def __init__(self, folder):
        self.folder, self.path, self.key = folder, folder / "repository", make_key(folder, "first")
        self.dist = self.path / "dists/bookworm"

    def publish(self, *arguments, code=0, suite="bookworm", keys=None):
        named = [word for key in keys or [self.key] for word in ("--key", key)]
        return run(PROGRAM, self.path, *named, "--suite", suite, *arguments, code=code)

    def package(self, *words, **more):
        return make_package(self.folder, *words, **more)

    def machine(self, name="machine", key=None, **more):
        return Machine(self.folder / name, self.path, key or self.folder / "first.asc", **more)

    def contents(self):
        return {path: path.read_bytes() for path in self.path.rglob("*") if path.is_file()}


@pytest.fixture(name="repository")
def repository_fixture(tmp_path):
    return Repository(tmp_path)


def test_machine_installs_and_upgrades(repository):
    repository.publish(repository.package("0.1.0"))
    machine = repository.machine()
    assert machine.install() == "0.1.0 amd64"
    repository.publish(repository.package("0.2.0"))
    assert machine.install() == "0.2.0 amd64"
    assert repository.machine("former").install("0.1.0") == "0.1.0 amd64"


def test_each_architecture_has_its_index(repository):
    repository.publish(repository.package("0.2.0"), repository.package("0.2.0", FOREIGN))
    for architecture in (NATIVE, FOREIGN):
        assert repository.machine(architecture, architecture=architecture).install() == f"0.2.0 {architecture}"


def test_each_suite_has_its_packages(repository):
    """The builds of two Debian releases have the same names and other contents."""
    for suite in ("bookworm", "trixie"):
        repository.publish(repository.package("0.2.0", text=suite), suite=suite)
    for suite in ("bookworm", "trixie"):
        assert repository.machine(suite, suite=suite).install() == suite


def test_published_version_stays_as_it_is(repository):
    deb = repository.package("0.2.0")
    repository.publish(deb)
    repository.publish(deb)
    before = repository.contents()
    refused = repository.publish(repository.package("0.2.0", text="another build"), code=1)
    assert "published with other contents" in refused.stderr
    assert repository.contents() == before


def change(path, old, new):
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new))


def with_other_index(repository):
    """Packages, by every name that apt may ask for."""
    text = (repository.dist / "main/binary-amd64/Packages").read_bytes().replace(b"0.2.0", b"9.9.9")
    for path in repository.dist.rglob("*"):
        if path.is_file() and "main" in path.parts:
            path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def with_other_package(repository):
    deb = repository.package("0.2.0", text="evil")
    published, = repository.path.rglob("*.deb")
    shutil.copy(deb, published)


def with_other_release(repository):
    for name in ("InRelease", "Release"):
        change(repository.dist / name, b"Origin: Gotthard", b"Origin: Gotthart")


def without_signature(repository):
    (repository.dist / "InRelease").unlink()
    (repository.dist / "Release.gpg").unlink()


def with_another_key(repository):
    repository.publish(keys=[make_key(repository.folder, "other")])


def with_old_index(repository):
    """Signed by the right key, and kept beyond its time."""
    repository.publish("--valid-days", "1")
    release = (repository.dist / "Release").read_text()
    assert "Valid-Until: " in release
    (repository.folder / "old").write_text(re.sub("Valid-Until: .*", "Valid-Until: Thu, 01 Jan 2026 00:00:00 UTC", release))
    run("gpg", "--homedir", repository.folder / "gpg-first", "--batch", "--yes", "--clearsign", "--output", repository.dist / "InRelease",
        repository.folder / "old")


@pytest.mark.parametrize("tamper, words", [
    (with_other_index, "Hash Sum mismatch|unexpected size"), (with_other_package, "Hash Sum mismatch|unexpected size"),
    (with_other_release, "BADSIG|invalid|manipulated"), (without_signature, "not signed"), (with_another_key, "NO_PUBKEY|Missing key"),
    (with_old_index, "expired")])
def test_machine_refuses(repository, tamper, words):
    repository.publish(repository.package("0.2.0"))
    tamper(repository)
    shown = repository.machine().assert_refuses()
    assert any(word in shown for word in words.split("|")), shown


def test_signatures_of_two_keys_while_one_replaces_the_other(repository):
    other = make_key(repository.folder, "second")
    repository.publish(repository.package("0.2.0"), keys=[repository.key, other])
    for name in ("first", "second"):
        assert repository.machine(name, key=repository.folder / f"{name}.asc").install() == "0.2.0 amd64"
    assert repository.machine("published", key=repository.path / "archive-key.asc").install() == "0.2.0 amd64"


def test_former_index_is_found_by_its_hash(repository):
    """A machine may read InRelease just before an upgrade is published, and the index just after."""
    repository.publish(repository.package("0.1.0"))
    hashes = repository.dist / "main/binary-amd64/by-hash/SHA256"
    former = {path.name: path.read_bytes() for path in hashes.iterdir()}
    repository.publish(repository.package("0.2.0"))
    assert len(former) == 3 and {name: (hashes / name).read_bytes() for name in former} == former


def test_limit_of_validity_is_in_the_future(repository):
    repository.publish(repository.package("0.2.0"), "--valid-days", "7")
    line, = [line for line in (repository.dist / "Release").read_text().splitlines() if line.startswith("Valid-Until: ")]
    left = email.utils.parsedate_to_datetime(line.removeprefix("Valid-Until: ")) - datetime.datetime.now(datetime.timezone.utc)
    assert abs(left - datetime.timedelta(days=7)) < datetime.timedelta(hours=1)
    assert repository.machine().install() == "0.2.0 amd64"


def test_secret_key_is_never_in_the_published_folder(repository):
    repository.publish(repository.package("0.2.0"))
    secret = repository.key.read_bytes().splitlines()[3]
    assert not [path for path, text in repository.contents().items() if b"PRIVATE" in text or secret in text]
    assert sorted(path.name for path in repository.path.iterdir()) == ["archive-key.asc", "dists", "pool"]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in repository.path.rglob("*"))


def test_nothing_is_published_without_a_key(repository):
    empty = repository.folder / "gpg-empty"
    empty.mkdir(mode=0o700)
    deb = repository.package("0.2.0")
    for arguments in ([], ["--key", "0123456789ABCDEF0123456789ABCDEF01234567"], ["--key", repository.folder / "first.asc"]):
        done = run(PROGRAM, repository.path, *arguments, "--suite", "bookworm", deb, code=1, GNUPGHOME=str(empty))
        assert "no secret key" in done.stderr, done.stderr
    assert repository.contents() == {}


def test_nothing_is_published_without_a_signature(repository):
    """A key with a passphrase, and no terminal to ask for it."""
    make_key(repository.folder, "locked", "secret")
    home = repository.folder / "gpg-locked"
    (home / "gpg-agent.conf").write_text("pinentry-program /bin/false\n")
    repository.publish(repository.package("0.1.0"))
    before = repository.contents()
    done = run(PROGRAM, repository.path, "--key", "locked", "--suite", "bookworm", repository.package("0.2.0"), code=None, GNUPGHOME=str(home))
    run("gpgconf", "--homedir", home, "--kill", "all")
    assert done.returncode == 1 and "nothing is published" in done.stderr and "passphrase" in done.stderr, done
    assert repository.contents() == before and sorted(path.name for path in repository.path.iterdir()) == ["archive-key.asc", "dists", "pool"]


@pytest.mark.parametrize("arguments, words", [
    ([], "missing argument"), (["DIR", "--nope"], "unrecognized option"), (["DIR", "--suite", "../etc"], "not the name of a suite"),
    (["DIR", "--valid-days", "0"], "not a number"), (["DIR", "DIR2"], "not a .deb"), (["DIR", "--key"], "--key needs")])
def test_usage_errors(tmp_path, arguments, words):
    done = run(PROGRAM, *(tmp_path / word if word.startswith("DIR") else word for word in arguments), code=1)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_package_of_another_kind_is_refused(repository):
    wrong = repository.folder / "wrong.deb"
    wrong.write_text("no package")
    assert "not a Debian package" in repository.publish(wrong, code=1).stderr
    assert not repository.dist.exists()
