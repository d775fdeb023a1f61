"""Hugging Face: a folder with `config.json`, for the tasks of encoders.

Sequence and token classification, filling masks, and text embeddings. The task follows from the
architecture that `config.json` names, or from `--task` (`text_embedding` always does). A request
is a list of texts; answers have KServe's shapes. What the model needs is read from `config.json`
before Transformers is imported; code that comes with it runs only with `--trust_remote_code`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, ModelMetadata, Tensor, TensorMetadata
from kedge.protocol.v1 import Rows
from kedge.runtimes.flags import Flags
from kedge.runtimes.results import without_objects
from kedge.runtimes.versions import installed_version, release
from kedge.server import phases
from kedge.server.errors import BadUsage, ModelFileMissing, ModelLoadFailed
from kedge.server.model import ArrayModel
from kedge.server.options import Options

ENDINGS = ("config.json",)

_AUTO_CLASSES = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "fill_mask": "AutoModelForMaskedLM",
    "text_embedding": "AutoModel",
}
_ARCHITECTURES = {
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForMaskedLM": "fill_mask",
}
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_seq_length")
_DEFAULT_LENGTH = 2048
_DTYPES = {
    "auto": "", "float32": "float32", "float": "float32", "float16": "float16", "half": "float16",
    "bfloat16": "bfloat16",
}  # fmt: skip


def flags() -> Flags:
    known = Flags("huggingface")
    known.flag("task", choices=tuple(_AUTO_CLASSES))
    known.flag("backend", default="auto", choices=("auto", "huggingface"))
    known.flag("dtype", default="auto", choices=tuple(_DTYPES))
    known.flag("max_model_len")
    known.flag("max_length")
    known.flag("model_id")
    for switch in (
        "disable_lower_case", "disable_special_tokens", "trust_remote_code",
        "return_token_type_ids", "return_probabilities", "return_raw_logits",
    ):  # fmt: skip
        known.switch(switch)
    return known


@dataclass(frozen=True)
class HuggingfaceFacts:
    """What `config.json` says, and the flags that go with it."""

    task: str
    max_length: int
    saved_by: str


def preload() -> Sequence[Callable[[], object]]:
    """Imports, for a template, what every model needs."""
    import torch
    import transformers

    assert torch and transformers
    return ()


def make(name: str, folder: Path, options: Options) -> ArrayModel:
    return HuggingfaceModel(name, folder, flags().read(options), nthread=options.nthread)


class HuggingfaceModel(ArrayModel):
    """A tokenizer and an encoder, on the GPU where there is one."""

    def __init__(self, name: str, folder: Path, flags: Any, *, nthread: int = 1) -> None:
        super().__init__(name)
        if flags.return_probabilities and flags.return_raw_logits:
            raise BadUsage(
                "--return_probabilities and --return_raw_logits exclude each other.",
                fix="Give one of them.",
            )
        if flags.model_id:
            raise BadUsage(
                f"--model_id={flags.model_id}: this server does not download.",
                fix=f"Give storageUri: hf://{flags.model_id}, which brings it before the start.",
            )
        self._folder = folder
        self._flags = flags
        self._nthread = nthread
        self._torch: Any = None
        self._tokenizer: Any = None
        self._model: Any = None
        self._task = ""
        self._max_length = 0
        self._outputs: tuple[TensorMetadata, ...] = ()

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        facts = read_facts(self._folder, self._flags)
        installed_version("torch", "huggingface")
        installed = installed_version("transformers", "huggingface")
        import torch
        import transformers

        phases.mark("framework")
        transformers.utils.logging.disable_progress_bar()
        self._torch = torch
        self._task, self._max_length = facts.task, facts.max_length
        if self._nthread > 1:
            torch.set_num_threads(self._nthread)
        try:
            self._open(transformers, facts.task)
        except Exception as error:
            raise _unusable(self._folder, facts, installed, error) from error

        sample = self.compute([self._sample()], ("output-0",))["output-0"]
        self._outputs = (_output(facts.task, sample),)
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._model = self._tokenizer = None

    def _open(self, transformers: Any, task: str) -> None:
        torch, folder = self._torch, str(self._folder)
        trusted = {"trust_remote_code": self._flags.trust_remote_code, "local_files_only": True}
        casing = {"do_lower_case": False} if self._flags.disable_lower_case else {}
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **trusted, **casing)
        model = getattr(transformers, _AUTO_CLASSES[task]).from_pretrained(folder, **trusted)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        chosen = _DTYPES[self._flags.dtype] or ("float16" if device == "cuda" else "float32")
        self._model = model.to(device=device, dtype=getattr(torch, chosen)).eval()

    def _sample(self) -> str:
        return str(self._tokenizer.mask_token) if self._task == "fill_mask" else "text"

    # -- what it is ------------------------------------------------------------------------------

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name,
            platform="huggingface",
            inputs=(TensorMetadata("input-0", "BYTES", (-1,)),),
            outputs=self._outputs,
            properties={"task": self._task, "max_length": str(self._max_length)},
        )

    def warm_up(self) -> Any:
        return InferRequest(
            self.name, [Tensor.from_array("input-0", np.array([self._sample()], dtype=object))]
        )

    # -- predicting ------------------------------------------------------------------------------

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        if not isinstance(rows, list) or not rows:
            raise InvalidInput(
                f"Model {self.name} takes texts.", fix='Send {"instances": ["a text", ...]}.'
            )
        encoded = self._encode(rows)
        with self._torch.inference_mode():
            result = self._model(**encoded)
        answer = getattr(self, f"_{self._task}")(encoded, result)
        return dict.fromkeys(outputs, answer)

    def answer(self, payload: Any, results: Mapping[str, Array]) -> Any:
        if isinstance(payload, InferRequest):
            results = {name: without_objects(array) for name, array in results.items()}
        return super().answer(payload, results)

    def _encode(self, texts: list[str]) -> Any:
        token_types = {"return_token_type_ids": True} if self._flags.return_token_type_ids else {}
        return self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._max_length,
            add_special_tokens=not self._flags.disable_special_tokens,
            return_tensors="pt",
            **token_types,
        ).to(self._model.device)

    def _scored(self, logits: Any) -> Any:
        """Scores as the flags ask for them; None when the best alone is asked for."""
        if self._flags.return_probabilities:
            return self._torch.softmax(logits.float(), dim=-1).cpu().numpy()
        return logits.float().cpu().numpy() if self._flags.return_raw_logits else None

    def _sequence_classification(self, encoded: Any, result: Any) -> Array:
        scores = self._scored(result.logits)
        if scores is None:
            return _numpy(result.logits.argmax(dim=-1))
        return _by_index(scores)

    def _token_classification(self, encoded: Any, result: Any) -> Array:
        scores = self._scored(result.logits)
        if scores is None:
            return _numpy(result.logits.argmax(dim=-1))[:, None, :]
        return _by_index(scores)

    def _fill_mask(self, encoded: Any, result: Any) -> Array:
        """The token for each row's first mask."""
        masks = encoded["input_ids"] == self._tokenizer.mask_token_id
        if not bool(masks.any(dim=1).all()):
            row = int(masks.any(dim=1).int().argmin())
            raise InvalidInput(
                f"Text {row} has no {self._tokenizer.mask_token} to fill.",
                fix=f"Put {self._tokenizer.mask_token} where the word is wanted.",
            )
        places = masks.int().argmax(dim=1)
        logits = result.logits[self._torch.arange(len(places)), places]
        scores = self._scored(logits)
        if scores is not None:
            return _by_index(scores)
        words = [self._tokenizer.decode([one]) for one in logits.argmax(dim=-1).tolist()]
        return np.array(words, dtype=object)

    def _text_embedding(self, encoded: Any, result: Any) -> Array:
        """The mean over a text's own tokens, of length 1."""
        weights = encoded["attention_mask"].unsqueeze(-1).float()
        total = (result.last_hidden_state.float() * weights).sum(dim=1)
        mean = total / weights.sum(dim=1).clamp(min=1e-9)
        return _numpy(self._torch.nn.functional.normalize(mean, dim=1)).astype(np.float64)


