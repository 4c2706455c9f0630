# SPDX-License-Identifier: ISC
"""The commands of the set-ups of README.md and docs/by-hand.md, so that tests run what the pages say."""

import dataclasses
import pathlib
import re

README = pathlib.Path(__file__).resolve().parent.parent.parent / "README.md"
BY_HAND = README.parent / "docs" / "by-hand.md"


@dataclasses.dataclass
class Command:
    part: str  # the number of the step, or the heading
    as_user: bool  # begins with "$": the operator, not root
    text: str  # with the lines of its here-document

    @property
    def file(self):
        """The file that the here-document becomes, or None."""
        match = re.search(r"(\S+) <<END$", self.text.split("\n", maxsplit=1)[0])
        return match and match[1]

    @property
    def document(self):
        return "".join(line + "\n" for line in self.text.split("\n")[1:-1])


@dataclasses.dataclass
class Settings:
    """A line of settings that is shown without a command."""
    part: str
    text: str


def code_lines(text):
    """Yields each line of code of the set-up with the step or heading that it belongs to."""
    part, inside = "", False
    for line in text.splitlines():
        if line.startswith("## "):
            inside = line == "## Set it up"
        if match := re.match(r"#+ (.*)|\*\*(\d)\. ", line):
            part = match[1] or match[2]
        if inside and line.startswith("    "):
            yield part, line[4:].lstrip() if line.lstrip().startswith("$ ") else line[4:]


def parse(text):
    found, open_document = [], None
    for part, line in code_lines(text):
        if open_document:
            open_document.text += "\n" + line
            if line == "END":
                open_document = None
        elif re.match(r"\w+ += ", line):
            found.append(Settings(part, line))
        elif found and isinstance(found[-1], Command) and found[-1].text.endswith("\\"):
            found[-1].text += "\n" + line
        else:
            found.append(Command(part, line.startswith("$ "), line.removeprefix("$ ").strip()))
            if line.endswith("<<END"):
                open_document = found[-1]
    assert not open_document, "a here-document without an end"
    return found


def set_up(page=README):
    """Returns the commands and settings in the order of the page."""
    return parse(page.read_text())


def packages(step, page=README):
    """Returns the arguments of the `apt install` that the text of a step names."""
    match = re.search(rf"^\*\*{step}\. .*?^    ", page.read_text(), re.MULTILINE | re.DOTALL)
    line = page.read_text()[match.start():].split("\n**", maxsplit=1)[0]
    return re.findall(r"`apt install ([^`]+)`", line)
