"""Names: which ones Kubernetes allows, and making one from a prefix."""

from __future__ import annotations

import re
import secrets

from kedge.api.scheme import NAMESPACE, NODE, SERVICE, Kind

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")

_SUFFIX_CHARACTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_BASE = 63 - _SUFFIX_LENGTH


def generate_name(prefix: str) -> str:
    """`prefix` and five random characters, at most 63 in all."""
    suffix = "".join(secrets.choice(_SUFFIX_CHARACTERS) for _ in range(_SUFFIX_LENGTH))
    return prefix[:_LONGEST_BASE] + suffix


def name_problem(kind: Kind, name: str) -> str:
    """What is wrong with an object's name; empty when nothing is."""
    if kind is SERVICE:
        if len(name) > 63 or not _LABEL_1035.fullmatch(name):
            return (
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-',"
                " start with an alphabetic character, and end with an alphanumeric character,"
                " in 63 characters at most"
            )
    elif kind is NAMESPACE:
        if len(name) > 63 or not _LABEL.fullmatch(name):
            return (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters"
                " or '-', and must start and end with an alphanumeric character, in 63 characters"
                " at most"
            )
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        what = "a node's name" if kind is NODE else "a lowercase RFC 1123 subdomain"
        return (
            f"{what} must consist of lower case alphanumeric characters, '-' or '.', and must"
            " start and end with an alphanumeric character, in 253 characters at most"
        )
    return ""


def key_problem(key: str) -> str:
    """What is wrong with the key of a label or an annotation; empty when nothing is."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix.lower())):
        return "prefix part must be a lowercase RFC 1123 subdomain"
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        return (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start"
            " and end with an alphanumeric character, in 63 characters at most"
        )
    return ""


def label_value_problem(value: str) -> str:
    """What is wrong with a label's value; empty when nothing is."""
    if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
        return (
            "a valid label must be an empty string or consist of alphanumeric characters, '-',"
            " '_' or '.', and must start and end with an alphanumeric character, in 63 characters"
            " at most"
        )
    return ""
