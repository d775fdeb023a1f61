"""Models of named, typed inputs and outputs: what a request must look like is known and checked.

One input is read under whatever name the client gives it; several are matched by name. Values are
converted where nothing is lost that the model would have seen (any number to a float, whole numbers
to an integer in range); all else is refused, naming the input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kedge.protocol import v1
from kedge.protocol.datatypes import DATATYPES, Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, ModelMetadata, Tensor, TensorMetadata
from kedge.server.model import ArrayModel


@dataclass(frozen=True, slots=True)
class Feeds:
    """The arrays of a request, by input. Its length is the rows of the first."""

    arrays: Mapping[str, Array]

    def replaced(self, arrays: Mapping[str, Array]) -> Feeds:
        return Feeds(arrays)

    def __len__(self) -> int:
        first = next(iter(self.arrays.values()), None)
        return len(first) if first is not None and first.ndim else 1


class TensorModel(ArrayModel):
    """An `ArrayModel` that declares its inputs and outputs.

    A subclass fills `inputs` and `outputs` in `load` and implements `run`. What `compute` is asked
    with is the array itself where there is one input, else `Feeds`.

    Attributes:
        inputs: in a shape, -1 is any extent; an empty shape is not checked.
        outputs: in the model's order.
        platform: Open Inference's word for the framework.
        properties: further facts for the model's metadata.
    """

    platform = ""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.inputs: tuple[TensorMetadata, ...] = ()
        self.outputs: tuple[TensorMetadata, ...] = ()
        self.properties: dict[str, str] = {}

    @abstractmethod
    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        """The outputs asked for, by name."""

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name,
            platform=self.platform,
            versions=(self.version,) if self.version else (),
            inputs=self.inputs,
            outputs=self.outputs,
            properties=self.properties,
        )

    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    def default_outputs(self) -> tuple[str, ...]:
        """What a request gets that asks for nothing in particular: everything."""
        return self.output_names()

    def rows(self, payload: Any) -> tuple[Any, tuple[str, ...]]:
        if isinstance(payload, InferRequest):
            feeds = self._from_tensors(payload.inputs)
            wanted = self.default_outputs() if payload.outputs is None else self._wanted(payload)
        else:
            feeds, wanted = self._from_instances(payload), self.default_outputs()
        if len(self.inputs) == 1:
            return feeds[self.inputs[0].name], wanted
        return Feeds(feeds), wanted

    def compute(self, rows: Any, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        if isinstance(rows, Feeds):
            return self.run(rows.arrays, outputs)
        return self.run({self.inputs[0].name: rows}, outputs)

    def warm_up(self) -> Any:
        tensors = [Tensor.from_array(one.name, sample(one)) for one in self.inputs]
        return InferRequest(self.name, tensors) if tensors else None

    # -- reading ---------------------------------------------------------------------------------

    def _from_tensors(self, tensors: Sequence[Tensor]) -> dict[str, Array]:
        if len(self.inputs) == 1 and len(tensors) == 1:
            given = {self.inputs[0].name: tensors[0].array}
        else:
            given = {tensor.name: tensor.array for tensor in tensors}
        return self._checked(given)

    def _from_instances(self, payload: Any) -> dict[str, Array]:
        """V1: an instance is a row of the one input, or an object with a row of each."""
        listed = v1.instances(payload)
        if not listed:
            raise InvalidInput(f"The request to model {self.name} has no rows.")
        if isinstance(listed[0], dict):
            return self._checked(_stacked(listed))
        if len(self.inputs) != 1:
            names = ", ".join(one.name for one in self.inputs)
            raise InvalidInput(
                f"Model {self.name} takes {len(self.inputs)} inputs ({names}), so each instance "
                "must be an object.",
                fix='Send {"instances": [{'
                + ", ".join(f'"{one.name}": ...' for one in self.inputs)
                + "}]}.",
            )
        rows = v1.rows(payload)
        array = np.array(rows, dtype=object) if isinstance(rows, list) else rows
        return self._checked({self.inputs[0].name: array})

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Array]:
        known = {one.name for one in self.inputs}
        for name in given:
            if name not in known:
                raise InvalidInput(
                    f"Model {self.name} has no input '{name}'.",
                    fix=f"It takes {self._signature()}.",
                )
        for one in self.inputs:
            if one.name not in given:
                raise InvalidInput(
                    f"Input '{one.name}' is missing.",
                    fix=f"Model {self.name} takes {self._signature()}.",
                )
        return {one.name: self.adapt(given[one.name], one) for one in self.inputs}

    def adapt(self, array: Array, wanted: TensorMetadata) -> Array:
        """What the framework is asked with for one input."""
        return conform(array, wanted)

    def _signature(self) -> str:
        return ", ".join(f"'{one.name}' {one.datatype} {list(one.shape)}" for one in self.inputs)


def _stacked(listed: Sequence[Any]) -> dict[str, Array]:
    names = list(listed[0])
    for index, row in enumerate(listed):
        if not isinstance(row, dict):
            raise InvalidInput(f"instances[{index}] is not an object as the first is.")
        if set(row) != set(names):
            raise InvalidInput(f"instances[{index}] has other fields than the first.")
    stacked: dict[str, Array] = {}
    for name in names:
        try:
            stacked[name] = np.array([row[name] for row in listed])
        except ValueError as error:
            raise InvalidInput(f"'{name}' has rows of different shapes.") from error
    return stacked


def conform(array: Array, wanted: TensorMetadata) -> Array:
    """`array` in the datatype and shape that an input asks for."""
    if wanted.shape and not _fits(array.shape, wanted.shape):
        raise InvalidInput(
            f"Input '{wanted.name}' has shape {list(array.shape)}, but the model takes "
            f"{list(wanted.shape)}{' (-1 is any extent)' if -1 in wanted.shape else ''}."
        )
    if array.ndim and not len(array):
        raise InvalidInput(f"Input '{wanted.name}' has no rows.")
    target = DATATYPES[wanted.datatype].dtype
    return array if array.dtype == target else _converted(array, target, wanted)


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        extent in (-1, given) for extent, given in zip(wanted, shape, strict=True)
    )


def _converted(array: Array, target: np.dtype[Any], wanted: TensorMetadata) -> Array:
    kind = array.dtype.kind
    if target.kind == "O" and kind in "US":
        return array.astype(object)
    if target.kind == "f" and kind in "fiu":
        return array.astype(target)
    if target.kind in "iu" and kind in "fiu":
        return _whole(array, target, wanted)
    held = {"b": "true and false", "U": "text", "S": "text", "O": "text or null"}
    raise InvalidInput(
        f"Input '{wanted.name}' takes {wanted.datatype}, but the request holds "
        f"{held.get(kind, 'numbers')}."
    )


def _whole(array: Array, target: np.dtype[Any], wanted: TensorMetadata) -> Array:
    limits = np.iinfo(target)
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise InvalidInput(f"Input '{wanted.name}' takes {wanted.datatype}, but holds fractions.")
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        raise InvalidInput(
            f"Input '{wanted.name}' takes {wanted.datatype} ({limits.min} to {limits.max}), but "
            f"holds {low if low < limits.min else high}."
        )
    return array.astype(target)


def sample(declared: TensorMetadata) -> Array:
    """An array that fits: one row of zeros, or of empty text."""
    shape = tuple(1 if extent < 0 else extent for extent in declared.shape) or (1,)
    dtype = DATATYPES[declared.datatype].dtype
    return np.full(shape, b"", dtype=object) if dtype.kind == "O" else np.zeros(shape, dtype)


def texts(array: Array) -> Array:
    """A BYTES array with its elements as `str`, in the same shape."""
    try:
        decoded = [
            one.decode("utf-8") if isinstance(one, bytes) else str(one)
            for one in array.ravel().tolist()
        ]
    except UnicodeDecodeError as error:
        raise InvalidInput("The request holds bytes that are not UTF-8.") from error
    result = np.empty(len(decoded), dtype=object)
    result[:] = decoded
    return result.reshape(array.shape)
