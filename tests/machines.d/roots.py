# SPDX-License-Identifier: ISC
"""Root file systems of a Debian suite, made once by mmdebstrap and kept below the cache. Machines and builds are overlays on
them; nothing writes to a root after it was made. The packages come from where this machine's own apt gets them."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

CACHE = pathlib.Path(os.environ.get("GOTTHARD_MACHINES", "/var/cache/gotthard-machines"))
SUITES = "bookworm", "trixie"
BASE = """systemd systemd-sysv libpam-systemd libnss-systemd dbus udev adduser passwd login procps iproute2 iputils-ping netbase
ca-certificates openssl openssh-server openssh-client mosquitto""".split()
# All processes and mounts of a command end with it, even if it is killed.
ISOLATED = "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"
# No service but ssh starts by itself, and each machine makes its own host key.
HOOKS = "rm -f \"$1\"/etc/ssh/ssh_host_*", "chroot \"$1\" systemctl --quiet disable mosquitto", "chroot \"$1\" systemctl --quiet enable ssh"


def host_suite():
    """Returns the code name of this machine's release."""
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line).get("VERSION_CODENAME", "").strip('"')


def sources(suite):
    """Returns lines of sources.list for @suite at the mirrors of this machine, or "" for mmdebstrap's own choice."""
    shown = subprocess.run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI) $(RELEASE)", "Created-By: Packages"],
                           check=True, stdout=subprocess.PIPE, text=True).stdout
    found = []
    for line in shown.splitlines():
        origin, component, uri, release = line.rsplit(" ", 3)
        if origin == "Debian" and component == "main":
            found.append(f"deb {uri} {release.replace(host_suite(), suite)} main")
    return "".join(f"{line}\n" for line in dict.fromkeys(found))


def acquire_settings():
    """Returns apt's settings on this machine about how it reaches its mirrors."""
    shown = subprocess.run(["apt-config", "dump", "--format", "%f \"%v\";%n", "Acquire"], check=True, stdout=subprocess.PIPE, text=True)
    kept = [line for line in shown.stdout.splitlines() if line.startswith(("Acquire::http", "Acquire::Check"))]
    return "".join(f"{line}\n" for line in kept)


@contextlib.contextmanager
def locked(path):
    """Only one run at a time makes @path, which others wait for."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(name, make):
    """Returns CACHE/@name. If it does not exist, make(path) fills a new directory, which gets that name when it is whole."""
    path, partial = CACHE / name, CACHE / f".making-{name}"
    with locked(path):
        if not path.exists():
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
            partial.mkdir(mode=0o755)
            make(partial)
            partial.rename(path)
    return path


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def bootstrap(suite, target, packages, hooks):
    """Fills @target with a minimal @suite and @packages. apt's settings of this machine lead to the mirror."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write(acquire_settings())
        settings.flush()
        command = [*ISOLATED, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}",
                   "--dpkgopt=force-unsafe-io", f"--aptopt={settings.name}", *(f"--customize-hook={hook}" for hook in hooks), suite, str(target)]
        lines = sources(suite)
        subprocess.run([*command, *(["-"] if lines else [])], input=lines, text=True, check=True)


def machine_root(suite, depends):
    """Returns the root of machines: what every machine has, and what the packages depend on (@depends, of debian/control)."""
    names = sorted({alternatives.split("|")[0].split()[0] for alternatives in depends})
    packages = [*BASE, *(name for name in names if not name.startswith("gotthard-"))]
    return cached(f"machine-{suite}-{key(packages, sorted(depends), HOOKS)}", lambda path: bootstrap(suite, path, packages, HOOKS))


def build_root(suite, control):
    """Returns the root in which packages with the text @control of debian/control are built."""
    return build_dependencies("build", suite, control, ["build-essential", "fakeroot"], "-P nocheck")


def test_root(suite, control):
    """Returns the root of a machine that has all that building and testing needs."""
    return build_dependencies("tests", suite, control, ["build-essential", "nftables", *BASE], "", *HOOKS)


def build_dependencies(name, suite, control, packages, options, *hooks):
    """Returns a root with @packages and the build dependencies of @control. @options are apt's: the build profile."""
    def make(path):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "control"
            source.write_text(control)
            bootstrap(suite, path, packages, [
                f"install -D -m 644 {source} \"$1/build/debian/control\"",
                f"chroot \"$1\" sh -c 'cd /build && apt-get -qq -y --no-install-recommends {options} build-dep .'", *hooks])

    return cached(f"{name}-{suite}-{key(control.split('Package:')[0])}", make)
