# SPDX-License-Identifier: ISC
"""The list of steps. A step is a function of a steps_*.py with the decorator @step; it gets the fleet and fails by an exception.

    @step                     runs in a whole run, and when it is named on the command line
    @step(always=True)        runs also before any named step: it sets up what the others need
    @step(short=True)         belongs to the short form
    @step(last=True)          runs after the others: it leaves machines that no other step can use
    @step(previous=True)      needs the packages of the version before, which are built before the run: a run has no network

A step finds all machines up, the README's set-up done, and leaves them so."""

import dataclasses
import importlib
import pathlib

FOUND = []


@dataclasses.dataclass
class Step:
    function: object
    always: bool = False
    short: bool = False
    last: bool = False
    previous: bool = False

    @property
    def name(self):
        return self.function.__name__


def step(function=None, **options):
    if function is None:
        return lambda decorated: step(decorated, **options)
    FOUND.append(Step(function, **options))
    return function


def load():
    """Returns all steps in order. steps_readme.py sets up what the others need."""
    names = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("steps_*.py"))
    for name in sorted(names, key=lambda name: name != "steps_readme"):
        importlib.import_module(name)
    return sorted(FOUND, key=lambda found: (not found.always, found.last))


def select(names, is_short):
    """Returns the steps of a run."""
    found = load()
    unknown = set(names) - {each.name for each in found}
    assert not unknown, f"no such step: {', '.join(sorted(unknown))} (there are {', '.join(each.name for each in found)})"
    if is_short:
        return [each for each in found if each.short]
    return [each for each in found if not names or each.always or each.name in names]
