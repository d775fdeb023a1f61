"""Rows of `kedge get`, and text that stays plain in a pipe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kedge.cli import output
from kedge.cli.get import Lines, parse_what
from kedge.cli.rows import age, of_services, of_table

NOW = datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC)


def service(status: dict[str, Any]) -> Any:
    metadata = {
        "name": "iris",
        "namespace": "default",
        "creationTimestamp": "2025-01-01T11:58:30Z",
        "generation": 2,
    }
    return {"metadata": metadata, "status": status}


def test_a_ready_service() -> None:
    traffic = [
        {"revisionName": "iris-predictor-00002", "percent": 90},
        {"revisionName": "iris-predictor-00001", "percent": 10},
        {"revisionName": "iris-predictor-00001", "tag": "prev"},
    ]
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "url": "http://iris-default.localhost:8080",
        "address": {"url": "http://127.0.0.1:8080/serving/default/iris"},
        "components": {"predictor": {"traffic": traffic}},
        "clusterServingRuntimeName": "kedge-sklearnserver",
        "deploymentMode": "Knative",
    }
    header, rows = of_services([service(status)], wide=False, namespaces=False, now=NOW)
    assert header == ["NAME", "READY", "URL", "TRAFFIC", "AGE"]
    url = "http://127.0.0.1:8080/serving/default/iris"
    assert rows == [["iris", "True", url, "00002=90% 00001=10%", "90s"]]
    header, rows = of_services([service(status)], wide=True, namespaces=True, now=NOW)
    assert header[0] == "NAMESPACE"
    assert rows[0][0] == "default"
    assert rows[0][6:] == ["Knative", "kedge-sklearnserver", "2", ""]


def test_a_service_that_is_not_ready_says_why_in_a_word() -> None:
    conditions = [{"type": "Ready", "status": "False", "reason": "ModelLoadFailed", "message": "m"}]
    _, rows = of_services(
        [service({"conditions": conditions}), service({})], wide=False, namespaces=False, now=NOW
    )
    assert rows[0][1] == "False (ModelLoadFailed)"
    assert rows[1][1] == "Unknown"


def test_a_table_of_the_api() -> None:
    table = {
        "columnDefinitions": [
            {"name": "Name", "priority": 0},
            {"name": "Ready", "priority": 0},
            {"name": "Node", "priority": 1},
        ],
        "rows": [
            {"cells": ["p", True, None], "object": {"metadata": {"namespace": "models"}}},
        ],
    }
    assert of_table(table, wide=False, namespaces=False) == (["NAME", "READY"], [["p", "true"]])
    assert of_table(table, wide=True, namespaces=True) == (
        ["NAMESPACE", "NAME", "READY", "NODE"],
        [["models", "p", "true", "<none>"]],
    )


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ("2025-01-01T11:59:58Z", "2s"),
        ("2025-01-01T11:56:48Z", "3m12s"),
        ("2025-01-01T11:30:00Z", "30m"),
        ("2025-01-01T06:00:00Z", "6h"),
        ("2024-12-25T12:00:00Z", "7d"),
        ("2025-01-01T12:00:09Z", "0s"),
        ("", "<unknown>"),
    ],
)
def test_age(since: str, told: str) -> None:
    assert age(since, NOW) == told


def test_columns_are_plain_and_aligned() -> None:
    rows = [["iris", "True"], ["a-longer-name", "False (X)"]]
    assert output.columns(["NAME", "READY"], rows) == (
        "NAME            READY\niris            True\na-longer-name   False (X)"
    )


def test_watched_rows_keep_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.add(["NAME", "READY"], [["iris", "Unknown"]])
    lines.add([], [])
    lines.add(["NAME", "READY"], [["iris", "True"]])
    assert capsys.readouterr().out == "NAME   READY\niris   Unknown\niris   True\n"


@pytest.mark.parametrize(
    ("words", "kind", "names"),
    [
        ([], "InferenceService", []),
        (["isvc"], "InferenceService", []),
        (["iris"], "InferenceService", ["iris"]),
        (["isvc", "iris"], "InferenceService", ["iris"]),
        (["pods"], "Pod", []),
        (["Pod", "p"], "Pod", ["p"]),
        (["deploy/d"], "Deployment", ["d"]),
        (["deployments.apps"], "Deployment", []),
    ],
)
def test_words_of_get(words: list[str], kind: str, names: list[str]) -> None:
    found, given = parse_what(words)
    assert (found.kind, given) == (kind, names)


def test_a_pipe_is_plain_and_no_colour_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.is_rich()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.is_rich()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.is_rich()


def test_progress_in_a_pipe_is_a_line_per_change(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("starting") as tell:
        tell("loading")
        tell("loading")
        tell("ready")
    assert capsys.readouterr().err == "starting\nloading\nready\n"
