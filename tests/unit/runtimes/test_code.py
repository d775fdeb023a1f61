"""`requirements.txt` against what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from kedge.runtimes import code
from kedge.server.errors import ModelLoadFailed


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def version(name: str) -> str:
        if name.lower() != "acme-lib":
            raise PackageNotFoundError(name)
        return "2.4.1.post1"

    monkeypatch.setattr(code, "version", version)
    return tmp_path / "requirements.txt"


@pytest.mark.parametrize(
    "line",
    [
        "acme-lib",
        "acme-lib==2.4.1",
        "acme-lib == 2.4.*",
        "acme-lib[extra]>=2,<3",
        "acme-lib~=2.3",
        "acme-lib~=2.4.0",
        "acme-lib!=2.4.2 # not that one",
        "acme-lib>2.4",
        "# nothing",
        "-r other.txt",
        "other; python_version < '3'",
        "other @ https://example.org/other.whl",
        "",
    ],
)
def test_allowed(requirements: Path, line: str) -> None:
    requirements.write_text(f"{line}\n")
    code.check_requirements(requirements)


@pytest.mark.parametrize(
    "line",
    ["other", "acme-lib==2.4", "acme-lib==2.5.*", "acme-lib>=3", "acme-lib~=2.5", "acme-lib<2.4.1",
     "acme-lib~=2.3.0", "acme-lib!=2.4.1", "acme-lib>=2,>2.4.1"],
)  # fmt: skip
def test_refused(requirements: Path, line: str) -> None:
    requirements.write_text(f"{line}\n")
    with pytest.raises(ModelLoadFailed, match=r"requirements.txt, line 1: the model needs"):
        code.check_requirements(requirements)


def test_no_file_asks_for_nothing(tmp_path: Path) -> None:
    code.check_requirements(tmp_path / "requirements.txt")
