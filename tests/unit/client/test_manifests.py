"""Objects from files, folders and standard input, each with the place it was written at."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kedge.client.errors import ManifestError
from kedge.client.manifests import dump, parse_manifests, read_manifests


def test_every_object_knows_its_place(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("# first\nkind: A\n---\n---\nkind: B\n")
    found = read_manifests([str(file)])
    assert [(m.object["kind"], m.where) for m in found] == [("A", f"{file}:2"), ("B", f"{file}:5")]


def test_a_folder_gives_its_manifests_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"kind": "B"}')
    (tmp_path / "a.yml").write_text("kind: A")
    (tmp_path / "readme.md").write_text("not: this")
    assert [m.object["kind"] for m in read_manifests([str(tmp_path)])] == ["A", "B"]


def test_standard_input_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("kind: List\nitems: [{kind: A}, {kind: B}]"))
    found = read_manifests(["-"])
    assert [m.object["kind"] for m in found] == ["A", "B"]
    assert found[0].where == "standard input:1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: [A\n", r"f\.yaml is not YAML: .* at line 2, column 1\. Fix: .*line"),
        ("- kind: A", r"f\.yaml:1 is a list"),
        ("just text", r"f\.yaml:1 is a str"),
        ("kind: List\nitems: [3]", r"f\.yaml:1 is a int"),
    ],
)
def test_what_is_no_manifest_is_named_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        list(parse_manifests(text, "f.yaml"))


def test_missing_binary_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        read_manifests([str(tmp_path / "none.yaml")])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ManifestError, match="not text"):
        read_manifests([str(tmp_path / "binary.yaml")])
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ManifestError, match="holds no object"):
        read_manifests([str(tmp_path / "empty.yaml")])


def test_dump_keeps_the_order_of_keys() -> None:
    text = dump([{"kind": "B", "apiVersion": "v1"}, {"kind": "A"}])
    assert text == "kind: B\napiVersion: v1\n---\nkind: A\n"
    assert [m.object["kind"] for m in parse_manifests(text, "x")] == ["B", "A"]
