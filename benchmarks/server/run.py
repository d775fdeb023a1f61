"""Runs the cases: servers up, rounds by turns, failures written down and passed over.

    python -m benchmarks.server [--only iris,grpc] [--rounds 5] [--seconds 1.2] [--quick]

All servers of a model stand on one core while the load comes from another; in every round each is
asked in turn, every other round in the opposite order, so that what a machine does meanwhile hits
all alike. What is compared are the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.server import drive, report
from benchmarks.server.cases import Case, all_cases
from benchmarks.server.footprint import footprint, framework_memory, import_seconds
from benchmarks.server.payloads import MIB, Materials, trainable
from benchmarks.server.peers import PEERS, Peer, Setup
from benchmarks.server.processes import LOAD_CORE, SERVER_CORE, Failed, Ports, Probe, Server, pinned

RESULTS = Path(__file__).parents[1] / "results"
KEPT_ANSWERS = 200
_BIG = f"json-{5 * MIB}"
"""A tensor of 5 MiB is JSON text of 10 MB."""


class Bench:
    """One run: its materials, its servers, and what it has found."""

    def __init__(
        self, folder: Path, peers: Sequence[str], rounds: int, seconds: float, planned: int
    ) -> None:
        self._folder = folder
        self._materials = Materials(folder)
        self._rounds = rounds
        self._seconds = seconds
        self._turn = itertools.count()
        self._began = time.perf_counter()
        self._told = 0
        self._planned = planned
        self._installed: dict[str, str] = {}
        self.peers = [PEERS[name] for name in peers]
        self.failures: list[dict[str, str]] = []
        self.cases: list[dict[str, Any]] = []
        self.footprints: dict[str, Any] = {}
        self.budget: dict[str, dict[str, float]] = {}

    def fail(self, where: str, peer: str, reason: object) -> None:
        self.failures.append({"case": where, "peer": peer, "reason": str(reason)})
        say(f"  {peer}: {reason}")

    def install(self) -> None:
        for peer in list(self.peers):
            try:
                peer.install()
            except (Failed, OSError) as error:
                self.fail("install", peer.name, error)
                self.peers.remove(peer)

    # -- servers ---------------------------------------------------------------------------------

    def start(self, peer: Peer, framework: str, path: str, body: str) -> Server:
        """A server of this peer that has answered once."""
        turn = next(self._turn)
        scratch = self._folder / f"{peer.name}-{turn}"
        scratch.mkdir()
        ports = Ports.pick()
        setup = Setup(peer.python, framework, self._materials.model(framework), ports, scratch)
        launch = peer.launch(setup)
        server = Server(peer.name, launch.command, launch.env, ports, scratch / "log")
        try:
            server.until_answering(self.probe(path, body))
        except BaseException:
            server.stop()
            raise
        return server

    def probe(self, path: str, kind: str) -> Probe:
        entry = self._materials.payload(kind).entries[0]
        if isinstance(entry, str):
            return Probe(path, entry.encode(), {"content-type": "application/json"})
        return Probe(path, Path(entry["file"]).read_bytes(), entry["headers"])

    # -- cases -----------------------------------------------------------------------------------

    def measure_footprints(self) -> None:
        say("start-up and memory")
        path = infer_path("sklearn")
        for peer in self.peers:
            try:
                starts = 3 if peer.name == "kedge" else min(2, self._rounds)
                self.footprints[peer.name] = footprint(
                    partial(self.start, peer, "sklearn", path, "iris"), starts
                )
            except (Failed, OSError) as error:
                self.fail("footprint", peer.name, error)
            else:
                say(f"  {peer.name}: {json.dumps(self.footprints[peer.name])}")
        model = self._materials.model("sklearn") / "model.joblib"
        self.footprints["framework alone"] = framework_memory(model)
        self.footprints["import"] = import_seconds()

    def measure(self, framework: str, cases: Sequence[Case]) -> None:
        """All cases of one model, on servers that stand as long as these last."""
        if not trainable(framework):
            self.fail(framework, "all", "what trains the model is not installed")
            return
        with contextlib.ExitStack() as stack:
            servers: dict[str, Server] = {}
            for case in cases:
                self.start_missing(case, servers, stack)
                self.measure_case(case, servers)

    def start_missing(
        self, case: Case, servers: dict[str, Server], stack: contextlib.ExitStack
    ) -> None:
        """Starts those of the case's servers that do not run, or no longer do."""
        body = {"onnx": "iris-label", "identity": "small"}.get(case.framework, "iris")
        for peer in self.peers:
            if peer.name not in case.peers or case.framework not in peer.frameworks:
                continue
            if peer.name in servers and servers[peer.name].alive:
                continue
            servers.pop(peer.name, None)
            try:
                server = self.start(peer, case.framework, infer_path(case.framework), body)
            except Exception as error:
                self.fail(case.key, peer.name, f"{type(error).__name__}: {error}")
            else:
                servers[peer.name] = stack.enter_context(server)

    def measure_case(self, case: Case, servers: dict[str, Server]) -> None:
        self._told += 1
        spent = time.perf_counter() - self._began
        say(f"[{self._told}/{self._planned}] {case.key} ({spent / 60:.1f} min so far)")
        if case.transport == "grpc" and (reason := drive.grpc_reason()):
            self.fail(case.key, "all", reason)
            return
        rounds: dict[str, list[drive.Figures]] = {}
        checked: dict[str, int] = {}
        asked = [name for name in case.peers if name in servers]
        for turn in range(self._rounds):
            for name in asked[:: -1 if turn % 2 else 1]:
                try:
                    if turn == 0:
                        self.check_first(case, servers[name])
                    found = self.ask(case, servers[name])
                    kept = found.pop("kept", {})
                    if kept and case.framework != "identity":
                        expected = self._materials.expected(case.framework)
                        checked[name] = drive.check_labels(servers[name], kept, expected)
                except (Failed, OSError, ValueError, KeyError) as error:
                    self.fail(case.key, name, error)
                    rounds.pop(name, None)
                    asked = [one for one in asked if one != name]
                else:
                    rounds.setdefault(name, []).append(found)
                    say(f"  {turn + 1} {name:14} {report.brief(found)}")
        self.cases.append(
            {
                "key": case.key,
                "group": case.group,
                "clients": case.clients,
                "variant": case.variant,
                "load_average": round(os.getloadavg()[0], 2),
                "answers_compared": checked,
                "rounds": rounds,
                "summary": report.summary(rounds, self._rounds),
            }
        )

    def check_first(self, case: Case, server: Server) -> None:
        """An answer is compared before any is timed."""
        payload = self._materials.payload(case.body)
        if case.transport == "grpc":
            expected = None
            if case.framework != "identity":
                expected = self._materials.expected(case.framework)[0]
            drive.check_grpc(server, payload, expected)
        elif payload.blob:
            drive.check_echo(
                server, self.probe(infer_path(case.framework), case.body), payload.blob
            )

    def ask(self, case: Case, server: Server) -> drive.Figures:
        """One round of one server."""
        if case.transport == "grpc":
            body = self._materials.grpc_file(case.body)
            return drive.grpc(server, body, clients=case.clients, seconds=self._seconds)
        path, bodies = infer_path(case.framework), self._materials.file(case.body)
        keep = 0 if self._materials.payload(case.body).blob else KEPT_ANSWERS
        ask: Callable[..., drive.Figures] = partial(
            drive.rest, server, path, clients=case.clients, seconds=self._seconds, keep=keep
        )
        if case.variant == "plain":
            return ask(bodies)
        clean = ask(bodies if case.variant == "beside" else self._materials.file("iris"))
        if case.variant == "bad":
            found = ask(bodies, bad=True)
            share = found["per_second"] / clean["per_second"]
            return found | {"clean": clean["per_second"], "share_of_clean": round(share, 3)}
        found = drive.beside(
            server, path, bodies, self._materials.file(_BIG),
            clients=case.clients, seconds=self._seconds,
        )  # fmt: skip
        return found | {"p99_alone": clean["p99"], "p99_times": found["p99"] / clean["p99"]}

    def measure_budget(self) -> None:
        """In a process of its own: functions are timed there."""
        say("budget: where a request's time goes")
        command = [sys.executable, "-m", "benchmarks.server.budget", "--json"]
        done = subprocess.run(pinned(command, SERVER_CORE), capture_output=True, text=True)
        if done.returncode:
            self.fail("budget", "kedge", done.stderr.strip()[-400:])
        else:
            self.budget = json.loads(done.stdout)

    def result(self, command: str) -> dict[str, Any]:
        return {
            "machine": machine(),
            "versions": {peer.name: peer.versions() for peer in self.peers},
            "command": command,
            "rounds": self._rounds,
            "seconds": self._seconds,
            "footprint": self.footprints,
            "budget": self.budget,
            "cases": self.cases,
            "failures": self.failures,
        }


