# SPDX-License-Identifier: ISC
"""The manual pages as a reader sees them: rendered by man, without a warning, and as complete as the tables."""

import re
import subprocess

import pytest

from harness import LIMIT, PROGRAMS, ROOT, clean_environment

PAGES = {path.name.removesuffix(".scd"): path for path in ROOT.glob("*/*.scd")}
# Each page has the sections of its kind, in this order; more may be between them.
SECTIONS = {"1": ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "FILES", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"],
            "5": ["NAME", "SYNOPSIS", "DESCRIPTION", "SETTINGS", "EXAMPLES", "FILES", "ENVIRONMENT", "SEE ALSO"],
            "7": ["NAME", "DESCRIPTION", "ERRORS", "EXAMPLES", "FILES", "ENVIRONMENT", "SEE ALSO"]}
SECTIONS["8"] = SECTIONS["1"]


def rendered(page, folder):
    """The text of a page, which scdoc and man must render without a warning."""
    source = PAGES[page].read_text()
    built = folder / page
    result = subprocess.run(["scdoc"], input=source, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    built.write_text(result.stdout)
    result = subprocess.run(["man", "--warnings", "--local-file", built], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=LIMIT, check=True,
                            env=clean_environment(LC_ALL="C.UTF-8", MANWIDTH="100", MANROFFOPT="", MANPAGER="cat", HOME=folder))
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize("page", PAGES)
def test_page_renders_without_a_warning(page, tmp_path):
    name, section = page.rsplit(".", 1)
    text = rendered(page, tmp_path)
    assert re.search(rf"^{name}\({section}\)\s.*\s{name}\({section}\)$", text, re.M)
    wanted = SECTIONS[section]
    assert [title for title in re.findall(r"^([A-Z][A-Z ]+)$", text, re.M) if title in wanted] == wanted


def test_there_is_a_page_for_each_program_and_its_settings():
    assert set(PAGES) == {"gotthard-cli.1", "gotthard-relayd.8", "gotthard-agentd.8", "gotthard-cli.conf.5", "gotthard-relayd.conf.5",
                          "gotthard-agentd.conf.5", "gotthard.7", "gotthard-demo.1"}


def test_pages_are_in_the_packages():
    """Each page by one package, beside the program."""
    selected = [line for path in (ROOT / "debian").glob("*.install") for line in path.read_text().split()]
    for page in PAGES:
        name, section = page.rsplit(".", 1)
        assert selected.count(f"usr/share/man/man{section}/{name}.{section}") == 1


def test_references_name_a_page():
    """A reference to a page of Gotthard, in a page or in the text of a program, is to a page that exists."""
    sources = [path.read_text() for folder in ("gotthard-*/src", "systemd") for path in ROOT.glob(f"{folder}/**/*.*")]
    for text in [path.read_text() for path in PAGES.values()] + sources:
        for name, section in re.findall(r"(?<![\w/])(gotthard(?:-[a-z]+)?(?:\.conf)?)\*?\((\d)\)", text):
            assert f"{name}.{section}" in PAGES
        misplaced = re.search(r"[a-z]+\.[a-z_]+\*?[a-z, ]* (?:in|of) \*?gotthard-[a-z]+\*?\([18]\)", text)
        assert not misplaced, f"settings are described in section 5: {misplaced[0]}"


@pytest.fixture
def folder(tmp_path):
    """A folder in place of /etc/gotthard, with the keys and certificates that the examples name."""
    fleet = {"GOTTHARD_CRYPT_KEY": bytes(range(32)).hex(), "GOTTHARD_CRYPT_IV": bytes(range(16)).hex()}
    keys = {"fleet.key": "".join(f"{name}={value}\n" for name, value in fleet.items())}
    for name, words in (("relay.key", ["relay"]), ("GatewayOli.key", ["device", "GatewayOli"])):
        keys[name] = subprocess.run([PROGRAMS["cli"], "keygen", *words], capture_output=True, text=True, check=True, timeout=LIMIT,
                                    env=clean_environment(**fleet)).stdout
    for name, text in keys.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "mqtt").mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=GatewayOli", "-keyout", tmp_path / "mqtt/private.key", "-out", tmp_path / "mqtt/cert.pem"],
                   check=True, capture_output=True)
    (tmp_path / "mqtt/private.key").chmod(0o600)
    (tmp_path / "mqtt/ca.crt").write_bytes((tmp_path / "mqtt/cert.pem").read_bytes())
    return tmp_path


@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_examples_of_settings_are_accepted(program, folder):
    """All examples of a page of settings together, each as a file."""
    section = PAGES[f"gotthard-{program}.conf.5"].read_text().split("\n# EXAMPLES\n")[1].split("\n# ")[0]
    examples = re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)
    assert len(examples) >= 2
    (folder / f"{program}.conf.d").mkdir()
    for number, text in enumerate(examples):
        text = text.replace("/etc/gotthard", str(folder))
        for name in ("fleet.key", "mqtt"):
            text = text.replace(f'"{name}"', f'"{folder}/{name}"')
        (folder / f"{program}.conf.d/{number}.conf").write_text(text)
    arguments = ["config", "show"] if program == "cli" else ["--check-config"]
    result = subprocess.run([PROGRAMS[program], *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=LIMIT, env=clean_environment(GOTTHARD_CONFIG_DIR=folder))
    assert result.returncode == 0, result.stderr
    for number in range(len(examples)):
        assert f"{number}.conf:1" in result.stdout


def test_each_error_has_one_paragraph(tmp_path):
    """Every id of the source, once, with its exit status; and no other id anywhere in the page."""
    statuses = dict(re.findall(r"GT_EXIT_(\w+) = (\d+),", (ROOT / "common/gotthard/base/exit-status.h").read_text()))
    numbers = dict(re.findall(r"(FAILURE_\w+) = (\d+),", (ROOT / "gotthard-cli/src/failure.h").read_text()))
    rows = re.findall(r"\.id = (FAILURE_\w+),\s+\.exit = GT_EXIT_(\w+),", (ROOT / "gotthard-cli/src/failure-table.c").read_text())
    assert len(rows) == len(numbers) > 20
    text = rendered("gotthard.7", tmp_path)
    section = re.search(r"^ERRORS\n(.*?)^[A-Z]", text, re.M | re.S)[1]
    paragraphs = re.findall(r"^ {7}GTD-E(\d+) \((\d+)\)\n((?:\n| {11}.*\n)+)", section, re.M)
    assert [(number, status) for number, status, _ in paragraphs] == [(numbers[name], statuses[how]) for name, how in rows]
    for number, _, body in paragraphs:
        # What failed and why; then what to do. No sentence twice.
        parts = [" ".join(part.split()) for part in body.split("\n\n") if part.strip()]
        sentences = re.split(r"(?<=\.) ", " ".join(parts))
        assert len(parts) == 2 and all(part.endswith(".") for part in parts), f"GTD-E{number}: {body}"
        assert len(set(sentences)) == len(sentences), f"GTD-E{number}: {body}"
    assert set(re.findall(r"GTD-E(\d+)", text)) <= set(numbers.values())
