"""Every verb as a script sees it: what it prints, where, and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kedge.cli.exits import exit_code
from kedge.cli.logs import telling_container
from kedge.cli.main import describe, main
from kedge.cli.predict import read_data
from kedge.cli.why import text_of
from kedge.client.errors import ConfigProblem, NotRunning, TimedOut, Unreachable
from kedge.client.findings import Finding, State
from kedge.client.why import Explanation
from kedge.cluster.errors import Invalid, NotFound, Unauthorized
from kedge.lib.errors import KedgeError


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBECONFIG", raising=False)


@pytest.mark.parametrize(
    "argv",
    [
        ["get"],
        ["get", "pods", "-A"],
        ["delete", "iris"],
        ["predict", "iris", "-d", "[[1]]"],
        ["logs", "iris"],
        ["why", "iris"],
        ["rollout", "restart", "iris"],
        ["rollout", "status", "iris"],
        ["rollout", "promote", "iris"],
        ["rollout", "undo", "iris"],
        ["get", "revisions", "iris"],
        ["export"],
        ["status"],
        ["run", "model.joblib"],
    ],
)
def test_without_a_kedge_every_verb_says_how_to_start_one(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert "Error: No Kedge is running on " in told.err
    assert "Fix: Start one with `kedge up --detach`." in told.err


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["get", "-o", "xml"],
        ["get", "pod/x", "--nonsense"],
        ["get", "thing/x"],
        ["delete"],
        ["apply"],
        ["predict", "iris", "-d", "not json"],
        ["predict", "iris", "-d", "@/none.json"],
        ["predict", "iris", "-d", "[]", "--protocol", "v3"],
    ],
)
def test_what_cannot_be_understood_is_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().out == ""


def test_a_bad_manifest_is_1_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("kind: [")
    assert main(["apply", "-f", str(tmp_path / "bad.yaml")]) == 1
    assert f"{tmp_path / 'bad.yaml'} is not YAML" in capsys.readouterr().err


def test_down_without_a_kedge(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 4
    assert "No Kedge runs on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KedgeError("x"), 1),
        (Invalid("x"), 1),
        (NotFound("x"), 3),
        (NotRunning("x"), 4),
        (Unreachable("x"), 4),
        (ConfigProblem("x"), 4),
        (Unauthorized("x"), 4),
        (TimedOut("x"), 124),
    ],
)
def test_exit_codes(error: KedgeError, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_tells_its_causes_before_its_fix() -> None:
    error = Invalid("refused", details={"causes": [{"field": "spec.x", "message": "no"}]})
    error.fix = "Mend it."
    assert describe(error) == "refused\n  spec.x: no Fix: Mend it."


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kedge 0.")
    assert main(["predict", "-h"]) == 0
    assert "--protocol" in capsys.readouterr().out


def test_data_from_text_and_files(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[[1, 2]]")
    assert read_data(f"@{tmp_path / 'rows.json'}") == [[1, 2]]
    assert read_data('{"instances": []}') == {"instances": []}


def test_why_as_plain_text() -> None:
    container = Finding("container c", State.FAILED, "exit code 1", ["line one", "line two"])
    root = Finding("InferenceService iris", State.FAILED, below=[container])
    told = text_of(Explanation(False, "iris is not Ready", root, events=["BackOff"], fix="Mend."))
    assert told.splitlines() == [
        "iris is not Ready",
        "",
        "! InferenceService iris",
        "  ! container c: exit code 1",
        "      | line one",
        "      | line two",
        "",
        "Warnings:",
        "  BackOff",
        "",
        "Fix: Mend.",
    ]


@pytest.mark.parametrize(
    ("status", "container"),
    [
        ({}, "kserve-container"),
        ({"initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}, "kserve-container"),
        (
            {"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}]},
            "i",
        ),
        (
            {
                "initContainerStatuses": [
                    {"name": "i", "state": {}, "lastState": {"terminated": {"exitCode": 2}}}
                ]
            },
            "i",
        ),
    ],
)
def test_logs_read_the_container_that_tells(status: dict[str, Any], container: str) -> None:
    spec = {"containers": [{"name": "agent"}, {"name": "kserve-container"}]}
    assert telling_container({"spec": spec, "status": status}) == container


HEAVY = {"aiohttp", "grpc", "numpy", "orjson", "msgspec", "lightkube", "yaml", "uvicorn"}


def test_help_and_completion_load_nothing_heavy() -> None:
    script = (
        "import sys; from kedge.cli.main import main; main(['--version']);"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
