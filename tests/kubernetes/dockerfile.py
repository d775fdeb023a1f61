"""What the Dockerfile says an image is."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


@dataclass
class Stage:
    """One `FROM ... AS name` and what follows."""

    base: str
    lines: list[str] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """Every stage by its name."""
    found: dict[str, Stage] = {}
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if start := re.match(r"FROM (\S+) AS (\S+)$", line):
            found[start[2]] = Stage(start[1])
        elif found and line and not line.startswith("#"):
            list(found.values())[-1].lines.append(line)
    return found


def instructions(name: str, instruction: str) -> list[str]:
    """The arguments of an instruction in a stage, those of its bases first."""
    everything = stages()
    found: list[str] = []
    while name in everything:
        lines = [one for one in everything[name].lines if one.startswith(f"{instruction} ")]
        found = [line.removeprefix(f"{instruction} ") for line in lines] + found
        name = everything[name].base
    return found


def last(name: str, instruction: str) -> str:
    """The argument that holds for a stage; empty for none."""
    return next(reversed(instructions(name, instruction)), "")


def environment(name: str, path: str) -> dict[str, str]:
    """Variables of an image whose base has `path` for its PATH."""
    found = {"PATH": path}
    for line in instructions(name, "ENV"):
        for one in shlex.split(line):
            variable, _, value = one.partition("=")
            found[variable] = value.replace("$PATH", found["PATH"])
    return found


def copied(name: str) -> list[tuple[str, str]]:
    """What an image takes from other stages: the stage, and the place in the image."""
    found = []
    for line in instructions(name, "COPY"):
        source = re.match(r"--from=(\S+) \S+ (\S+)$", line)
        if source:
            found.append((source[1], source[2]))
    return found


def installed(stage: str) -> str:
    """What pip installs in a stage, such as `.[control]`; the last word counts."""
    for line in reversed(instructions(stage, "RUN")):
        if found := re.search(r"pip install --no-cache-dir '?(\.[^' ]*)'?", line):
            return found[1]
    raise LookupError(f"{stage} installs nothing")
