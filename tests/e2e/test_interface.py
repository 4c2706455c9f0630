# SPDX-License-Identifier: ISC
"""Usage texts, completions, manual pages and tables of settings describe the same commands, options and settings.

Each list is taken from its own text, and every difference is named with the place that lacks it. The tables of the programs are
seen through `help`, and each command is asked which options it accepts (test_cli.py).
"""

import functools
import json
import re
import subprocess

import pytest

from harness import BUILD, LIMIT, PROGRAMS, ROOT, clean_environment
from setting_markers import items_of

ORIGINAL = {"server", "edge-device"}  # commands of the original tool, for the name `gotthard`
SECTION = {"cli": "1", "relayd": "8", "agentd": "8"}


def agree(**lists):
    """Asserts that all sets are equal. Names what each of them lacks."""
    lists = {name: {" ".join(row) if isinstance(row, tuple) else row for row in found} for name, found in lists.items()}
    everything = set().union(*lists.values())
    missing = {name: sorted(everything - found) for name, found in lists.items() if everything - found}
    assert not missing, "\n".join(f"missing in {name}: {', '.join(words)}" for name, words in missing.items())


# --- the texts ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def output(program, *args):
    return subprocess.run([PROGRAMS[program], *args], capture_output=True, text=True, timeout=LIMIT, check=True,
                          stdin=subprocess.DEVNULL, env=clean_environment(XDG_STATE_HOME="/nonexistent")).stdout


def usages():
    """{command: usage} of `--help`."""
    return dict(re.findall(r"^  ([a-z-]+) ?(.*)$", output("cli", "--help"), re.M))


def options_of_help(program, *args):
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", output(program, *args), re.M))


def completed(*line):
    return {row.partition("\t")[0] for row in output("cli", "complete-words", "gotthard-cli", *line).splitlines()}


def page(name):
    folder = name.removesuffix(".conf") if name != "gotthard" else "gotthard-cli"
    section, = (path.suffixes[-2][1:] for path in (ROOT / folder).glob(f"{name}.[0-9].scd"))
    return (ROOT / folder / f"{name}.{section}.scd").read_text()


