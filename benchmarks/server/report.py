"""Figures to a table and a picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.server.budget import table as budget_table
from benchmarks.server.picture import draw

Rows = Sequence[Mapping[str, Any]]


def brief(found: Mapping[str, Any]) -> str:
    """One measurement in a line."""
    text = (
        f"{found['per_second']:>9,.0f}/s  p50 {found['p50'] * 1e3:.3f} ms  "
        f"p99 {found['p99'] * 1e3:.3f} ms  {found['cpu_us']:,.1f} us"
    )
    if "share_of_clean" in found:
        text += f"  {found['share_of_clean']:.0%} of clean"
    if "p99_times" in found:
        text += f"  p99 {found['p99_times']:.1f} times"
    return text


def summary(rounds: Mapping[str, Rows], count: int) -> dict[str, dict[str, float]]:
    """Medians by server; and Kedge's figure over the server's, round by round, at the median."""
    medians = {}
    for name, found in rounds.items():
        if len(found) != count:
            continue
        keys = ("per_second", "p50", "p99", "cpu_us", "share_of_clean", "p99_times")
        medians[name] = {
            key: statistics.median(one[key] for one in found) for key in keys if key in found[0]
        }
        if "kedge" in rounds and name != "kedge" and len(rounds["kedge"]) == count:
            pairs = list(zip(rounds["kedge"], found, strict=True))
            for key in ("per_second", "p50", "p99", "cpu_us"):
                ratio = statistics.median(own[key] / other[key] for own, other in pairs)
                medians[name][f"kedge_{key}_ratio"] = round(ratio, 3)
    return medians


# -- what was promised ---------------------------------------------------------------------------

_TARGETS = (
    # text, case, server, figure, bound, least (True) or most (False)
    ("iris at 64 clients, over kserve", "iris-rest-64", "kserve", "kedge_per_second_ratio", 12, 1),
    ("iris at 64, over mlserver", "iris-rest-64", "mlserver", "kedge_per_second_ratio", 10, 1),
    ("iris at 64, over the ASGI sketch", "iris-rest-64", "asgi", "kedge_per_second_ratio", 2, 1),
    ("p50 at one client, of kserve's", "iris-rest-1", "kserve", "kedge_p50_ratio", 0.4, 0),
    *(
        (f"iris at {n}, over Triton", f"iris-rest-{n}", "triton", "kedge_per_second_ratio", 1, 1)
        for n in (1, 16, 64)
    ),
    *(
        (f"p99 at 64, of {peer}'s", "iris-rest-64", peer, "kedge_p99_ratio", 1, 0)
        for peer in ("kserve", "mlserver", "triton", "mosec", "litserve")
    ),
    ("gRPC at 64, over kserve", "iris-grpc-64", "kserve", "kedge_per_second_ratio", 10, 1),
    *(
        (f"gRPC at {n}, over Triton", f"iris-grpc-{n}", "triton", "kedge_per_second_ratio", 1, 1)
        for n in (1, 16, 64)
    ),
    ("16 MB binary, p50 of a bare echo's", "tensor-binary-16-rest", "asgi", "kedge_p50_ratio",
     1.5, 0),
    ("p99 beside 10 MB of JSON, of alone", "beside-10-mb", "kedge", "p99_times", 5, 0),
    ("throughput with 1 % bad, of clean", "bad-1-percent", "kedge", "share_of_clean", 0.85, 1),
)  # fmt: skip


def targets(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """What was promised, what was found, and whether it holds; only what was measured."""
    summaries = {case["key"]: case["summary"] for case in found["cases"]}
    for text, key, server, figure, bound, least in _TARGETS:
        value = summaries.get(key, {}).get(server, {}).get(figure)
        if value is not None:
            held = value >= bound if least else value <= bound
            sign = "≥" if least else "≤"
            yield text, f"{sign} {bound}", f"{value:.2f}", "yes" if held else "**no**"
    footprint = found["footprint"]
    if "import" in footprint:
        value = footprint["import"]["package"] * 1e3
        yield "`import kedge.server`, ms", "≤ 150", f"{value:.0f}", yes(value <= 150)
    if "framework alone" in footprint and "kedge" in footprint:
        value = footprint["kedge"]["rss_mb"] - footprint["framework alone"]["rss_mb"]
        yield "idle memory above the framework, MB", "≤ 25", f"{value:.1f}", yes(value <= 25)


def yes(held: bool) -> str:
    return "yes" if held else "**no**"


# -- the page ------------------------------------------------------------------------------------


BUDGET = (
    "Kedge's own process, fed from memory: functions without those they call. What the whole "
    "server spends beyond this is the kernel's and the event loop's."
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    right = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, right, *rows])


def markdown(found: Mapping[str, Any]) -> str:
    about = found["machine"]
    parts = [
        "# The model server against its peers",
        f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python "
        f"{about['python']}, {about['date']}, commit {about['commit']}. `{found['command']}`",
        f"Servers on core {about['server_core']}, load on core {about['load_core']}; "
        f"{found['rounds']} rounds of {found['seconds']:g} s, by turns; medians. Ratios are "
        "Kedge's figure over the server's within a round, at the median of the rounds: above 1 "
        "is good for requests, below 1 for the rest.",
    ]
    if rows := list(targets(found)):
        parts += ["## Targets", table(("what", "bound", "found", "holds"), rows)]
    if found["footprint"]:
        parts += ["## Start-up and memory", footprint_table(found["footprint"])]
    if found["budget"]:
        parts += ["## Where a request's time goes", BUDGET, budget_table(found["budget"])]
    for case in found["cases"]:
        parts += [f"## {case['key']}", case_table(case)]
        if case["answers_compared"]:
            least = min(case["answers_compared"].values())
            parts.append(
                f"At least {least} answers of each server equal the framework's own. Load "
                f"average after the case: {case['load_average']}."
            )
    if found["failures"]:
        failures = [
            (one["case"], one["peer"], " ".join(one["reason"].split())[:300].replace("|", "/"))
            for one in found["failures"]
        ]
        parts += ["## What could not be measured", table(("case", "server", "why"), failures)]
    versions = [
        (name, ", ".join(f"{package} {number}" for package, number in packages.items()))
        for name, packages in found["versions"].items()
    ]
    parts += ["## Versions", table(("server", "packages"), versions)]
    return "\n\n".join(parts) + "\n"


def case_table(case: Mapping[str, Any]) -> str:
    head = ["server", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "Kedge: requests",
            "p50", "p99", "CPU"]  # fmt: skip
    extra = {"bad": ("of clean", "share_of_clean"), "beside": ("p99 of alone", "p99_times")}
    if case["variant"] in extra:
        head.append(extra[case["variant"]][0])
    rows = []
    for name, one in case["summary"].items():
        ratios = [one.get(f"kedge_{key}_ratio") for key in ("per_second", "p50", "p99", "cpu_us")]
        row = [
            name,
            f"{one['per_second']:,.0f}",
            f"{one['p50'] * 1e3:.2f}",
            f"{one['p99'] * 1e3:.2f}",
            f"{one['cpu_us']:,.1f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        ]
        if case["variant"] in extra:
            row.append(f"{one[extra[case['variant']][1]]:.2f}")
        rows.append(row)
    return table(head, rows)


def footprint_table(footprint: Mapping[str, Any]) -> str:
    keys = ("start_seconds", "rss_mb", "pss_mb", "processes", "idle_cpu_percent")
    head = ("server", "first answer s", "RSS MB", "PSS MB", "processes", "idle CPU %")
    rows = [
        [name, *(str(one.get(key, "")) for key in keys)]
        for name, one in footprint.items()
        if name != "import"
    ]
    text = table(head, rows)
    if took := footprint.get("import"):
        text += (
            f"\n\n`import kedge.server`: {took['package'] * 1e3:.0f} ms; with `ModelServer`: "
            f"{took['with_model_server'] * 1e3:.0f} ms."
        )
    return text


def write(found: Mapping[str, Any], folder: Path) -> str:
    """Raw figures, table and picture; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.json").write_text(json.dumps(found, indent=1) + "\n")
    text = markdown(found)
    (folder / "server.md").write_text(text)
    if picture := draw(found):
        (folder / "server.svg").write_text(picture)
    return text
