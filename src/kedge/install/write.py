"""Writes the Kustomize base and the Helm chart: `python -m kedge.install.write deploy`."""

from __future__ import annotations

import sys
from pathlib import Path

from kedge.install.helm import make_chart
from kedge.install.kustomize import make_kustomizations


def make_files() -> dict[str, str]:
    """Every file below `deploy/`, by its path there."""
    return {
        **{f"helm/kedge/{path}": text for path, text in make_chart().items()},
        **{f"kustomize/{path}": text for path, text in make_kustomizations().items()},
    }


def main(argv: list[str]) -> int:
    """Write all files; the exit status is 1 when one of them was out of date."""
    folder = Path(argv[0])
    changed = False
    for path, text in make_files().items():
        file = folder / path
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            changed = True
            print(file)
    return int(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
