# SPDX-License-Identifier: ISC
"""The Debian packages that the machines install: built once per suite and commit, from the committed tree alone."""

import pathlib
import re
import shutil
import subprocess
import tempfile

import roots

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = "DEB_BUILD_PROFILES=nocheck DEB_BUILD_OPTIONS='nocheck noautodbgsym' dpkg-buildpackage -us -uc -b"


def git(*arguments):
    return subprocess.run(["git", "-c", f"safe.directory={PROJECT}", "-C", str(PROJECT), *arguments], check=True, stdout=subprocess.PIPE,
                          text=True).stdout.strip()


def unpack(commit, target):
    """Puts the tree of @commit into the directory @target."""
    target.mkdir(parents=True)
    archive = subprocess.run(["git", "-c", f"safe.directory={PROJECT}", "-C", str(PROJECT), "archive", commit], check=True,
                             stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)


def build_in(suite, folder):
    """Builds folder/source within @suite: natively where this machine is of that suite, or else in a root of it."""
    with open(folder / "log", "w", encoding="utf-8") as log:
        if suite == roots.host_suite():
            script = f"cd '{folder}/source' && {BUILD}"
        else:
            root = roots.build_root(suite, (folder / "source/debian/control").read_text())
            script = f"""set -e
                mount -t tmpfs build /mnt && cd /mnt && mkdir upper work root
                mount -t overlay overlay -o lowerdir='{root}',upperdir=upper,workdir=work root
                mount --bind /proc root/proc; mount --rbind /dev root/dev; mount --bind '{folder}' root/build
                chroot root env --unset=TMPDIR bash -c "cd /build/source && {BUILD}" """
        done = subprocess.run([*roots.ISOLATED, "bash", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    assert done.returncode == 0, "dpkg-buildpackage failed:\n" + "".join((folder / "log").open().readlines()[-60:])


def build(suite, commit):
    """Returns the directory with the .debs of @commit for @suite."""
    def make(path):
        with tempfile.TemporaryDirectory(prefix="gotthard-build-") as folder:
            unpack(commit, pathlib.Path(folder) / "source")
            build_in(suite, pathlib.Path(folder))
            for deb in pathlib.Path(folder).glob("*.deb"):
                shutil.copy(deb, path)

    return roots.cached(f"packages-{suite}-{git('rev-parse', commit)[:16]}", make)


def previous_commit():
    """Returns the commit of the version before this one: the newest tag v*, or else the last commit of the version before the
    last in debian/changelog. With a single version it is the commit that made that one."""
    tags = git("tag", "--list", "v*", "--merged", "HEAD", "--sort=-version:refname").splitlines()
    head = git("rev-parse", "HEAD")
    for tag in tags:
        if git("rev-parse", f"{tag}^{{commit}}") != head:
            return tag
    added = git("log", "--format=%H", "-G", r"^gotthard \(", "--", "debian/changelog").splitlines()
    return f"{added[0]}^" if len(added) > 1 else added[0]


class Packages:
    """The packages of one version. packages.relayd, .agentd, .cli and .demo are the paths of the .debs."""

    def __init__(self, suite, folder):
        self.suite, self.folder, self.n_newer = suite, folder, 0
        for path in folder.glob("gotthard-*.deb"):
            if "dbgsym" not in path.name:
                setattr(self, path.name.split("_")[0].removeprefix("gotthard-"), path)

    def __iter__(self):
        return iter((self.relayd, self.agentd, self.cli, self.demo))

    def depends(self):
        """Returns what the packages depend on, one element of debian/control each."""
        return sorted({part.strip() for deb in self for part in self.field(deb, "Depends").split(",")})

    @staticmethod
    def field(deb, name):
        return subprocess.run(["dpkg-deb", "--field", deb, name], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def newer(self, deb, change=None, suffix=None):
        """Returns a later version of @deb, with another comment in each text that an administrator may have edited.
        change(tree) may change more of the unpacked package. A @suffix that begins with "~" makes an earlier version."""
        self.n_newer += 1
        folder = pathlib.Path(tempfile.mkdtemp(prefix="newer-"))
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
        for path in [*(tree / "etc").rglob("*"), *tree.glob("usr/share/doc/*/examples/*")]:
            if path.is_file():
                path.write_text(path.read_text() + "# another comment\n")
        control = tree / "DEBIAN/control"
        version = suffix or f"+newer{self.n_newer}"
        control.write_text(re.sub(r"^Version: (.*)", rf"Version: \g<1>{version}", control.read_text(), flags=re.M))
        if change:
            change(tree)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, folder / deb.name], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
        return folder / deb.name

    def previous(self):
        """Returns the packages of the version before this one, built in the same suite."""
        return Packages(self.suite, build(self.suite, previous_commit()))


def of_head(suite):
    return Packages(suite, build(suite, "HEAD"))
