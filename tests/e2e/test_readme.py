# SPDX-License-Identifier: ISC
"""The set-ups of README.md and docs/by-hand.md: the files they name are in the packages they name, they edit no file of a package,
and the programs accept their settings. tests/machines follows both with the installed packages (its step new_fleet is README.md), test_new_fleet.py README.md."""

import os
import pathlib
import re
import subprocess

import pytest

import harness
import readme
from setting_markers import private_file
from test_config import check

ROOT = readme.README.parent


@pytest.fixture(name="installed", scope="module")
def installed_fixture(tmp_path_factory):
    """The paths in each package, as (package, path): those that meson installs and debian/*.install selects."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", harness.BUILD, "--no-rebuild", "--quiet", "--destdir", folder], check=True,
                   capture_output=True)
    paths = ["/" + str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    paths = [re.sub("^/usr/local/(?!etc/)", "/usr/", path).removeprefix("/usr/local") for path in paths]
    found = set()
    for selection in (ROOT / "debian").glob("*.install"):
        for line in selection.read_text().split():
            found |= {(selection.stem, path) for path in paths if (path + "/").startswith(f"/{line}/")}
    return found


def named_examples(text):
    """Returns (package, pattern) of each example that a text names."""
    found = re.findall(r"/usr/share/doc/(gotthard-\w+)/examples/([\w.*-]+)", text)
    return {(package, name.rstrip("._")) for package, name in found if name.rstrip("._")}


def test_examples_are_in_the_packages(installed):
    """Each file that a document names is in the package that it names."""
    assert ("gotthard-cli", "/usr/share/doc/gotthard-cli/examples/make-certificate-example") in installed
    pages = [readme.README, readme.BY_HAND, *ROOT.glob("gotthard-*/*.scd")]
    named = {example for page in pages for example in named_examples(page.read_text())}
    assert len(named) > 5
    for package, pattern in named:
        path = f"/usr/share/doc/{package}/examples/{pattern}"
        assert any(owner == package and pathlib.PurePath(name).match(path) for owner, name in installed), path


def test_no_package_contains_a_configuration_file(installed):
    """Such a file becomes a conffile: dpkg asks when both the administrator and a newer package have changed it."""
    assert [path for _, path in installed if path.startswith("/etc/")] == ["/etc/ssh/ssh_config.d/30-gotthard.conf"]
    for path in (ROOT / "debian").iterdir():
        assert not path.name.endswith((".conffiles", ".config", ".templates"))


def test_examples_are_in_one_package_each(installed):
    """Two packages with one file could not be installed together."""
    paths = sorted(path for _, path in installed)
    assert len(paths) == len(set(paths))


def both():
    return [*readme.set_up(), *readme.set_up(readme.BY_HAND)]


def test_settings_are_written_to_folders_for_them():
    written = [command.file for command in both() if isinstance(command, readme.Command) and command.file]
    assert "cli.conf" in written and len(written) >= 4
    for path in written:
        assert path in ("cli.conf", "fleet.conf", "enroll.conf") or re.match(r"/etc/gotthard/(relayd|agentd)\.conf\.d/\w+\.conf$|/etc/mosquitto/", path), path


def run_as_operator(folder, *parts):
    """Runs the operator's commands of these parts as they are, with the programs of the build. Without those that wait."""
    (folder / "bin").mkdir()
    (folder / "bin/gotthard-cli").symlink_to(harness.PROGRAMS["cli"])
    commands = [c.text for part in parts for c in readme.set_up(readme.BY_HAND)
                if isinstance(c, readme.Command) and c.as_user and c.part == part and "gotthard-cli enroll" not in c.text]
    script = "set -e\n" + "\n".join(commands).replace("/usr/share/doc/gotthard-cli/examples", str(ROOT / "etc"))
    variables = {"HOME": str(folder), "PATH": f"{folder}/bin:{os.environ['PATH']}", "GOTTHARD_CONFIG_DIR": str(folder)}
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_bundle_of_a_device_without_a_network(tmp_path):
    """The file that the operator writes after step 1 makes a device, with the README's command there."""
    run_as_operator(tmp_path, "1", "By a one-time token")
    command, = (c.text.split() for c in readme.set_up(readme.BY_HAND) if isinstance(c, readme.Command) and "--install" in c.text)
    folder = tmp_path / "device"
    folder.mkdir()
    done = subprocess.run([harness.PROGRAMS["agentd"], *command[1:]], env=harness.clean_environment(GOTTHARD_CONFIG_DIR=folder),
                          capture_output=True, text=True, check=False, cwd=tmp_path / ".config/gotthard")
    assert done.returncode == 0 and "enrolled as Pump7" in done.stdout, done.stderr
    assert check("agentd", harness.clean_environment(GOTTHARD_CONFIG_DIR=folder)).returncode == 0


