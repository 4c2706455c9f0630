# SPDX-License-Identifier: ISC
"""The settings as the programs' help describes them, and the two marks that relate a test to a setting.

@effect("relayd", "server.bind", "--bind") marks a test that fails if the setting has no effect. @refuses marks a test
that a wrong value is rejected. test_settings.py reads the marks of all tests, reads the settings from the programs'
help, and fails if a setting has no test.
"""

import functools
import importlib
import os
import re
import subprocess

import pytest

import harness

effect = pytest.mark.effect
refuses = pytest.mark.refuses

NAMES = ("relayd", "agentd", "cli")
FOLDERS = ("e2e", "faults", "endurance")  # of pytest.ini: only their modules can be imported
KEY = bytes(range(32)).hex()
IV = bytes(range(0xA0, 0xB0)).hex()

# The smallest complete configuration of each program.
COMPLETE = {
    "relayd": {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV},
    "agentd": {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV, "MACHINE_ID": "GatewayOli",
               "GOTTHARD_SERVER_HOST": "localhost", "GOTTHARD_MQTT_ENDPOINT": "mqtt://localhost",
               "GOTTHARD_MQTT_USERNAME": "oli"},
    "cli": {"GOTTHARD_MQTT_USERNAME": "oli"},
}


class Item:
    """A setting as --help shows it. @kind: N, TEXT, SECRET ...; "" for a switch."""

    def __init__(self, head, kind, path, variable):
        self.path, self.kind, self.variable = path, kind or "", variable
        self.flag = head if head.startswith("--") else None

    def in_file(self, value, key=""):
        """The setting as a line of a file. @key: "_file" for the path of a file with the secret."""
        group, _, name = self.path.rpartition(".")
        text = value if self.kind in ("N", "") else f'"{value}"'
        if self.kind == "GROUP":
            text = "{ " + " ".join('{} = "{}";'.format(*p.split("=")) for p in value.split(",")) + " }"
        line = f"{name}{key} = {text};"
        return f"{group} = {{ {line} }};" if group else line


@functools.lru_cache(maxsize=None)
def help_of(program, command=None):
    args = ["help", command] if command else ["--help"]
    return subprocess.run([harness.PROGRAMS[program], *args], env=harness.clean_environment(), capture_output=True,
                          text=True, timeout=harness.LIMIT, check=True).stdout


@functools.lru_cache(maxsize=None)
def items_of(program):
    """All settings. The command line lists them in the help of its command config."""
    text = help_of(program, "config" if program == "cli" else None)
    found = re.findall(r"^  (--[\w-]+|[\w.]+)(?: ([A-Z]+))? +\S.*\n {33}([\w.]+)(?:, (\w+))?(?: \(.*\))?$", text, re.MULTILINE)
    return {item.path: item for item in (Item(*row) for row in found)}


def options_of(program):
    """The options of all commands that do not correspond to a setting."""
    text = help_of(program)
    if program == "cli":
        text = "".join(help_of(program, command) for command in re.findall(r"^  ([a-z-]+)", text, re.MULTILINE))
    flags = {item.flag for item in items_of(program).values()}
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)) - flags


def check(program, *args, env=None, **more):
    """Loads the configuration and shows it. @more: variables in addition to COMPLETE; None removes one."""
    command = ["config", "show"] if program == "cli" else ["--check-config"]
    env = harness.clean_environment(**{**COMPLETE[program], **(env or {}), **more})
    return subprocess.run([harness.PROGRAMS[program], *command, *map(str, args)], env=env, capture_output=True, text=True,
                          timeout=harness.LIMIT, check=False)


def is_in_effect(line):
    """The comments below the settings: the effective policy and services."""
    return line == "# In effect:" or line.startswith(("#   trust policy ", "#   service ", "#   no service", "#   permit", "#   clients "))


def parse_shown(text):
    """Returns {path: (value, origin)} of the output of --check-config or config show, which has the syntax of a file."""
    values, group = {}, ""
    for line in text.splitlines():
        if found := re.fullmatch(r"(\w+) = \{", line):
            group = found[1] + "."
        elif found := re.fullmatch(r"(    )?#?(\w+) = \{ ?(.*) ?\};   # (.*)", line):
            pairs = re.findall(r'([^ ]+) = "((?:[^"\\]|\\.)*)";', found[3])
            path = (group if found[1] else "") + found[2]
            values[path] = (",".join(f"{name}={value}" for name, value in pairs), found[4])
        elif found := re.fullmatch(r"    # (\w+) is (set|not set)   # (.*)", line):
            values[group + found[1]] = (found[2], found[3])
        elif found := re.fullmatch(r'    (\w+)_file = ".*";   # (.*)', line):
            values[group + found[1]] = ("set", found[2])
        elif found := re.fullmatch(r'    #?(\w+) = (?:"(.*)"|(\w+));   # (.*)', line):
            values[group + found[1]] = (re.sub(r"\\(.)", r"\1", found[2]) if found[3] is None else found[3], found[4])
        else:
            assert line == "};" or line.lstrip().startswith("#   overrides ") or is_in_effect(line), line
    return values


def shown(done):
    """Returns the values of a result of check()."""
    assert done.returncode == 0, done.stderr
    return parse_shown(done.stdout)


def private_file(path, text, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.chmod(path, mode)
    return path


def marked(mark):
    """Returns {program: names} of the tests of tests/run with this mark; "all" means each program."""
    found = {name: set() for name in (*NAMES, "all")}
    for path in sorted(path for folder in FOLDERS for path in (harness.ROOT / "tests" / folder).glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name, function in vars(module).items():
            for each in getattr(function, "pytestmark", []) if name.startswith("test_") else []:
                if each.name == mark:
                    found[each.args[0]].update(each.args[1:])
    return {name: found[name] | found["all"] for name in NAMES}
