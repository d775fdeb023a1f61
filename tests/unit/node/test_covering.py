"""What a volume would hide is put back."""

from __future__ import annotations

from pathlib import Path

from kedge.cluster.local.node.covering import uncovered


def mount(target: Path | str) -> dict[str, str]:
    return {"source": "/anywhere", "target": str(target)}


def test_what_lies_below_a_mount_point_is_mounted_back(tmp_path: Path) -> None:
    inner = tmp_path / "venv" / "lib"
    inner.mkdir(parents=True)
    found = uncovered([mount(tmp_path)], [str(inner), str(tmp_path / "venv"), ""])
    venv = str(tmp_path / "venv")
    assert found == [{"source": venv, "target": venv, "readonly": False}]


def test_nothing_is_done_without_need(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    elsewhere, missing = str(tmp_path / "venv"), str(tmp_path / "tmp" / "gone")
    assert uncovered([mount(tmp_path / "tmp")], [elsewhere, missing]) == []
    # What is mounted onto the very place is meant to be there.
    assert uncovered([mount(elsewhere)], [elsewhere]) == []
    assert uncovered([mount(tmp_path / "ve")], [elsewhere]) == []
