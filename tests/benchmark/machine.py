# SPDX-License-Identifier: ISC
"""Prepares the machine for the benchmark: fetches and builds the peers once, builds Gotthard like its packages, and
describes the machine.

Everything goes into one folder outside of the tree ($GOTTHARD_BENCH_CACHE, else ~/.cache/gotthard-bench). Debian's
packages are unpacked there and not installed: no service starts and nothing on the machine changes, and no root is
needed. For an unavailable peer `Peer.why` has the reason, and the run continues without it.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("GOTTHARD_BENCH_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gotthard-bench")
DEBIAN = CACHE / "debian" / "root"
GO_LANGUAGE = "1.24"  # of the module that requires the peers written in Go


class Unavailable(Exception):
    """The reason, in one sentence, why a peer is not in this run."""


def run(*argv, limit=1800, **more):
    """Runs a tool to its end, with low priority. Unavailable with the end of its output when it fails."""
    try:
        done = subprocess.run(["nice", "-n", "19", *map(str, argv)], capture_output=True, text=True, timeout=limit,
                              stdin=subprocess.DEVNULL, **more)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]}: {error}") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "failed").splitlines()
        error = next((w for w in words if w.startswith(("error", "E:"))), words[-1])
        raise Unavailable(f"{argv[0]}: {error.strip()[:160]}")
    return done.stdout + done.stderr


def need(program):
    if not shutil.which(program):
        raise Unavailable(f"{program} is not on this machine")


# --- from Debian ----------------------------------------------------------------------------------


def _installed(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
                          capture_output=True, text=True)
    status, _, version = done.stdout.partition(" ")
    return version if status == "installed" else None


def from_debian(*packages):
    """Unpacks those of @packages and their dependencies that are not installed; returns the version of the first."""
    stamp = CACHE / "debian" / f"{packages[0]}.version"
    version = _installed(packages[0])
    if version:
        return version
    if stamp.exists():
        return stamp.read_text()
    need("apt-get")
    wanted = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", run(
        "apt-get", "-s", "install", "--no-install-recommends", *packages), re.MULTILINE)
    folder = CACHE / "debian" / packages[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run("apt-get", "-q", "download", *(f"{name}={of}" for name, of in wanted), cwd=folder)
    DEBIAN.mkdir(exist_ok=True)
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "-x", package, DEBIAN)
    shutil.rmtree(folder)
    version = dict(wanted)[packages[0]]
    stamp.write_text(version)
    return version


def library_path():
    triplet = subprocess.run(["dpkg-architecture", "-qDEB_HOST_MULTIARCH"], capture_output=True, text=True).stdout.strip()
    return f"{DEBIAN}/usr/lib/{triplet}"


def environment():
    """The environment for a program of Debian, installed or unpacked."""
    return {**os.environ, "LD_LIBRARY_PATH": library_path()}


def program(name):
    """A program of Debian's: installed, or unpacked."""
    for folder in ("/usr/sbin", "/usr/bin", DEBIAN / "usr/sbin", DEBIAN / "usr/bin"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise Unavailable(f"{name} is not in its package")


# --- from the registries of Rust and Go -----------------------------------------------------------


def _cargo(crate, version):
    folder = CACHE / "cargo" / f"{crate}-{version}"
    if not (folder / "bin").exists():
        need("cargo")
        install = ["cargo", "install", "--quiet", "--version", version, "--root", folder]
        try:
            run(*install, "--locked", crate)
        except Unavailable:  # the locked versions may be too old for this compiler
            run(*install, crate)
    return folder / "bin"


def _go(module, version, *commands):
    folder = CACHE / "go" / f"{module.rsplit('/', 1)[1]}-{version}"
    if not (folder / "done").exists():
        need("go")
        source = folder / "source"
        source.mkdir(parents=True, exist_ok=True)
        # A module that requires the pinned version: `go install` would request the list of all versions.
        (source / "go.mod").write_text(f"module peers\n\ngo {GO_LANGUAGE}\n\nrequire {module} {version}\n")
        run("go", "build", "-o", f"{folder}/", *(module + command for command in commands), cwd=source,
            env={**os.environ, "GOFLAGS": "-mod=mod"})
        (folder / "done").touch()
    return folder


# --- the peers ------------------------------------------------------------------------------------


class Peer:
    """One tool: its version and the paths of its programs, or the reason why it is not available."""

    def __init__(self, name, fetch, pinned=None):
        self.name, self._fetch, self.version, self.why, self.folder = name, fetch, pinned, None, None
        self.is_wanted = False  # in this run

    def fetch(self):
        self.is_wanted = True
        try:
            got = self._fetch()
            if isinstance(got, pathlib.Path):
                self.folder = got
            else:
                self.version = got
        except Unavailable as error:
            self.why = str(error)
        return self


def _sshd():
    version = _installed("openssh-server")
    if not version:
        raise Unavailable("openssh-server is not installed (tests/install-dependencies)")
    return version


PEERS = {peer.name: peer for peer in (
    Peer("haproxy", lambda: from_debian("haproxy")),
    Peer("nginx", lambda: from_debian("libnginx-mod-stream")),
    Peer("stunnel", lambda: from_debian("stunnel4")),
    Peer("socat", lambda: from_debian("socat")),
    Peer("openssh", _sshd),
    Peer("rathole", lambda: _cargo("rathole", "0.5.0"), "0.5.0"),
    Peer("bore", lambda: _cargo("bore-cli", "0.6.0"), "0.6.0"),
    Peer("frp", lambda: _go("github.com/fatedier/frp", "v0.65.0", "/cmd/frps", "/cmd/frpc"), "0.65.0"),
    Peer("chisel", lambda: _go("github.com/jpillora/chisel", "v1.10.1", ""), "1.10.1"),
    Peer("gnuplot", lambda: from_debian("gnuplot-nox")),
)}


# --- Gotthard itself ------------------------------------------------------------------------------


def build(folder=None):
    """Gotthard and the tools of the benchmark with the packages' flags, or an existing build in @folder. Each source
    tree has its own folder: a folder configured for a removed source tree cannot be built again."""
    folder = pathlib.Path(folder or CACHE / f"gotthard-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}")
    if not (folder / "build.ninja").exists():
        flags = subprocess.run(["dpkg-buildflags", "--get", "CFLAGS"], capture_output=True, text=True,
                               env={**os.environ, "DEB_BUILD_MAINT_OPTIONS": "hardening=+all"}).stdout.split()
        flags = [flag for flag in flags if "prefix-map" not in flag] or ["-O2"]
        subprocess.run(["meson", "setup", folder, ROOT, "--buildtype=plain", f"-Dc_args={' '.join(flags)}"], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "--quiet", "-C", folder], check=True, stdout=sys.stderr)
    return folder


def results():
    folder = CACHE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- description of the machine -------------------------------------------------------------------


def _first(path, pattern, default="unknown"):
    try:
        found = re.search(pattern, pathlib.Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return default
    return found.group(1).strip().strip('"') if found else default


def describe():
    version = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "cpu": _first("/proc/cpuinfo", r"^model name\s*: (.*)"),
        "cores": os.cpu_count(),
        "memory_GiB": round(int(_first("/proc/meminfo", r"^MemTotal:\s+(\d+)", "0")) / (1 << 20), 1),
        "kernel": os.uname().release,
        "system": _first("/etc/os-release", r"^PRETTY_NAME=(.*)"),
        "openssl": subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout.split("(")[0].strip(),
        "congestion": _first("/proc/sys/net/ipv4/tcp_congestion_control", r"^(.*)"),
        "gotthard": version.stdout.strip() or (ROOT / "common" / "VERSION").read_text().strip(),
        "load_before": os.getloadavg()[0],
    }
