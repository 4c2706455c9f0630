# SPDX-License-Identifier: ISC
"""What the programs tell about their own settings, and the two marks that tie a test to one of them.

@effect("relayd", "server.bind", "--bind") stands on a test that fails if the setting does nothing; @refuses on one
that shows a wrong value being refused. test_settings.py reads all marks of all tests, asks the programs what can be
set, and fails when something has no test of its own.
"""

import functools
import importlib
import os
import pathlib
import re
import subprocess

import pytest

import harness

effect = pytest.mark.effect
refuses = pytest.mark.refuses

NAMES = ("relayd", "agentd", "cli")
KEY = bytes(range(32)).hex()
IV = bytes(range(0xA0, 0xB0)).hex()

# The least that makes a program's configuration complete.
COMPLETE = {
    "relayd": {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV},
    "agentd": {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV, "MACHINE_ID": "GatewayOli",
               "GOTTHARD_SERVER_HOST": "localhost", "GOTTHARD_MQTT_ENDPOINT": "mqtt://localhost",
               "GOTTHARD_MQTT_USERNAME": "oli"},
    "cli": {},
}


class Item:
    """A row of a program's table, as its --help shows it. @kind: N, TEXT, SECRET ...; "" of a switch."""

    def __init__(self, head, kind, path, variable):
        self.path, self.kind, self.variable = path, kind or "", variable
        self.flag = head if head.startswith("--") else None

    def in_file(self, value, key=""):
        """The setting as a line of a file; @key: "_file" for where a secret stands."""
        if self.kind == "GROUP":
            return f"{self.path} = {{ " + " ".join('{} = "{}";'.format(*p.split("=")) for p in value.split(",")) + " };"
        group, _, name = self.path.rpartition(".")
        text = value if self.kind in ("N", "") else f'"{value}"'
        line = f"{name}{key} = {text};"
        return f"{group} = {{ {line} }};" if group else line


@functools.lru_cache(maxsize=None)
def help_of(program):
    return subprocess.run([harness.PROGRAMS[program], "--help"], env=harness.clean_environment(), capture_output=True,
                          text=True, timeout=harness.LIMIT, check=True).stdout


@functools.lru_cache(maxsize=None)
def items_of(program):
    found = re.findall(r"^  (--[\w-]+|[\w.]+)(?: ([A-Z]+))? +\S.*\n {33}([\w.]+)(?:, (\w+))?(?: \(.*\))?$",
                       help_of(program), re.MULTILINE)
    return {item.path: item for item in (Item(*row) for row in found)}


def options_of(program):
    """The options that are no settings."""
    flags = {item.flag for item in items_of(program).values()}
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_of(program), re.MULTILINE)) - flags


def check(program, *args, env=None, **more):
    """Loads the configuration and shows it. @more: variables beside what makes it complete; None takes one away."""
    command = ["config", "show"] if program == "cli" else ["--check-config"]
    env = harness.clean_environment(**{**COMPLETE[program], **(env or {}), **more})
    return subprocess.run([harness.PROGRAMS[program], *command, *map(str, args)], env=env, capture_output=True, text=True,
                          timeout=harness.LIMIT, check=False)


def shown(done):
    """{path: (value, origin)} of what check() gave."""
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return {path: tuple(rest.rsplit("   # ", 1)) for path, rest in (line.split(" = ", 1) for line in lines)}


def private_file(path, text, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.chmod(path, mode)
    return path


def marked(mark):
    """{program: names} of all tests there are; "all" stands for each program."""
    found = {name: set() for name in (*NAMES, "all")}
    for path in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name, function in vars(module).items():
            for each in getattr(function, "pytestmark", []) if name.startswith("test_") else []:
                if each.name == mark:
                    found[each.args[0]].update(each.args[1:])
    return {name: found[name] | found["all"] for name in NAMES}
