"""What users subclass: `Model`, and `ArrayModel` for anything that maps rows to arrays.

A transformer is a model without `predict`: what it prepared goes to a predictor elsewhere.

A request goes through `preprocess`, `predict` (or `explain`) and `postprocess`; each may be
synchronous or a coroutine. The payload is a JSON value for V1 and an `InferRequest` for Open
Inference, over whichever transport.

`ArrayModel` splits `predict` in three: `rows` reads the payload, `compute` asks the framework,
`answer` shapes the reply. Only `compute` costs, and it alone may run in a worker thread, or once
for the rows of several requests.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kedge.protocol import v1
from kedge.protocol.codecs import cells, content_type_of
from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput, Unsupported
from kedge.protocol.inference import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    Tensor,
    unexpected_output,
)
from kedge.protocol.v1 import Columns, Rows

if TYPE_CHECKING:
    from kedge.server.predictor import Predictor, PredictorConfig

Headers = dict[str, str]


class RequestHeaders(Headers):
    """The headers of a request whose model says some of its answer's, too.

    Attributes:
        response: the answer's.
    """

    __slots__ = ("response",)

    def __init__(self, headers: Headers) -> None:
        super().__init__(headers)
        self.response: Headers = {}


class Model:
    """One model behind a name.

    Attributes:
        name: the name in the endpoint's path.
        version: empty when the model has none.
        ready: set by `load`; requests to a model that is not ready are refused.
        predictor_config: the predictor that a model without a `predict` of its own forwards to;
            None means the server's (`--predictor_host`).
        predictor: the client of that predictor; the server sets it before it loads the model.
        explainer: likewise, of who explains (`--explainer_host`), where that is another.
        return_response_headers: the headers that its steps are given are `RequestHeaders`: what
            is put into `headers.response` becomes headers of a REST answer. A predictor's are
            in it; a step with a parameter `response_headers` gets it as that.
    """

    predictor_config: PredictorConfig | None = None
    predictor: Predictor | None = None
    explainer: Predictor | None = None
    return_response_headers = False

    def __init__(self, name: str, version: str = "") -> None:
        self.name = name
        self.version = version
        self.ready = False

    def load(self) -> Any:
        """Brings the model into memory. May be a coroutine; an exception means it cannot serve."""
        self.ready = True

    def unload(self) -> None:
        """Gives back what `load` took."""
        self.ready = False

    def metadata(self) -> ModelMetadata:
        versions = (self.version,) if self.version else ()
        return ModelMetadata(name=self.name, versions=versions)

    def warm_up(self) -> Any:
        """A payload to try the loaded model with before it is called ready; None if unknown."""
        return None

    def preprocess(self, payload: Any, headers: Headers) -> Any:
        return payload

    def predict(self, payload: Any, headers: Headers) -> Any:
        """The answer. A model that does not define this forwards to its predictor."""
        if self.predictor is None:
            raise Unsupported(
                f"Model {self.name} does not predict: it has neither a predict method nor a "
                "predictor to forward to.",
                fix="Define predict, or start it with --predictor_host.",
            )
        told = headers.response if isinstance(headers, RequestHeaders) else None
        return self.predictor.predict(self.name, payload, headers, told)

    def postprocess(self, result: Any, headers: Headers) -> Any:
        return result

    def explain(self, payload: Any, headers: Headers) -> Any:
        explainer = self.explainer or self.predictor
        if explainer is None:
            raise Unsupported(f"Model {self.name} does not explain: it has no explain method.")
        return explainer.explain(self.name, payload, headers)

    def forwards(self, verb: str) -> bool:
        """Whether `verb` is not the model's own, but asks its predictor."""
        own = type(self).predict if verb == "predict" else type(self).explain
        return own in (Model.predict, Model.explain)


