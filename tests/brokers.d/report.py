# SPDX-License-Identifier: ISC
"""The table of the brokers: a row of text for a terminal, and the generated part of docs/brokers.md.

Each row is stored with its date and commit, so that a run of one broker replaces one row of the table.
"""

import dataclasses
import json
import subprocess
import time

import harness
from job import STEPS

BEGIN, END = "<!-- tests/brokers writes from here -->", "<!-- to here -->"


def commit():
    """The last commit that changed the programs."""
    done = subprocess.run(["git", "-C", harness.ROOT, "log", "-1", "--format=%h", "--", "common", "gotthard-agentd", "gotthard-cli",
                           "gotthard-relayd"], capture_output=True, text=True)
    return done.stdout.strip() or (harness.ROOT / "common" / "VERSION").read_text().strip()


@dataclasses.dataclass
class Row:
    name: str
    source: str
    version: str
    mqtt: str = ""
    results: dict = dataclasses.field(default_factory=dict)  # step: (outcome, time or reason, note)
    accepted: dict = dataclasses.field(default_factory=dict)  # version of MQTT: accepted?
    limits: dict = dataclasses.field(default_factory=dict)
    unavailable: str = ""
    date: str = dataclasses.field(default_factory=lambda: time.strftime("%Y-%m-%d"))
    commit: str = dataclasses.field(default_factory=commit)

    def is_good(self):
        return not self.unavailable and all(outcome in ("pass", "limit") for outcome, _, _ in self.results.values())

    def failures(self):
        return [(step, why) for step, (outcome, why, _) in self.results.items() if outcome in ("fail", "limit")]

    def text(self):
        head = " ".join(filter(None, (self.name, self.version, self.mqtt and f"MQTT {self.mqtt}")))
        if self.unavailable:
            return f"{head}: not available here: {self.unavailable}"
        cells = [f"{step} {_cell(result)}" for step, result in self.results.items()]
        return "\n".join([f"{head}: {', '.join(cells)}", *(f"    {step}: {why}" for step, why in self.failures())])


def store(folder, name, rows):
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "results" / f"{name}.json").write_text(json.dumps([dataclasses.asdict(row) for row in rows]))


def _cell(result):
    outcome, detail, note = result
    return {"pass": f"{detail} ({note})" if note else detail, "fail": "**fail**", "limit": "fails: its limit", "skip": "-"}[outcome]


def _line(*cells):
    return f"| {' | '.join(cells)} |"


def _main_table(rows):
    steps = [step.name for step in STEPS]
    yield _line("broker", "version", "MQTT", *steps)
    yield "|---" * (3 + len(steps)) + "|"
    for row in rows:
        if row.unavailable:
            yield _line(row.name, row.version, "", f"not available here: {row.unavailable}", *[""] * (len(steps) - 1))
        else:
            yield _line(row.name, row.version, row.mqtt, *(_cell(row.results[step]) for step in steps))


def _lists(rows):
    failures = [f"- {row.name}, MQTT {row.mqtt}, {step}: {why}" for row in rows for step, why in row.failures()]
    if failures:
        yield from ("", "Failures, with the words of the programs:", "", *failures)
    yield from ("", "Limits in the CONNACK of MQTT 5:", "")
    for row in rows:
        if row.mqtt == "5":
            yield f"- {row.name}: {', '.join(f'{name} {value}' for name, value in row.limits.items()) or 'none'}"
    yield ""
    for date, version in sorted({(row.date, row.commit) for row in rows}):
        yield f"Run on {date} with the programs of {version}: {', '.join(dict.fromkeys(r.name for r in rows if (r.date, r.commit) == (date, version)))}."


def write(folder, names, path):
    """Replaces the generated part of the document."""
    stored = [folder / "results" / f"{name}.json" for name in names]
    rows = [Row(**fields) for file in stored if file.exists() for fields in json.loads(file.read_text())]
    text = path.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text("\n".join([before + BEGIN, *_main_table(rows), *_lists(rows), END + after]))
