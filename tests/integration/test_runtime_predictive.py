"""KServe's `predictiveserver`, with the arguments of its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.integration import trained
from tests.integration.runtime_process import everywhere, failed_start, predictions, serving


@pytest.mark.parametrize(
    ("framework", "train"),
    [("sklearn", trained.sklearn_classifier), ("lightgbm", trained.lightgbm_classifier)],
)
def test_the_framework_is_an_argument(
    tmp_path: Path, framework: str, train: Callable[[Path], Path]
) -> None:
    log = tmp_path / "log"
    folder = tmp_path / "model"
    folder.mkdir()
    train(folder)
    with serving("predictive", folder, log, f"--framework={framework}", "--nthread=1") as served:
        assert len(predictions(served, trained.ROWS)) == 2
        answer = everywhere(served, {"input-0": np.array(trained.ROWS)})
        assert len(answer["output-0"]) == 2


def test_a_framework_that_is_none_of_them(tmp_path: Path) -> None:
    line = failed_start("predictive", tmp_path, "--framework=acme")
    assert line.startswith("BadUsage: kedge serve predictive: argument --framework: invalid choice")
