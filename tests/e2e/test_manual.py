# SPDX-License-Identifier: ISC
"""The manual pages as a reader sees them: rendered by man, without a warning, and as complete as the tables."""

import re
import subprocess

import pytest

from harness import LIMIT, ROOT, clean_environment

PAGES = {"gotthard-cli.1": "gotthard-cli", "gotthard.7": "gotthard-cli", "gotthard-agentd.8": "gotthard-agentd",
         "gotthard-relayd.8": "gotthard-relayd"}


def rendered(page, folder):
    """The text of a page, which scdoc and man must render without a warning."""
    source = (ROOT / PAGES[page] / f"{page}.scd").read_text()
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
    name, section = page.split(".")
    text = rendered(page, tmp_path)
    assert re.search(rf"^{name}\({section}\)\s.*\s{name}\({section}\)$", text, re.M)
    assert "\nNAME\n" in text


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
