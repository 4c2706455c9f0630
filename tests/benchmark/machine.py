# SPDX-License-Identifier: ISC
"""Prepares the machine for the benchmark: fetches and builds the peers once, builds Gotthard like its packages, and
describes the machine.

Everything goes into one folder outside of the tree ($GOTTHARD_BENCH_CACHE, else ~/.cache/gotthard-bench; fetch.py). For an
unavailable peer `Peer.why` has the reason, and the run continues without it.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import subprocess
import sys

import fetch
from fetch import Unavailable, run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STORE = fetch.Store(fetch.cache("bench", "GOTTHARD_BENCH_CACHE"))
CACHE, DEBIAN = STORE.folder, STORE.debian


# --- from Debian ----------------------------------------------------------------------------------


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
    version = fetch.installed("openssh-server")
    if not version:
        raise Unavailable("openssh-server is not installed (tests/install-dependencies)")
    return version


PEERS = {peer.name: peer for peer in (
    Peer("haproxy", lambda: STORE.from_debian("haproxy")),
    Peer("nginx", lambda: STORE.from_debian("libnginx-mod-stream")),
    Peer("stunnel", lambda: STORE.from_debian("stunnel4")),
    Peer("socat", lambda: STORE.from_debian("socat")),
    Peer("openssh", _sshd),
    Peer("rathole", lambda: STORE.from_cargo("rathole", "0.5.0"), "0.5.0"),
    Peer("bore", lambda: STORE.from_cargo("bore-cli", "0.6.0"), "0.6.0"),
    Peer("frp", lambda: STORE.from_go("frp", "github.com/fatedier/frp", "v0.65.0", "/cmd/frps", "/cmd/frpc"), "0.65.0"),
    Peer("chisel", lambda: STORE.from_go("chisel", "github.com/jpillora/chisel", "v1.10.1", ""), "1.10.1"),
    Peer("gnuplot", lambda: STORE.from_debian("gnuplot-nox")),
)}


# --- Gotthard itself ------------------------------------------------------------------------------


def build(folder=None):
    """Gotthard and the tools of the benchmark with the packages' flags, or an existing build in @folder. Each source
    tree has its own folder: a folder configured for a removed source tree cannot be built again."""
    folder = pathlib.Path(folder or CACHE / f"gotthard-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}").resolve()
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


def _commit():
    """Returns the commit, or "" without git and outside a repository."""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return ""


class Steal:
    """Time that the hypervisor gave to other machines, from now on."""

    def __init__(self):
        self.before = self._ticks()

    @staticmethod
    def _ticks():
        fields = [int(n) for n in pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
        return sum(fields[:8]), fields[7]

    def percent(self):
        total, stolen = (after - before for after, before in zip(self._ticks(), self.before))
        return 100 * stolen / max(total, 1)


def describe():
    return {
        "cpu": _first("/proc/cpuinfo", r"^model name\s*: (.*)"),
        "cores": os.cpu_count(),
        "memory_GiB": round(int(_first("/proc/meminfo", r"^MemTotal:\s+(\d+)", "0")) / (1 << 20), 1),
        "kernel": os.uname().release,
        "system": _first("/etc/os-release", r"^PRETTY_NAME=(.*)"),
        "openssl": subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout.split("(")[0].strip(),
        "congestion": _first("/proc/sys/net/ipv4/tcp_congestion_control", r"^(.*)"),
        "gotthard": _commit() or (ROOT / "common" / "VERSION").read_text().strip(),
        "load_before": os.getloadavg()[0],
    }
