"""Conditions in Knative's form, as InferenceService and its relatives report them."""

from __future__ import annotations

import msgspec


class Condition(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One observation about an object.

    Attributes:
        type: what is observed, a CamelCase word.
        status: `True`, `False` or `Unknown`.
        severity: `Info` when the condition does not decide about Ready; empty when it does.
        lastTransitionTime: when any field of the condition last changed.
        reason: a CamelCase word that says why.
        message: what happened and how to mend it, for people.
    """

    type: str
    status: str
    severity: str | None = None
    lastTransitionTime: str | None = None
    reason: str | None = None
    message: str | None = None


class Address(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where something can be reached inside the cluster.

    Attributes:
        url: the address.
        name: the address's name, where there are several.
        CACerts: certificate authorities to trust there, PEM.
        audience: audience of the OIDC token to send there.
    """

    url: str | None = None
    name: str | None = None
    CACerts: str | None = None
    audience: str | None = None
