"""Hugging Face: tiny random encoders of every task, in one server, against Transformers itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.runtime_process import everywhere, metadata, predictions, serving
from tests.integration.server_process import Served

from kedge.runtimes import huggingface
from kedge.server.errors import BadUsage, ModelLoadFailed
from kedge.server.options import parse

if find_spec("transformers") is None or find_spec("torch") is None:
    pytest.skip("needs Transformers and PyTorch, left out of the lock", allow_module_level=True)

TEXTS = ["good film", "a bad film the film"]
MASKED = ["good [MASK]", "a [MASK] film"]

SAVE = """
import json, sys, torch, transformers as t

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "the"]
texts, masked = json.loads(sys.argv[2])
tokenizer = t.BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
config = t.BertConfig(
    vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=32, num_labels=3,
)
torch.manual_seed(3)
answers = {}
for name, kind in {
    "sequence": t.BertForSequenceClassification, "token": t.BertForTokenClassification,
    "mask": t.BertForMaskedLM,
}.items():
    model = kind(config).eval()
    model.save_pretrained(f"{sys.argv[1]}/{name}")
    tokenizer.save_pretrained(f"{sys.argv[1]}/{name}")
    asked = tokenizer(masked if name == "mask" else texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        answers[name] = model(**asked).logits.tolist()
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Models and their logits, made by a process of their own."""
    folder = tmp_path_factory.mktemp("models")
    arguments = [str(folder), json.dumps([TEXTS, MASKED])]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SAVE, *arguments], check=True, capture_output=True
    )
    return folder, {name: np.array(one) for name, one in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def served(
    saved: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serving("huggingface", saved[0], tmp_path_factory.mktemp("log") / "log") as one:
        yield one


def given(texts: list[str]) -> dict[str, Any]:
    return {"input-0": np.array(texts, dtype=object)}


def test_sequence_classification(served: Served, saved: tuple[Path, dict[str, Any]]) -> None:
    best = saved[1]["sequence"].argmax(axis=-1).tolist()
    assert metadata(served, "sequence") == (
        {"input-0": ("BYTES", [-1])},
        {"output-0": ("INT64", [-1])},
    )
    assert predictions(served, TEXTS, "sequence") == best
    assert everywhere(served, given(TEXTS), model="sequence")["output-0"].tolist() == best


def test_token_classification(served: Served, saved: tuple[Path, dict[str, Any]]) -> None:
    best = saved[1]["token"].argmax(axis=-1)[:, None, :].tolist()
    assert metadata(served, "token")[1] == {"output-0": ("INT64", [-1, 1, -1])}
    assert predictions(served, TEXTS, "token") == best
    assert everywhere(served, given(TEXTS), model="token")["output-0"].tolist() == best


def test_fill_mask(served: Served, saved: tuple[Path, dict[str, Any]]) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "the"]
    logits = saved[1]["mask"]
    best = [words[row[2].argmax()] for row in logits]
    assert predictions(served, MASKED, "mask") == best
    assert everywhere(served, given(MASKED), model="mask")["output-0"].tolist() == best
    status, body = served.post("/v1/models/mask:predict", {"instances": ["no mask", *MASKED]})
    assert (status, body["error"].partition(".")[0]) == (400, "Text 0 has no [MASK] to fill")
    assert served.post("/v1/models/mask:predict", {"instances": [[1.0]]})[0] == 400


def test_embeddings_and_probabilities(saved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, logits = saved
    arguments = ["--task=text_embedding", "--max_model_len=16"]
    with serving("huggingface", folder / "sequence", tmp_path / "log", *arguments) as one:
        assert metadata(one)[1] == {"output-0": ("FP64", [-1, 16])}
        answer = everywhere(one, given(TEXTS))["output-0"]
        np.testing.assert_allclose(np.linalg.norm(answer, axis=1), 1, rtol=1e-5)
        alone = predictions(one, TEXTS[:1])
        np.testing.assert_allclose(alone, answer[:1], atol=1e-5)
    with serving(
        "huggingface", folder / "sequence", tmp_path / "log", "--return_probabilities"
    ) as one:
        exp = np.exp(logits["sequence"])
        wanted = exp / exp.sum(axis=-1, keepdims=True)
        rows = predictions(one, TEXTS)
        got = [[row[str(index)] for index in range(3)] for row in rows]
        np.testing.assert_allclose(got, wanted, atol=1e-4)
        texts = everywhere(one, given(TEXTS))["output-0"]
        assert [json.loads(text) for text in texts] == rows


def read(folder: Path, config: Any, *arguments: str) -> huggingface.HuggingfaceFacts:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    flags = huggingface.flags().read(parse(["huggingface", *arguments], {}))
    return huggingface.read_facts(folder, flags)


def test_what_config_json_says(tmp_path: Path) -> None:
    config = {"architectures": ["XForMaskedLM"], "max_position_embeddings": 8, "n_positions": 4}
    assert read(tmp_path, config) == huggingface.HuggingfaceFacts("fill_mask", 4, "")
    assert read(tmp_path, config, "--task=text_embedding").task == "text_embedding"
    with pytest.raises(BadUsage, match=r"--max_model_len=9: .* allows 1 to 4 tokens"):
        read(tmp_path, config, "--max_length=9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_id=acme/bert"], "Give storageUri: hf://acme/bert, which brings it"),
        (["--return_probabilities", "--return_raw_logits"], "exclude each other"),
        (["--task=translation"], "argument --task: invalid choice"),
    ],
)
def test_flags_that_cannot_be(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(BadUsage) as caught:
        huggingface.make("m", tmp_path, parse(["huggingface", *arguments], {}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json is not JSON"),
        ({"architectures": ["LlamaForCausalLM"]}, "which generates text; this runtime serves enc"),
        ({}, "names no architecture, which does not tell the task. Fix: Add --task="),
        (
            {"auto_map": {"AutoModel": "x.Y"}},
            "wants code run that comes with the model (AutoModel)",
        ),
    ],
)
def test_models_that_are_not_served(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ModelLoadFailed) as caught:
        read(tmp_path, config)
    assert message in str(caught.value)
