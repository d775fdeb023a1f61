"""The rights that people are told to give `kedge node` are those that it is tested with."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from kedge.install.rights import NODE_RULES

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "node.md"


def test_the_page_tells_the_rights() -> None:
    (text,) = re.findall(
        r"(?:^    .+\n)+", PAGE.read_text().partition("needs these rights:")[2], re.M
    )[:1]
    assert yaml.safe_load(text)["rules"] == [rule.to_dict() for rule in NODE_RULES]