def part(text, title):
    """The section or subsection with this title. A section is without its subsections."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    assert found, f"the page has no section {title}"
    return found[1]


def terms(text):
    """The lines that begin a paragraph with a description."""
    return re.findall(r"^(\*.*)\n\t", text, re.M)


def plain(text):
    return text.replace("\\", "").replace("*", "").replace("_", "")


# --- commands -------------------------------------------------------------------------------------


def test_commands_are_the_same_everywhere():
    cli = page("gotthard-cli")
    described = {name for term in terms(part(cli, "COMMANDS")) for name in re.findall(r"(?:^|, )\*([a-z-]+)", term)}
    agree(**{"gotthard-cli --help": usages(),
             "completions": completed(""),
             "help of completions": completed("help", ""),
             "gotthard-cli(1), SYNOPSIS": re.findall(r"^\*gotthard-cli\* \*([a-z-]+)\*", part(cli, "SYNOPSIS"), re.M),
             "gotthard-cli(1), COMMANDS (written by hand)": described - ORIGINAL,
             "gotthard-cli(1), Options of each command": [plain(term) for term in terms(part(cli, "Options of each command"))]})
    assert ORIGINAL <= described


@pytest.mark.parametrize("command", sorted(usages()))
def test_usage_of_a_command_is_the_same_everywhere(command):
    cli = page("gotthard-cli")
    usage = usages()[command]
    assert output("cli", "help", command).startswith(f"Usage: gotthard-cli {command} [OPTION]...{' ' if usage else ''}{usage}\n")
    line = re.search(rf"^\*gotthard-cli\* \*{command}\* (.*?)(?:\+\+)?$", part(cli, "SYNOPSIS"), re.M)[1]
    assert plain(line) == f"[OPTION...]{' ' if usage else ''}{usage}"
    found = [plain(term) for term in terms(part(cli, "COMMANDS"))]
    wanted = f"{command} {usage}".strip()
    if command == "keygen":
        wanted = command  # its forms are in the text
    assert any(wanted in term.split(", ") for term in found), \
        f"gotthard-cli(1), COMMANDS (written by hand) has no paragraph \"{wanted}\", but: {found}"


# --- options --------------------------------------------------------------------------------------


def settings_flags(program):
    return {item.flag for item in items_of(program).values() if item.flag}


@pytest.mark.parametrize("command", sorted(usages()))
def test_options_of_a_command_are_the_same_everywhere(command):
    listed = part(page("gotthard-cli"), "Options of each command")
    common = set(re.findall(r"--[\w-]+", re.search(r"^Every command accepts.*$", listed, re.M)[0]))
    own = re.search(rf"^\*{command}\*\n((?:\t.*\n)+)", listed, re.M)[1]
    agree(**{f"gotthard-cli help {command}": options_of_help("cli", "help", command),
             f"completions of {command}": completed(command, "--") - {"--no-" + flag[2:] for flag in settings_flags("cli")},
             "gotthard-cli(1), Options of each command": set(re.findall(r"--[\w-]+", own)) | common})


def test_each_option_is_described_in_the_manual_of_the_cli():
    cli = page("gotthard-cli")
    every = set().union(*(options_of_help("cli", "help", command) for command in usages()))
    agree(**{"gotthard-cli help COMMAND": every - settings_flags("cli"),
             "gotthard-cli(1), OPTIONS (written by hand)":
                 {name for term in terms(part(cli, "OPTIONS")) for name in re.findall(r"--[\w-]+", term)}})
    agree(**{"table of settings": settings_flags("cli"),
             "gotthard-cli(1), Options for settings":
                 {name for term in terms(part(cli, "Options for settings")) for name in re.findall(r"--[\w-]+", term)}})


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_options_of_a_daemon_are_the_same_everywhere(program):
    described = {name for term in terms(part(page(f"gotthard-{program}"), "OPTIONS")) for name in re.findall(r"--[\w-]+", term)}
    agree(**{f"gotthard-{program} --help": options_of_help(program, "--help"), f"gotthard-{program}(8), OPTIONS": described})
    assert settings_flags(program) <= described


def test_arguments_of_options_are_the_same_everywhere():
    """The name of an option's argument in the help, in the list of each command and in its paragraph."""
    cli = page("gotthard-cli")
    option = r"(--[\w-]+)(?: ?(\[=[^a-z\s,]+|(?<= )[^a-z\s,]+))?"
    of_help = {}
    for command in usages():
        of_help |= dict(re.findall(rf"^  (?:-\w, )?{option}(?= )", output("cli", "help", command), re.M))
    of_lists = dict(re.findall(option, plain(part(cli, "Options of each command").replace("\n\t", " "))))
    of_terms = dict(re.findall(option, plain("\n".join(terms(part(cli, "OPTIONS")) + terms(part(cli, "Options for settings"))))))
    agree(**{"help": of_help.items(), "gotthard-cli(1), Options of each command": of_lists.items(),
             "gotthard-cli(1), OPTIONS and Options for settings": of_terms.items()})


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", SECTION)
def test_settings_are_the_same_everywhere(program):
    text = page(f"gotthard-{program}.conf")
    described = re.search(r"^# SETTINGS\n(.*?)^# EXAMPLES", text, re.M | re.S)[1]
    variables = part(text, "ENVIRONMENT")
    pairs = re.findall(r"^\*([A-Z_]+)\*.*\n\t\*([\w.]+)\*$", variables.replace("\\", ""), re.M)
    example = (ROOT / "etc" / f"{program}.conf").read_text()
    group, shown = "", set()
    for line in example.splitlines():
        if found := re.fullmatch(r"(\w+) = \{", line):
            group = found[1]
            shown |= {group} if re.search(rf"^# \(group of texts.*\n{group} = \{{$", example, re.M) else set()
        elif found := re.fullmatch(r"    #(\w+) = .*;", line):
            shown.add(f"{group}.{found[1]}")
    secrets = {path for path in shown if path.removesuffix("_file") in shown and path.endswith("_file")}
    items = items_of(program)
    agree(**{f"help of gotthard-{program}": items,
             f"gotthard-{program}.conf(5), SETTINGS": re.findall(r"^\*([\w.]+)\* \(", described.replace("\\", ""), re.M),
             f"etc/{program}.conf": shown - secrets})
    agree(**{f"help of gotthard-{program}": {(item.variable, item.path) for item in items.values() if item.variable},
             f"gotthard-{program}.conf(5), ENVIRONMENT": pairs})