def _numpy(tensor: Any) -> Array:
    array: Array = tensor.cpu().numpy()
    return array


def _by_index(scores: Array) -> Array:
    """Each row of scores as an object, rounded as KServe rounds."""
    flat = scores.reshape(-1, scores.shape[-1])
    objects = np.empty(len(flat), dtype=object)
    objects[:] = [
        {str(index): round(float(score), 4) for index, score in enumerate(row)} for row in flat
    ]
    return objects.reshape(scores.shape[:-1])


def _output(task: str, sample: Array) -> TensorMetadata:
    if sample.dtype.kind == "O":
        return TensorMetadata("output-0", "BYTES", (-1,) * sample.ndim)
    if task == "text_embedding":
        return TensorMetadata("output-0", "FP64", (-1, sample.shape[1]))
    shape = (-1, 1, -1) if task == "token_classification" else (-1,)
    return TensorMetadata("output-0", "INT64", shape)


# -- reading ---------------------------------------------------------------------------------------


def read_facts(folder: Path, flags: Any) -> HuggingfaceFacts:
    """The facts of a model, from its `config.json` and the flags, without Transformers."""
    path = folder / "config.json"
    config = _read(path)
    if "auto_map" in config and not flags.trust_remote_code:
        raise ModelLoadFailed(
            f"{path} wants code run that comes with the model ({', '.join(config['auto_map'])}).",
            fix="If you trust it, add --trust_remote_code; else use a model that Transformers "
            "knows.",
        )
    return HuggingfaceFacts(
        task=flags.task or _task(path, config),
        max_length=_max_length(path, config, flags.max_model_len or flags.max_length),
        saved_by=str(config.get("transformers_version", "")),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelFileMissing(
            f"No Hugging Face model in {path.parent}: there is no config.json.",
            fix="Upload the folder that save_pretrained wrote, for model and tokenizer.",
        )
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ModelLoadFailed(
            f"{path} is not JSON: {error}.", fix="Save the model again with save_pretrained."
        ) from error
    if not isinstance(config, dict):
        raise ModelLoadFailed(
            f"{path} holds no object.", fix="Save the model again with save_pretrained."
        )
    return config


def _task(path: Path, config: dict[str, Any]) -> str:
    architectures = [str(one) for one in config.get("architectures") or ()]
    for architecture in architectures:
        for ending, task in _ARCHITECTURES.items():
            if architecture.endswith(ending):
                return task
    named = ", ".join(architectures) or "no architecture"
    if any(one.endswith(("ForCausalLM", "ForConditionalGeneration")) for one in architectures):
        raise ModelLoadFailed(
            f"{path} names {named}, which generates text; this runtime serves encoders.",
            fix="Use a runtime for language models, such as vLLM's.",
        )
    raise ModelLoadFailed(
        f"{path} names {named}, which does not tell the task.",
        fix=f"Add --task={'|'.join(_AUTO_CLASSES)}.",
    )


def _max_length(path: Path, config: dict[str, Any], asked: str) -> int:
    lengths = [config[key] for key in _LENGTHS if isinstance(config.get(key), int)]
    limit = min(lengths, default=_DEFAULT_LENGTH)
    if not asked:
        return limit
    if not asked.isdigit() or not 0 < int(asked) <= limit:
        raise BadUsage(
            f"--max_model_len={asked}: {path} allows 1 to {limit} tokens.",
            fix=f"Give at most {limit}.",
        )
    return int(asked)


def _unusable(
    folder: Path, facts: HuggingfaceFacts, installed: str, error: Exception
) -> ModelLoadFailed:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:240].rstrip('.')}"
    if release(facts.saved_by) > release(installed):
        return ModelLoadFailed(
            f"{folder} was saved by Transformers {facts.saved_by}, and {installed} is installed, "
            f"which cannot use it: {cause}.",
            fix=f"pip install transformers=={facts.saved_by}.",
        )
    return ModelLoadFailed(
        f"{folder} cannot be loaded by Transformers {installed}: {cause}.",
        fix="Check that config.json, weights and tokenizer files were all uploaded.",
    )
