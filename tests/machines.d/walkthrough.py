# SPDX-License-Identifier: ISC
"""Types the set-up of docs/by-hand.md, and further parts of README.md, at the machines, as it is written there. Only what the text leaves to its reader is here: where the
built packages are, whose machine a part is about, and which words a second device or operator replaces."""

import re
import shutil
import subprocess

import readme

MARK = "--end of the command--"
OPERATOR = "alice"


class Terminal:
    """A shell that keeps its folder and its umask from one command to the next."""

    def __init__(self, machine, user):
        self.machine, self.user = machine, user
        self.process = subprocess.Popen(machine.enter(user, "bash"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, bufsize=1)

    def type(self, text, code=0):
        """Types a command. Returns its output, both streams. @code is None for any exit status."""
        self.process.stdin.write(f"{{\n{text}\n}} </dev/null; printf '\\n%s %d\\n' '{MARK}' $?\n")
        self.process.stdin.flush()
        output = []
        for line in self.process.stdout:
            if line.startswith(MARK):
                status = int(line.removeprefix(MARK))
                assert code is None or status == code, f"{self.user}@{self.machine.name}: {text}\nexit status {status}\n{''.join(output)}"
                return "".join(output)
            output.append(line)
        raise AssertionError(f"{self.user}@{self.machine.name}: {text}: the shell ended\n{''.join(output)}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def page_of(part):
    return readme.BY_HAND if any(each.part == part for each in readme.set_up(readme.BY_HAND)) else readme.README


def commands(part, replace=(), page=None):
    """Returns the commands of a part of @page (docs/by-hand.md, else the README), in which each word of @replace is replaced by another."""
    found = [each for each in readme.set_up(page or page_of(part)) if isinstance(each, readme.Command) and each.part == part]
    assert found, f"README.md has no part {part}"
    for each in found:
        for word, other in replace:
            each.text = re.sub(rf"\b{word}\b", other, each.text)
    return found


def settings(part):
    """Returns the lines of settings that a part of the README shows."""
    return [each.text for each in readme.set_up() if isinstance(each, readme.Settings) and each.part == part]


def install(fleet, machine, part, page=None):
    """Types the `apt install` that the text of a numbered part names. "Copy each to its machine" comes first."""
    for argument in readme.packages(part, page or page_of(part)):
        if match := re.match(r"\./gotthard-(\w+)_\*\.deb$", argument):
            machine.put(getattr(fleet.packages, match[1]))
        machine.run(f"apt install {argument}")


def follow(fleet, part, machine, replace=()):
    """Follows a part of the README: the operator's commands at the operator's machine, others as root at @machine."""
    operator = Terminal(fleet.operators[0], OPERATOR)
    root = Terminal(machine, "root")
    try:
        operator.type("cd ~/.config/gotthard 2>/dev/null || cd")
        is_installed = not part.isdigit()
        for command in commands(part, replace):
            if not is_installed and (not command.as_user or machine is fleet.operators[0]):
                install(fleet, machine, part)
                is_installed = True
            (operator if command.as_user else root).type(command.text)
    finally:
        operator.close()
        root.close()


def hand_over(fleet, other, *names):
    """The operator gives another one files of ~/.config/gotthard."""
    here, there = (each.root / f"home/{user}/.config/gotthard" for each, user in ((fleet.operators[0], OPERATOR), (fleet[other], other)))
    there.mkdir(parents=True, mode=0o700, exist_ok=True)
    for name in names:
        (shutil.copytree if (here / name).is_dir() else shutil.copy2)(here / name, there / name)
    owner = fleet[other].uid(other)
    subprocess.run(["chown", "-R", f"{owner}:{owner}", fleet[other].root / f"home/{other}/.config"], check=True)