def test_words_of_settings_are_completed():
    for item in items_of("cli").values():
        found = re.search(rf"^\*{re.escape(item.path)}\* \(one of: ([^,]*),", page("gotthard-cli.conf").replace("\\", ""), re.M)
        if found and item.flag:
            assert completed("config", item.flag, "") == set(found[1].split())


@pytest.mark.parametrize("program", SECTION)
def test_other_variables_are_in_the_manual(program):
    """Each variable that a program or the library reads by its name."""
    sources = [*(ROOT / f"gotthard-{program}" / "src").rglob("*.c"), *(ROOT / "common" / "gotthard").rglob("*.c")]
    read = {name for path in sources for name in re.findall(r'(?:getenv|env_number|is_set)\("([A-Z_]+)"\)', path.read_text())}
    if program == "cli":
        read -= {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY",
                 "RUNTIME_DIRECTORY", "MAINPID"}
    if program == "relayd":
        read -= {"LISTEN_PID", "LISTEN_FDS", "NO_COLOR", "TERM", "NO_PROXY"}
    if program != "cli":
        read -= {"HOME", "XDG_CONFIG_HOME"}
    text = part(page(f"gotthard-{program}"), "ENVIRONMENT").replace("\\", "")
    described = {name.upper() for term in terms(text) for name in re.findall(r"\w+", term)}
    assert read <= described, f"missing in gotthard-{program}({SECTION[program]}), ENVIRONMENT: {sorted(read - described)}"


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", SECTION)
def test_installed_files_are_in_the_manual(program):
    """Each file that the package of a program has in /etc, and each example, is named in FILES."""
    plan = json.loads(subprocess.run(["meson", "introspect", "--installed", BUILD], capture_output=True, text=True, check=True).stdout)
    selected = [line for line in (ROOT / "debian" / f"gotthard-{program}.install").read_text().split()
                if line.startswith(("etc/", "usr/share/doc"))]
    installed = {path[path.index(line):] for path in plan.values() for line in selected if f"/{line}" in path and line.startswith("etc/")}
    installed |= {path[path.index(line[4:]):] for path in plan.values() for line in selected if line.startswith("usr/") and line[4:] in path}
    files = part(page(f"gotthard-{program}"), "FILES").replace("\\", "")
    missing = {path for path in installed if path.rpartition("/")[2] not in files}
    assert installed and not missing, f"missing in gotthard-{program}({SECTION[program]}), FILES: {sorted(missing)}"


# --- examples -------------------------------------------------------------------------------------


def examples():
    """Commands of gotthard-cli in the help, in the manual pages and in the README, with the place."""
    for command in usages():
        for line in re.findall(r"^  (gotthard-cli .*)$", output("cli", "help", command).split("\nExample:\n")[1], re.M):
            yield f"help {command}", line
    for path in [*ROOT.glob("gotthard-*/*.scd"), ROOT / "README.md"]:
        for line in re.findall(r"^(?:\t|    \$ |    )(?:\S+=\S+ )*(gotthard-cli .*?)(?:\+\+)?$", path.read_text(), re.M):
            yield path.name, line


@pytest.mark.parametrize("place, line", examples(), ids=lambda text: text.replace("/", "|")[:60])
def test_examples_have_known_commands_and_options(place, line):
    """Every example is a command line that the table of commands accepts."""
    words = re.split(r"\s+", re.sub(r"\s#\s.*|[|;>&].*", "", line).strip())[1:]
    if words[0] in ("*connect*", "connects"):
        return
    assert words[0] in usages(), f"{place}: {line}"
    accepted = options_of_help("cli", "help", words[0])
    given = [word.split("=")[0] for word in words[1:] if word.startswith("--") and len(word) > 2]
    if "--" in words:
        given = [word for word in given if words.index(word) < words.index("--")]
    if words[0] == "ssh":
        given = []  # options of ssh follow the device
    assert set(given) <= accepted, f"{place}: {line}: unknown {set(given) - accepted}"


@pytest.mark.parametrize("command", sorted(usages()))
def test_each_command_has_an_example(command):
    assert re.search(rf"^  gotthard-cli {command}\b", output("cli", "help", command).split("\nExample:\n")[1], re.M)


def test_the_synopsis_does_not_have_hidden_commands():
    """complete-words is for the scripts only."""
    for text in (output("cli", "--help"), page("gotthard-cli")):
        assert "complete-words" not in text
