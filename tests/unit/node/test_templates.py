"""Which programs a template stands for."""

from __future__ import annotations

from kedge.cluster.local.node.env import THREAD_VARIABLES
from kedge.cluster.local.node.templates import Imported

PYTHON = "/env/bin/python"
SERVE = [PYTHON, "-m", "kedge", "serve", "sklearn", "--model_name=iris"]


def test_a_server_of_ours_has_a_template_and_its_threads_are_held_to_one() -> None:
    imported = Imported.of(SERVE, PYTHON, {"PATH": "/bin", "OMP_NUM_THREADS": "7"})
    assert imported is not None
    assert imported.runtime == "sklearn"
    assert dict(imported.env) == {"PATH": "/bin", **dict.fromkeys(THREAD_VARIABLES, "1")}
    assert imported.command[:6] == [*SERVE[:5], "--template"]


def test_other_images_have_templates_of_their_own() -> None:
    one = Imported.of(SERVE, PYTHON, {"PYTHONPATH": "/a"})
    assert one == Imported.of([*SERVE[:5], "--model_name=other"], PYTHON, {"PYTHONPATH": "/a"})
    assert one != Imported.of(SERVE, PYTHON, {"PYTHONPATH": "/b"})


def test_other_programs_have_none() -> None:
    for argv in (
        [PYTHON, "-m", "kedge", "serve"],
        [PYTHON, "-m", "kedge", "serve", "--help"],
        [PYTHON, "-m", "kedge.storage", "src", "dest", "x"],
        ["/other/python", *SERVE[1:]],
        ["sh"],
    ):
        assert Imported.of(argv, PYTHON, {}) is None