def infer_path(framework: str) -> str:
    return f"/v2/models/{'identity' if framework == 'identity' else 'iris'}/infer"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "server_core": SERVER_CORE,
        "load_core": LOAD_CORE,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
    }


def commit() -> str:
    """Of the tree this runs in; with a + where files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    groups = sorted({case.group for case in all_cases()} | {"budget", "footprint"})
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--only", default="", help=f"groups or keys: {', '.join(groups)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2, help="of one measurement")
    parser.add_argument("--quick", action="store_true", help="one short round: does it all work?")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def chosen(only: str) -> Iterator[Case]:
    wanted = set(filter(None, only.split(",")))
    for case in all_cases():
        if not wanted or case.group in wanted or case.key in wanted:
            yield case


def main(argv: Sequence[str] | None = None) -> None:
    asked = parse(argv)
    if asked.quick:
        asked.rounds, asked.seconds = 1, 0.4
    if (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        sys.exit("The server and the load need a core each, and taskset (util-linux) to keep it.")
    # Servers are stopped on the way out, whoever asks to leave.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    names = [name for name in asked.peers.split(",") if name in PEERS]
    cases = list(chosen(asked.only))
    with tempfile.TemporaryDirectory(prefix="kedge-bench-") as folder:
        bench = Bench(Path(folder), names, asked.rounds, asked.seconds, len(cases))
        bench.install()
        if not asked.only or "footprint" in asked.only.split(","):
            bench.measure_footprints()
        if not asked.only or "budget" in asked.only.split(","):
            bench.measure_budget()
        for framework, group in itertools.groupby(cases, lambda one: one.framework):
            bench.measure(framework, list(group))
        command = " ".join(
            ["python -m benchmarks.server", *(sys.argv[1:] if argv is None else argv)]
        )
        found = bench.result(command)
    print(report.write(found, asked.results))
