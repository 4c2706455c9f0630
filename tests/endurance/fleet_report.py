# SPDX-License-Identifier: ISC
"""The report of tests/fleet, docs/fleets.md: a section for each part. A run replaces the section of its part."""

import dataclasses
import re
import subprocess
import time

import harness
import machine
import report

PATH = harness.ROOT / "docs" / "fleets.md"
HEAD = """\
# Large fleets, measured

`tests/fleet` (HACKING.md) writes this file with `--write`, a section for each of its parts. Each section names the machine and the
day of its figures. Absolute times depend on the machine, and on other work on it.
"""


@dataclasses.dataclass
class Section:
    title: str
    notes: list
    head: list
    rows: list

    def text(self):
        rows = [[str(cell).replace("|", "\\|") for cell in row] for row in self.rows]
        return "\n\n".join([f"## {self.title}", *self.notes, about(), report.table(self.head, rows)]) + "\n"


def about():
    """Returns a paragraph: the day, the machine, the versions."""
    facts = machine.describe()
    mosquitto = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return (f"{time.strftime('%Y-%m-%d')}: {facts['cpu']}, {facts['cores']} cores, {facts['memory_GiB']} GiB, {facts['system']}, "
            f"Linux {facts['kernel']}, {facts['openssl']}, {mosquitto.replace(' version', '')}. Gotthard {facts['gotthard']}. "
            f"Load average at the end: {facts['load_before']:.1f}.")


def replace(text, section):
    """Returns @text with the section of that title replaced, or added at the end."""
    pattern = re.compile(rf"^## {re.escape(section.title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    written = section.text()
    if pattern.search(text):
        return pattern.sub(lambda _: written + "\n", text).rstrip("\n") + "\n"
    return f"{text.rstrip()}\n\n{written}"


def write(section):
    text = PATH.read_text(encoding="utf-8") if PATH.exists() else HEAD
    PATH.write_text(replace(text, section), encoding="utf-8")
