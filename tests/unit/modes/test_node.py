"""A machine as a node: what speaks against it."""

from __future__ import annotations

import pytest

from kedge.modes.node import NodeError, check_family


def test_pods_of_ipv4_are_of_no_use_to_services_of_ipv6() -> None:
    check_family(None)
    check_family({"spec": {}})
    check_family({"spec": {"ipFamilies": ["IPv4"]}})
    check_family({"spec": {"ipFamilies": ["IPv6", "IPv4"]}})
    with pytest.raises(NodeError, match="addresses of IPv6") as caught:
        check_family({"spec": {"ipFamilies": ["IPv6"]}})
    assert caught.value.fix
