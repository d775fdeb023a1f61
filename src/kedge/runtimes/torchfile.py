"""What kind of model a PyTorch file holds, read from its archive and never by running it.

Three kinds share the ending `.pt`: TorchScript, a program of `torch.export`, and whatever
`torch.save` was given. All are zip archives whose members tell them apart. A pickle in them may run
code when it is loaded, so its classes are looked at first.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kedge.runtimes.pickles import PickleFacts, facts_in
from kedge.server.errors import ModelLoadFailed

Kind = Literal["script", "export", "state"]

_HARMLESS = {
    "torch", "torch._utils", "torch.nn.parameter", "torch.storage", "torch._tensor", "collections",
    "torch.utils._pytree",
}  # fmt: skip
_ADVICE = (
    "Save the weights alone, torch.save(model.state_dict(), 'model.pt'), with the class in "
    "model.py beside them; or save torch.jit.script(model) or torch.export.export(model, ...)."
)


@dataclass(frozen=True)
class TorchFacts:
    """What could be read.

    Attributes:
        torch_version: of the PyTorch that exported the program; other kinds do not say.
    """

    kind: Kind
    torch_version: str = ""


def read_facts(path: Path) -> TorchFacts:
    """The kind of model in a file; one that would run code when loaded is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _facts(path, archive)
    except zipfile.BadZipFile as error:
        raise _no_archive(path) from error


def _facts(path: Path, archive: zipfile.ZipFile) -> TorchFacts:
    members = {name.partition("/")[2]: name for name in archive.namelist()}
    if "archive_format" in members:
        _refuse_code(path, _pickles(archive))
        programs = [name for inner, name in members.items() if inner.startswith("models/")]
        version = json.loads(archive.read(programs[0])).get("torch_version", "") if programs else ""
        return TorchFacts("export", version)
    if "constants.pkl" in members:
        return TorchFacts("script")
    if "data.pkl" in members:
        _refuse_code(path, [archive.read(members["data.pkl"])])
        return TorchFacts("state")
    raise ModelLoadFailed(
        f"{path} is a zip archive, but none that PyTorch wrote: it holds "
        f"{', '.join(archive.namelist()[:5])}.",
        fix=_ADVICE,
    )


def _pickles(archive: zipfile.ZipFile) -> list[bytes]:
    """The pickles of an exported program: of example inputs, and of weights that are objects."""
    found = []
    for name in archive.namelist():
        if name.endswith((".pt", ".pkl")) or "/constants/" in name:
            content = archive.read(name)
            if zipfile.is_zipfile(io.BytesIO(content)):
                with zipfile.ZipFile(io.BytesIO(content)) as inner:
                    found += [inner.read(one) for one in inner.namelist() if one.endswith(".pkl")]
            elif content[:1] == b"\x80":
                found.append(content)
    return found


def _refuse_code(path: Path, pickles: list[bytes]) -> None:
    for content in pickles:
        facts: PickleFacts = facts_in(content)
        foreign = [
            f"{module}.{name}"
            for module, names in (facts.classes or {}).items()
            if module not in _HARMLESS
            for name in names
        ]
        if foreign:
            raise ModelLoadFailed(
                f"{path} pickles objects, not weights alone ({', '.join(foreign[:3])}): loading it "
                "would run code from the file.",
                fix=_ADVICE,
            )


def _no_archive(path: Path) -> ModelLoadFailed:
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":
        return ModelLoadFailed(
            f"{path} ({path.stat().st_size} bytes) is a PyTorch file cut short: its archive has no "
            "end.",
            fix="Save the model again and check that the upload was complete.",
        )
    if head[:1] == b"\x80":
        return ModelLoadFailed(
            f"{path} is a bare pickle or in PyTorch's format of before 1.6.",
            fix="Load it and save its state dict with a current PyTorch.",
        )
    return ModelLoadFailed(f"{path} is no PyTorch file.", fix=_ADVICE)
