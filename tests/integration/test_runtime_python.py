"""Plain Python: the three forms a model may have, its own modules, and code that does not run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.integration.runtime_process import (
    everywhere,
    failed_start,
    infer_error,
    metadata,
    predictions,
    serving,
)
from tests.integration.server_process import Served
from tests.integration.trained import ROWS, sklearn_classifier

FORMS = {
    "function": """
        from pathlib import Path
        import joblib
        from scaling import factor

        _model = joblib.load(Path(__file__).parent / "model.joblib")

        def predict(rows):
            return _model.predict(rows) * factor
    """,
    "class": """
        import joblib
        from scaling import factor

        class Iris:
            inputs = [("flowers", "FP64", (-1, 4))]
            outputs = [("species", "INT64", (-1,))]

            def load(self, folder):
                self.model = joblib.load(folder / "model.joblib")

            def predict(self, rows):
                return {"species": self.model.predict(rows) * factor}
    """,
    "subclass": """
        from pathlib import Path
        import joblib
        from kedge.server import ArrayModel
        from scaling import factor

        class Base(ArrayModel):
            def load(self):
                self.model = joblib.load(Path(__file__).parent / "model.joblib")
                self.ready = True

        class Iris(Base):
            def compute(self, rows, outputs):
                return {"output-0": self.model.predict(rows) * factor}
    """,
}


def written(folder: Path, source: str, name: str = "model.py") -> Path:
    (folder / name).write_text(textwrap.dedent(source))
    return folder


@pytest.fixture(scope="module", params=list(FORMS))
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = written(sklearn_classifier(tmp_path_factory.mktemp("model")), FORMS[request.param])
    (folder / "code").mkdir()
    (folder / "code" / "scaling.py").write_text("factor = 10\n")
    (folder / "requirements.txt").write_text("scikit-learn>=1\nnumpy  # any\n")
    with serving("python", folder, tmp_path_factory.mktemp("log") / "log") as one:
        yield one


def test_every_form_answers_every_protocol(served: Served) -> None:
    assert predictions(served, ROWS) == [10, 10]
    (answer,) = everywhere(served, {"flowers": np.array(ROWS)}).values()
    assert answer.tolist() == [10, 10]


def test_declared_tensors_are_told_and_checked(tmp_path: Path) -> None:
    source = """
        inputs = [("a", "INT64", (-1,)), ("words", "BYTES", (-1,))]
        outputs = [("b", "INT64", (-1,))]

        def predict(columns):
            return {"b": columns["a"] + [len(word) for word in columns["words"]]}
    """
    with serving("python", written(tmp_path, source, "only.py"), tmp_path / "log") as served:
        inputs, outputs = metadata(served)
        assert inputs == {"a": ("INT64", [-1]), "words": ("BYTES", [-1])}
        assert outputs == {"b": ("INT64", [-1])}
        given = {"a": np.array([1, 2]), "words": np.array(["x", "yy"], dtype=object)}
        assert everywhere(served, given)["b"].tolist() == [2, 4]
        assert infer_error(served, {"a": np.array([1])})[0] == 400


def test_anything_json_over_v1(tmp_path: Path) -> None:
    source = """
        class Model:
            def predict(self, rows):
                if isinstance(rows, list):
                    return [{"text": row, "length": len(row)} for row in rows]
                if isinstance(rows, dict):
                    return rows["a"] + rows["b"]
                raise RuntimeError("secret")
    """
    with serving("python", written(tmp_path, source), tmp_path / "log") as served:
        assert predictions(served, ["abc"]) == [{"text": "abc", "length": 3}]
        assert predictions(served, [{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == [3, 7]
        (answer,) = everywhere(served, {"x": np.array(["abc"], dtype=object)}).values()
        assert answer.tolist() == ['{"text":"abc","length":3}']
        status, message = infer_error(served, {"x": np.ones((1, 1))})
        assert status == 500
        assert "secret" not in message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_to_be_found", "imports nowhere_to_be_found, which is not installed. Fix:"),
        ("x = 1", "defines nothing that predicts. Fix: Define a function predict(rows)"),
        ("def predict(rows:\n    pass", "model.py, line 1: '(' was never closed."),
        (
            "1 / 0\ndef predict(rows): ...",
            "raised ZeroDivisionError: division by zero (model.py, l",
        ),
        (
            "class A:\n def predict(self, x): ...\nclass B(A):\n def predict(self, x): ...",
            "defines several classes with predict: A, B.",
        ),
        (
            "class A:\n def load(self):\n  raise OSError('no weights')\n def predict(self, x): ...",
            "raised OSError: no weights (model.py, line 3)",
        ),
        ("async def predict(rows): ...", "predict is a coroutine"),
    ],
)
def test_code_that_cannot_serve(tmp_path: Path, source: str, message: str) -> None:
    from kedge.runtimes import python
    from kedge.server.errors import ModelLoadFailed
    from kedge.server.options import Options

    with pytest.raises(ModelLoadFailed) as caught:
        python.make("m", written(tmp_path, source), Options("python")).load()
    assert message in caught.value.line()


def test_requirements_are_compared_before_the_code_runs(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# ours\nnumpy>=1\nmsgspec[x]==0.0.1\n")
    line = failed_start("python", written(tmp_path, "raise SystemExit(7)"))
    assert "requirements.txt, line 3: the model needs msgspec[x]==0.0.1, but msgspec" in line
    assert line.endswith("Fix: pip install 'msgspec[x]==0.0.1', or change requirements.txt.")