def test_commands_of_step_1(tmp_path):
    run_as_operator(tmp_path, "1")
    made = set(os.listdir(tmp_path / ".config/gotthard"))
    assert {"fleet.key", "cli.conf", "relay.key", "GatewayOli.key", "broker", "GatewayOli", "alice"} <= made
    assert {"mosquitto-example.conf", "mosquitto-example.acl", "ca.crl"} <= set(os.listdir(tmp_path / ".config/gotthard/broker"))
    for name, start in (("relay", "gk1r."), ("GatewayOli", "gk1d.GatewayOli."), ("alice", "gk1o.alice.")):
        assert (tmp_path / f".config/gotthard/{name}.key").read_text().startswith(start)


def test_certificates_of_all_parts(tmp_path):
    """The calls of the authority in their order. The lines for the second operator are for the name in the certificate."""
    pages = [*readme.set_up(readme.BY_HAND), *(c for c in readme.set_up() if c.part.startswith("A lost device"))]
    commands = [c.text for c in pages if isinstance(c, readme.Command) and "make-certificate-example" in c.text]
    script = "set -e\n" + "\n".join(commands).replace("/usr/share/doc/gotthard-cli/examples", str(ROOT / "etc"))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Pump7 is revoked" in done.stdout
    names = {name: subprocess.run(["openssl", "x509", "-in", tmp_path / name / "cert.pem", "-noout", "-subject", "-nameopt", "RFC2253"],
                                  check=True, capture_output=True, text=True).stdout.strip() for name in ("GatewayOli", "alice", "bob")}
    assert names == {"GatewayOli": "subject=CN=GatewayOli", "alice": "subject=CN=operator alice", "bob": "subject=CN=operator bob"}
    added, = {c.document for c in both() if isinstance(c, readme.Command) and c.part == "A second operator" and c.file}
    assert added == (ROOT / "etc/mosquitto-example.acl").read_text().partition("name.\n")[2].replace("alice", "bob")


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_settings_are_accepted(env, program):
    documents = [c.document for c in both() if isinstance(c, readme.Command) and c.file and f"/{program}.conf.d/" in c.file]
    extra = [c.text for c in both() if isinstance(c, readme.Settings)] if program == "agentd" else []
    assert documents and (extra or program == "relayd")
    key = env.folder / "key"
    key.write_text(env.key)
    key.chmod(0o600)
    password = private_file(env.folder / "proxy.password", "secret")
    for document in documents:
        text = re.sub(r'"/etc/gotthard/\w+\.key"', f'"{key}"; iv = "{env.iv}"', document)
        text = text.replace("/etc/gotthard/mqtt", str(env.certificates("GatewayOli")))
        folder = env.config_folder(**{program: text})
        (folder / f"{program}.conf.d").mkdir(exist_ok=True)
        for number, line in enumerate(extra):
            (folder / f"{program}.conf.d/{number}.conf").write_text(line.replace("/etc/gotthard/proxy.password", str(password)) + "\n")
        done = check(program, harness.clean_environment(GOTTHARD_CONFIG_DIR=folder))
        assert done.returncode == 0, done.stderr


def test_first_prompt_takes_twelve_commands():
    """With the installation of each package. A second device takes three, a second operator three and the installation."""
    commands = [c for c in readme.set_up() if isinstance(c, readme.Command)]
    n_first = sum(c.part in ("1", "2", "3", "4") for c in commands) + sum(len(readme.packages(step)) for step in "1234")
    assert n_first + 1 == 12  # ssh is the last one
    assert [c.text.split("#")[0].strip() for c in commands if c.part == "5"][1] == "ssh user@GatewayOli.gotthard"
    assert len([c for c in commands if c.part == "4"]) + len(readme.packages("4")) == 3
    assert len([c for c in commands if c.part == "A second operator"]) + 1 == 4