class ArrayModel(Model):
    """A model whose rows are arrays, strings or columns, and whose answers are arrays.

    Attributes:
        independent_rows: an answer's row follows from one row of the question alone, so that the
            rows of several requests may be computed together. Compared at warm-up.
        reentrant: `compute` may be called while it runs in another thread.
    """

    independent_rows = False
    reentrant = False

    def columns(self) -> Sequence[str] | None:
        """The columns the model was trained on, in order; None when it knows only positions."""
        return None

    @abstractmethod
    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        """Each output asked for, by name.

        Runs alone per model, maybe in a worker thread, and maybe for the rows of several requests.
        """

    def check(self, rows: Rows) -> None:
        """Refuses (`InvalidInput`) rows that `compute` would, where that is cheap to tell.

        Asked before rows are joined with those of others, who would suffer.
        """

    def output_names(self) -> tuple[str, ...]:
        """What a request may ask for; the first is what it gets when it asks for nothing."""
        return ("output-0",)

    def predict(self, payload: Any, headers: Headers) -> Any:
        rows, outputs = self.rows(payload)
        return self.answer(payload, self.compute(rows, outputs))

    def rows(self, payload: Any) -> tuple[Rows, tuple[str, ...]]:
        """The rows of a payload, and the outputs it asks for."""
        if not isinstance(payload, InferRequest):
            rows = v1.rows(payload, self.columns() if v1.holds_objects(payload) else None)
            return rows, self.output_names()[:1]
        return self._tensor_rows(payload), self._wanted(payload)

    def reads_rows(self) -> bool:
        """`rows` of a V1 request are what `v1.rows` says, and may be read elsewhere."""
        return type(self).rows is ArrayModel.rows

    def _wanted(self, request: InferRequest) -> tuple[str, ...]:
        if request.outputs is None:
            return self.output_names()[:1]
        known = self.output_names()
        for one in request.outputs:
            if one.name not in known:
                raise unexpected_output(one.name, self.name, dict.fromkeys(known))
        return tuple(one.name for one in request.outputs)

    def _tensor_rows(self, request: InferRequest) -> Rows:
        tensors = request.inputs
        if request.parameters.get("content_type") == "pd":
            return self._tensor_columns(tensors)
        if len(tensors) == 1:
            tensor = tensors[0]
            return tensor.texts() if tensor.datatype == "BYTES" else tensor.array
        columns = self.columns()
        if columns is not None and set(columns) == {tensor.name for tensor in tensors}:
            return self._tensor_columns(tensors)
        raise InvalidInput(
            f"Model {self.name} takes one input tensor, but the request has {len(tensors)}: "
            f"{', '.join(repr(tensor.name) for tensor in tensors)}.",
            fix='For one column per input, set the request parameter "content_type" to "pd".',
        )

    def _tensor_columns(self, tensors: list[Tensor]) -> Columns:
        values: dict[str, list[Any]] = {}
        height = len(tensors[0].array) if tensors[0].array.ndim else 1
        for tensor in tensors:
            if tensor.array.size != height:
                raise InvalidInput(
                    f"Input '{tensor.name}' has {tensor.array.size} elements, but a column of this "
                    f"request has {height} ('{tensors[0].name}')."
                )
            typed = tensor.datatype != "BYTES" or content_type_of(tensor.parameters)
            values[tensor.name] = cells(tensor) if typed else tensor.texts()
        if len(values) != len(tensors):
            raise InvalidInput("Two inputs have the same name; a column has one of its own.")
        return self._ordered(values)

    def _ordered(self, values: dict[str, list[Any]]) -> Columns:
        wanted = self.columns()
        if wanted is None:
            return Columns(values)
        missing = [name for name in wanted if name not in values]
        if missing:
            raise InvalidInput(
                f"Model {self.name} was trained on columns that the request lacks: "
                f"{', '.join(missing)}."
            )
        return Columns({name: values[name] for name in wanted})

    def answer(self, payload: Any, results: Mapping[str, Array]) -> Any:
        """The reply in the payload's own form."""
        if isinstance(payload, InferRequest):
            outputs = [_to_tensor(name, array) for name, array in results.items()]
            return InferResponse(self.name, outputs, payload.id, self.version)
        if len(results) == 1:
            return {"predictions": _plain(next(iter(results.values())))}
        names = list(results)
        table = zip(*(_as_list(array) for array in results.values()), strict=True)
        return {"predictions": [dict(zip(names, row, strict=True)) for row in table]}


def row_count(rows: Rows) -> int:
    """How many rows there are; a number alone counts as one."""
    if isinstance(rows, np.ndarray):
        return len(rows) if rows.ndim else 1
    return len(rows)


def _to_tensor(name: str, array: Array) -> Tensor:
    if array.dtype.kind in "US":
        array = np.array(
            [to_text(value) for value in array.ravel().tolist()], dtype=object
        ).reshape(array.shape)
    elif array.dtype.kind in "Mm":
        array = array.astype(str).astype(object)
    return Tensor.from_array(name, array)


def to_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _plain(array: Array) -> Any:
    """What orjson can write: arrays of numbers as they are, all else as lists."""
    if array.dtype.kind in "OUSMm" or not array.flags.c_contiguous or not array.dtype.isnative:
        return _as_list(array)
    return array


def _as_list(array: Array) -> list[Any]:
    return cast(list[Any], array.tolist())
