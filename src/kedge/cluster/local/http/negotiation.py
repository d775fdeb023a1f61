"""Which of the forms a client accepts it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kedge.cluster.errors import NotAcceptable

As = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
_FORMS: dict[str, As] = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadataList",
}
_META_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True)
class Form:
    """How to write an object.

    Attributes:
        name: empty for the object itself.
        version: of `meta.k8s.io`.
        yaml: in YAML rather than JSON.
    """

    name: As = ""
    version: str = "v1"
    yaml: bool = False

    @property
    def api_version(self) -> str:
        return f"meta.k8s.io/{self.version}"


JSON = Form()


def choose_form(accept: str) -> Form:
    """The first acceptable form that we can write.

    Raises:
        NotAcceptable: there is none.
    """
    if not accept:
        return JSON
    for clause in accept.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        options = dict(part.split("=", 1) for part in parameters if "=" in part)
        if media in ("application/yaml", "text/yaml"):
            return Form(yaml=True)
        if media not in ("application/json", "application/*", "*/*"):
            continue
        if "as" not in options:
            return JSON
        if options.get("g") != "meta.k8s.io" or options.get("v") not in _META_VERSIONS:
            continue
        if options["as"] in _FORMS:
            return Form(_FORMS[options["as"]], options["v"])
    raise NotAcceptable(
        "only the following media types are accepted: application/json, application/yaml,"
        " application/json;as=Table;v=v1;g=meta.k8s.io"
    )


def wants_aggregated_discovery(accept: str) -> str:
    """The version of `apidiscovery.k8s.io` that the client prefers; empty when it knows none."""
    for clause in accept.split(","):
        options = dict(part.strip().split("=", 1) for part in clause.split(";")[1:] if "=" in part)
        if options.get("as") == "APIGroupDiscoveryList" and options.get("v") in ("v2", "v2beta1"):
            return options["v"]
    return ""
