"""How an Envoy is started."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run

import pytest

from kedge.gateway import bootstrap
from kedge.settings.local import LocalSettings


def test_the_command_line_and_the_file_it_names(tmp_path: Path) -> None:
    settings = LocalSettings(data_dir=tmp_path / "data", temp_dir=tmp_path / "run")
    argv = bootstrap.envoy_argv(replace(settings, envoy_workers=2))
    written = json.loads(Path(argv[argv.index("--config-path") + 1]).read_text())
    assert written["admin"]["address"]["pipe"]["path"] == str(settings.admin_socket)
    assert str(settings.xds_socket) in json.dumps(written["static_resources"])
    assert "--use-dynamic-base-id" in argv
    assert argv[argv.index("--concurrency") + 1] == "2"


def test_an_envoy_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDGE_ENVOY", "/opt/envoy")
    assert bootstrap.find_envoy() == Path("/opt/envoy")


def test_without_envoy_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEDGE_ENVOY", raising=False)
    monkeypatch.setattr("importlib.metadata.files", lambda name: None)
    with pytest.raises(bootstrap.EnvoyNotFound, match=re.escape("pip install 'kedge[local]'")):
        bootstrap.find_envoy()


@pytest.mark.parametrize(
    ("stat", "kept"),
    [
        ("cluster.default/iris/80.upstream_rq_active", True),
        ("cluster.default/iris/80.upstream_rq_5xx", True),
        ("cluster.default/iris/80.external.upstream_rq_5xx", False),
        ("cluster.default/iris/80.upstream_cx_total", False),
        ("http.outside.downstream_rq_5xx", True),
        ("http.admin.downstream_rq_5xx", False),
        ("server.uptime", True),
    ],
)
def test_stats_that_are_kept(stat: str, kept: bool) -> None:
    assert any(re.search(pattern, stat) for pattern in bootstrap.STATS) is kept


def test_starting_envoy_needs_no_protocol_buffers() -> None:
    code = (
        "import sys, kedge.gateway.bootstrap;"
        "sys.exit(any(m.split('.')[0] in ('envoy', 'google', 'grpc') for m in sys.modules))"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0
