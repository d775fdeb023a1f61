"""TensorFlow: a SavedModel, in the folder or in a numbered folder of it (the highest is served).

The signature `serving_default` answers, or the one that `--signature_name` names, under its own
names. The version that saved the model, its tags and its signatures are read from `saved_model.pb`
before TensorFlow is asked. A GPU is used where TensorFlow finds one.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kedge.protocol.datatypes import DATATYPES, Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import TensorMetadata
from kedge.runtimes.flags import Flags
from kedge.runtimes.protobuf import Damaged, fields, messages, text
from kedge.runtimes.tensors import TensorModel, texts
from kedge.runtimes.versions import installed_version, release
from kedge.server.errors import ModelFileMissing, ModelLoadFailed
from kedge.server.options import Options

ENDINGS = ("saved_model.pb",)

_TAG = "serve"
_DEFAULT_SIGNATURE = "serving_default"
_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip


def flags() -> Flags:
    known = Flags("tensorflow")
    known.flag("signature_name", default=_DEFAULT_SIGNATURE)
    return known


def make(name: str, folder: Path, options: Options) -> TensorModel:
    signature = flags().read(options).signature_name
    return TensorflowModel(name, folder, signature=signature, nthread=options.nthread)


def has_model(folder: Path) -> bool:
    """A SavedModel there, or in a numbered folder of it, which is a version and no other model."""
    return _saved_model(folder) is not None


@dataclass(frozen=True)
class Facts:
    """What `saved_model.pb` says of itself.

    Attributes:
        version: of the TensorFlow that saved it; empty if it does not say.
        signatures: of the graph tagged for serving.
    """

    version: str
    tags: tuple[str, ...]
    signatures: tuple[str, ...]


class TensorflowModel(TensorModel):
    """One signature of a SavedModel."""

    platform = "tensorflow_savedmodel"
    reentrant = True

    def __init__(
        self, name: str, folder: Path, *, signature: str = _DEFAULT_SIGNATURE, nthread: int = 1
    ) -> None:
        super().__init__(name)
        self._folder = folder
        self._signature_name = signature
        self._nthread = nthread
        self._tensorflow: Any = None
        self._saved: Any = None
        self._function: Any = None

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        path = find_saved_model(self._folder)
        if path.parent != self._folder:
            self.version = path.parent.name
        facts = read_facts(path)
        self._check_signature(path, facts)
        installed = installed_version("tensorflow", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow

        self._tensorflow = tensorflow
        _bound_threads(tensorflow, self._nthread)
        try:
            self._saved = tensorflow.saved_model.load(str(path.parent), tags=[_TAG])
        except Exception as error:
            raise _unusable(path, facts, installed, error) from error
        self._function = self._saved.signatures[self._signature_name]
        self._declare(path)
        self.properties = {
            "signature": self._signature_name,
            "saved_by": f"TensorFlow {facts.version}" if facts.version else "unknown",
            "device": "GPU" if tensorflow.config.list_physical_devices("GPU") else "CPU",
        }
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._function = self._saved = None

    def _check_signature(self, path: Path, facts: Facts) -> None:
        if _TAG not in facts.tags:
            raise ModelLoadFailed(
                f"{path} has no graph tagged '{_TAG}': its tags are "
                f"{', '.join(facts.tags) or 'none'}.",
                fix="Save the model with tf.saved_model.save.",
            )
        if self._signature_name not in facts.signatures:
            raise ModelLoadFailed(
                f"{path} has no signature '{self._signature_name}': it has "
                f"{', '.join(facts.signatures) or 'none'}.",
                fix="Name one of them by --signature_name, or save the model with "
                f"signatures={{'{_DEFAULT_SIGNATURE}': ...}}.",
            )

    def _declare(self, path: Path) -> None:
        _, inputs = self._function.structured_input_signature
        self.inputs = tuple(_declared(path, "input", name, inputs[name]) for name in inputs)
        outputs = self._function.structured_outputs
        self.outputs = tuple(_declared(path, "output", name, outputs[name]) for name in outputs)

    # -- predicting ------------------------------------------------------------------------------

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        tensorflow = self._tensorflow
        try:
            results = self._function(
                **{
                    name: tensorflow.constant(array, dtype=self._dtype(name, array))
                    for name, array in feeds.items()
                }
            )
        except tensorflow.errors.InvalidArgumentError as error:
            raise InvalidInput(_line(error)) from error
        return {name: _answer(results[name].numpy()) for name in outputs}

    def _dtype(self, name: str, array: Array) -> Any:
        return self._tensorflow.string if array.dtype.kind == "O" else None


def find_saved_model(folder: Path) -> Path:
    """`saved_model.pb` of the folder, or of its highest numbered one, as TensorFlow Serving does.

    Raises:
        ModelLoadFailed: there is none.
    """
    if not folder.is_dir():
        raise ModelLoadFailed(
            f"The model folder {folder} does not exist.",
            fix="Point storageUri (--model_dir) at the folder with saved_model.pb.",
        )
    if (found := _saved_model(folder)) is not None:
        return found
    holds = ", ".join(sorted(one.name for one in folder.iterdir())[:10]) or "nothing"
    raise ModelFileMissing(
        f"No TensorFlow model in {folder}: it holds {holds}.",
        fix="Put saved_model.pb (with variables/) there or in a numbered folder such as 1/: "
        "tf.saved_model.save writes it. A Keras file (.keras, .h5) is turned into one by "
        "model.export(folder).",
    )


def _saved_model(folder: Path) -> Path | None:
    versions = sorted(
        (one for one in folder.iterdir() if one.name.isdigit()), key=lambda one: -int(one.name)
    )
    files = (one / "saved_model.pb" for one in (folder, *versions))
    return next((file for file in files if file.is_file()), None)


def read_facts(path: Path) -> Facts:
    """The version, tags and signatures, without TensorFlow (format: saved_model.proto).

    Raises:
        ModelLoadFailed: the file is none, or cut short.
    """
    size = path.stat().st_size
    if not size:
        raise ModelLoadFailed(f"{path} is empty (0 bytes).", fix="Save the model again.")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        try:
            return _facts(view)
        except Damaged as error:
            raise ModelLoadFailed(
                f"{path} ({size} bytes) is no complete SavedModel: {error}.",
                fix="Save the model again and check that the upload was complete.",
            ) from error.with_traceback(None)


def _facts(view: memoryview) -> Facts:
    graphs = [_graph(graph) for graph in messages(view, 2)]
    if not graphs:
        raise Damaged("it has no graph")
    return next((facts for facts in graphs if _TAG in facts.tags), graphs[0])


def _graph(view: memoryview) -> Facts:
    tags: list[str] = []
    version = ""
    for info in messages(view, 1):
        for number, value in fields(info):
            if number == 4:
                tags.append(text(value))
            elif number == 5:
                version = text(value)
    return Facts(version, tuple(tags), tuple(_signatures(view)))


def _signatures(view: memoryview) -> Iterator[str]:
    for entry in messages(view, 5):
        name = next((text(value) for number, value in fields(entry) if number == 1), "")
        if not name.startswith("__saved_model"):
            yield name


def _bound_threads(tensorflow: Any, nthread: int) -> None:
    """Only the first model of a process can: the runtime is set up with it."""
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(nthread)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return


def _declared(path: Path, role: str, name: str, spec: Any) -> TensorMetadata:
    datatype = _DATATYPES.get(spec.dtype.name)
    if datatype is None:
        raise ModelLoadFailed(
            f"{path}: {role} '{name}' is of type {spec.dtype.name}, which the protocols cannot "
            "carry.",
            fix="Save the model with a signature of numbers, booleans or strings only.",
        )
    assert datatype in DATATYPES
    extents = () if spec.shape.rank is None else tuple(spec.shape.as_list())
    return TensorMetadata(name, datatype, tuple(-1 if one is None else one for one in extents))


def _answer(result: Any) -> Array:
    """Text as text, which V1 can carry; other bytes stay bytes. A scalar comes as no array."""
    array = np.asarray(result, dtype=object) if isinstance(result, bytes) else np.asarray(result)
    try:
        return texts(array) if array.dtype.kind == "O" else array
    except InvalidInput:
        return array


def _unusable(path: Path, facts: Facts, installed: str, error: Exception) -> ModelLoadFailed:
    cause = _line(error)
    if facts.version and release(facts.version)[:2] > release(installed)[:2]:
        return ModelLoadFailed(
            f"{path} was saved by TensorFlow {facts.version}, and {installed} is installed, which "
            f"cannot use it: {cause}.",
            fix=f"pip install 'tensorflow-cpu>={facts.version}'.",
        )
    missing = re.search(r"Op type not registered '(\w+)'", cause)
    if missing:
        return ModelLoadFailed(
            f"{path} uses the operator {missing[1]}, which TensorFlow {installed} does not have.",
            fix="Export the model without custom operators.",
        )
    return ModelLoadFailed(
        f"{path} cannot be used by TensorFlow {installed}: {cause}.",
        fix="Check that variables/ was uploaded whole, and save the model again.",
    )


def _line(error: Exception) -> str:
    """TensorFlow's message without its graph nodes and call stacks."""
    cause = str(error).partition("Defined at")[0].partition("[Op:")[0]
    return re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]", "", " ".join(cause.split()))[:300].strip().rstrip(".")
