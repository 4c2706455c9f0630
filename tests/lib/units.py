# SPDX-License-Identifier: ISC
"""Runs the commands of the shipped units on programs of the build, as the service manager does."""

import configparser
import shlex
import subprocess

import harness

UNITS = harness.ROOT / "systemd"


def service(program):
    """Returns the section [Service] of the unit. A key that occurs several times has its last value."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#", delimiters="=")
    parser.optionxform = str
    parser.read(UNITS / f"gotthard-{program}.service.in")
    return parser["Service"]


def reload_commands(program):
    lines = (UNITS / f"gotthard-{program}.service.in").read_text().splitlines()
    return [shlex.split(line.partition("=")[2]) for line in lines if line.startswith("ExecReload=")]


def reload(program, main, **variables):
    """Runs ExecReload= for the process @main. Returns the exit status of the first command that fails, and the words of all.

    As with LoadCredential=, the environment has none of the service's secrets. @variables: of EnvironmentFile=.
    """
    environment = harness.clean_environment(MAINPID=main.pid, **variables)
    said = ""
    for command in reload_commands(program):
        command = [str(main.pid) if word == "$MAINPID" else word for word in command]
        command[0] = command[0].replace(f"@sbindir@/gotthard-{program}", str(harness.PROGRAMS[program]))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        said += done.stderr
        if done.returncode:
            return done.returncode, said
    return 0, said
