# SPDX-License-Identifier: ISC
"""Fetches other people's programs, in pinned versions, for the commands that compare with them or run against them.

Everything goes into one folder outside of the tree. Debian's packages are unpacked there and not installed: no service
starts and nothing on the machine changes, and no root is needed. Registries are used through their ordinary clients.
Unavailable has the reason why a program is not in a run, in one sentence.
"""

import os
import pathlib
import re
import shutil
import subprocess

GO_LANGUAGE = "1.24"  # of the module that requires the programs written in Go
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fetched</groupId><artifactId>fetched</artifactId><version>1</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


class Unavailable(Exception):
    """The reason, in one sentence, why a program is not in this run."""


def run(*argv, limit=1800, **more):
    """Runs a tool to its end, with low priority. Unavailable with the end of its output when it fails."""
    try:
        done = subprocess.run(["nice", "-n", "19", *map(str, argv)], capture_output=True, text=True, timeout=limit,
                              stdin=subprocess.DEVNULL, **more)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]}: {error}") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "failed").splitlines()
        error = next((w for w in words if w.startswith(("error", "E:", "[ERROR]"))), words[-1])
        raise Unavailable(f"{argv[0]}: {error.strip()[:160]}")
    return done.stdout + done.stderr


def need(program):
    if not shutil.which(program):
        raise Unavailable(f"{program} is not on this machine")


def installed(package):
    """Returns the version of an installed package of Debian, or None."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
                          capture_output=True, text=True)
    status, _, version = done.stdout.partition(" ")
    return version if status == "installed" else None


def cache(name, variable=None):
    """The folder `~/.cache/gotthard-NAME`, or the one that an environment variable names."""
    given = os.environ.get(variable) if variable else None
    return pathlib.Path(given or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / f"gotthard-{name}")


class Store:
    """A folder of fetched programs. Each function returns the folder of the program; a second call finds it there."""

    def __init__(self, folder):
        self.folder = folder
        self.debian = folder / "debian" / "root"

    def from_debian(self, *packages):
        """Unpacks those of @packages and their dependencies that are not installed; returns the version of the first."""
        stamp = self.folder / "debian" / f"{packages[0]}.version"
        version = installed(packages[0])
        if version:
            return version
        if stamp.exists():
            return stamp.read_text()
        need("apt-get")
        wanted = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", run(
            "apt-get", "-s", "install", "--no-install-recommends", *packages), re.MULTILINE)
        folder = self.folder / "debian" / packages[0]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run("apt-get", "-q", "download", *(f"{name}={of}" for name, of in wanted), cwd=folder)
        self.debian.mkdir(exist_ok=True)
        for package in folder.glob("*.deb"):
            run("dpkg-deb", "-x", package, self.debian)
        shutil.rmtree(folder)
        version = dict(wanted)[packages[0]]
        stamp.write_text(version)
        return version

    def from_cargo(self, crate, version):
        folder = self.folder / "cargo" / f"{crate}-{version}"
        if not (folder / "bin").exists():
            need("cargo")
            install = ["cargo", "install", "--quiet", "--version", version, "--root", folder]
            try:
                run(*install, "--locked", crate)
            except Unavailable:  # the locked versions may be too old for this compiler
                run(*install, crate)
        return folder / "bin"

    def from_go(self, name, module, version, *commands):
        """Builds the @commands of a module ("" is the module itself) into a folder named after @name."""
        folder, is_done = self._folder("go", name, version)
        if not is_done:
            need("go")
            source = folder / "source"
            source.mkdir(parents=True, exist_ok=True)
            # A module that requires the pinned version: `go install` would request the list of all versions.
            (source / "go.mod").write_text(f"module fetched\n\ngo {GO_LANGUAGE}\n\nrequire {module} {version}\n")
            run("go", "build", "-o", f"{folder}/", *(module + command for command in commands), cwd=source,
                env={**os.environ, "GOFLAGS": "-mod=mod"})
            (folder / "done").touch()
        return folder

    def from_npm(self, package, version):
        folder, is_done = self._folder("npm", package, version)
        if not is_done:
            need("npm")
            run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, f"{package}@{version}")
            (folder / "done").touch()
        return folder

    def from_pip(self, package, version):
        folder, is_done = self._folder("pip", package, version)
        if not is_done:
            need("python3")
            run("python3", "-m", "venv", folder)
            run(folder / "bin" / "pip", "install", "--quiet", f"{package}=={version}")
            (folder / "done").touch()
        return folder

    def from_maven(self, name, *coordinates):
        """Copies the artifacts and all that they require into `lib`. The first one's version names the folder."""
        folder, is_done = self._folder("maven", name, coordinates[0].rsplit(":", 1)[1])
        if not is_done:
            need("mvn")
            dependencies = "".join(DEPENDENCY.format(*coordinate.split(":")) for coordinate in coordinates)
            (folder / "pom.xml").write_text(POM.format(dependencies=dependencies))
            run("mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib", cwd=folder)
            (folder / "done").touch()
        return folder

    def _folder(self, source, name, version):
        folder = self.folder / source / f"{name}-{version}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder, (folder / "done").exists()
