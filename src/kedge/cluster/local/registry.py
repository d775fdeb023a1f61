"""The way of every write: the one place where Kubernetes' rules are applied to the store.

A write is prepared (identity, defaults), checked (types, validity, admission), its fields get their
owner, and it is stored, all without giving way to anything else, so that no write ever meets
another half-way. `LocalCluster` and the HTTP façade both come through here.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from kedge.api.legacy import convert, is_legacy
from kedge.api.scheme import GATEWAY_GROUP, NAMESPACE, SERVICE, SERVING_GROUP, Kind
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    UnsupportedMediaType,
)
from kedge.cluster.local.addresses import ServiceAddresses
from kedge.cluster.local.admission import Admission
from kedge.cluster.local.apply import (
    Manager,
    apply_config,
    are_entries,
    own_applied,
    own_updated,
)
from kedge.cluster.local.defaults import set_defaults
from kedge.cluster.local.deletion import check_preconditions, mark_deleted, may_go
from kedge.cluster.local.metadata import (
    check_metadata,
    count_generation,
    is_same,
    keep_identity,
    start_life,
)
from kedge.cluster.local.names import generate_name
from kedge.cluster.local.patch import (
    apply_json_patch,
    apply_merge_patch,
    apply_strategic_patch,
)
from kedge.cluster.local.requests import (
    DELETE,
    WRITE,
    Deleted,
    DeleteOptions,
    WriteOptions,
    Written,
)
from kedge.cluster.local.scaling import read_scale, scaled
from kedge.cluster.local.store import Record, Store
from kedge.cluster.local.structure import shape_of
from kedge.cluster.local.typecheck import check_status, check_types
from kedge.cluster.local.validity import Problem, check_valid, invalid
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time

log = logging.getLogger(__name__)

CUSTOM_GROUPS = frozenset({SERVING_GROUP, GATEWAY_GROUP})
"""Groups that a CustomResourceDefinition serves on Kubernetes, with the stricter rules of those."""

LASTING_NAMESPACES = ("default", "kedge")
"""There from the start, never to be deleted."""

_NAME_TRIES = 8


class Registry:
    """Reads and writes objects by Kubernetes' rules.

    Args:
        admission: asked before every create and update.
        clock: stamps creation, deletion and ownership.
    """

    def __init__(self, store: Store, admission: Admission, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.store = store
        self._admission = admission
        self._clock = clock
        services = [record.object for record in store.snapshot(SERVICE).records()]
        self._addresses = ServiceAddresses(services)

    # Reading

    def read(self, kind: Kind, namespace: str, name: str) -> Record:
        """The stored object; raises `NotFound`."""
        record = self.store.get(kind, namespace, name)
        if record is None:
            raise not_found(kind, name)
        return record

    # Writing

    def create(
        self, kind: Kind, namespace: str, obj: Object, options: WriteOptions = WRITE
    ) -> Written:
        obj = self._prepared(kind, namespace, obj)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        self._check_namespace(kind, namespace)
        self._give_name(kind, namespace, metadata)
        name = metadata.get("name", "")
        if self.store.get(kind, namespace, name) is not None:
            raise already_exists(kind, name)
        metadata.pop("managedFields", None)
        start_life(kind, obj, self._now())
        warnings = self._finish(kind, obj, None, options)
        obj["metadata"]["managedFields"] = own_updated(
            {}, obj, shape_of(kind), self._manager(kind, options)
        )
        return Written(self._store(kind, obj, None, options), created=True, warnings=warnings)

    def replace(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        obj: Object,
        options: WriteOptions = WRITE,
        *,
        subresource: str = "",
    ) -> Written:
        obj = self._prepared(kind, namespace, obj)
        if obj["metadata"].setdefault("name", name) != name:
            raise BadRequest(
                f"the name of the object ({obj['metadata']['name']}) does not match the name on"
                f" the URL ({name})"
            )
        record = self.read(kind, namespace, name)
        self._check_version(kind, obj, record, subresource)
        return self._update(kind, obj, record, options, subresource)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Any,
        type: PatchType,
        options: WriteOptions = WRITE,
        *,
        subresource: str = "",
        force: bool = False,
    ) -> Written:
        if type is PatchType.APPLY:
            return self._apply(kind, namespace, name, patch, options, subresource, force)
        record = self.read(kind, namespace, name)
        old = record.object
        if subresource == "scale":
            desired = patched(kind, read_scale(kind, old), patch, type)
            new = scaled(kind, old, desired)
        else:
            new = patched(kind, old, patch, type)
        if not isinstance(new, dict):
            raise Invalid("the patch leaves no object")
        check_metadata(new)
        for field in ("apiVersion", "kind"):
            if new.get(field) != old.get(field):
                raise BadRequest(f"a patch cannot change {field}")
        if new["metadata"].get("name") != name:
            raise Invalid("metadata.name: Invalid value: field is immutable")
        self._check_version(kind, new, record, subresource)
        return self._update(kind, new, record, options, subresource)

    def scale(
        self, kind: Kind, namespace: str, name: str, scale: Object, options: WriteOptions
    ) -> Written:
        if not kind.scale:
            raise not_found(kind, f"{name}/scale")
        record = self.read(kind, namespace, name)
        new = scaled(kind, record.object, scale)
        self._check_version(kind, new, record, "scale")
        return self._update(kind, new, record, options, "scale")

    def delete(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions = DELETE
    ) -> Deleted:
        record = self.read(kind, namespace, name)
        if kind is NAMESPACE and name in LASTING_NAMESPACES:
            raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted')
        obj = record.object
        check_preconditions(kind, obj, options)
        mark_deleted(kind, obj, options, self._clock.now())
        if kind is NAMESPACE:
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        gone = may_go(obj)
        if options.dry_run:
            return Deleted(obj, gone)
        if gone:
            return Deleted(self._remove(kind, record), gone=True)
        if not is_same(obj, record.object):
            self.store.put(kind, obj, record)
        return Deleted(obj, gone=False)

    # The steps

    def _prepared(self, kind: Kind, namespace: str, obj: Object) -> Object:
        """A copy of the client's object that is ours to change."""
        if not kind.type_path:
            # A kind that other clusters may have, such as KEDA's.
            raise NotFound(f"the server could not find the requested resource ({kind})")
        if not isinstance(obj, dict):
            raise BadRequest("the body is no object")
        obj = convert(obj) if is_legacy(obj) else obj
        for field, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
            if obj.get(field, wanted) != wanted:
                raise BadRequest(
                    f"the {field} in the data ({obj[field]}) does not match the expected"
                    f" {field} ({wanted})"
                )
        copied: Object = {"apiVersion": kind.api_version, "kind": kind.kind}
        copied |= _copy(obj, nulls=kind.group in CUSTOM_GROUPS)
        copied.setdefault("metadata", {})
        check_metadata(copied)
        metadata = copied["metadata"]
        if kind.namespaced:
            given = metadata.setdefault("namespace", namespace) or namespace
            if given != namespace:
                raise BadRequest(
                    "the namespace of the provided object does not match the namespace sent on"
                    f" the request ({given} against {namespace})"
                )
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        return copied

    def _check_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        found = self.store.get(NAMESPACE, "", namespace)
        if found is None:
            raise not_found(NAMESPACE, namespace)
        if found.fields.get("status.phase") == "Terminating":
            raise Forbidden(
                f"unable to create new content in namespace {namespace} because it is being"
                " terminated"
            )

    def _give_name(self, kind: Kind, namespace: str, metadata: Object) -> None:
        if metadata.get("name") or not metadata.get("generateName"):
            return
        for _ in range(_NAME_TRIES):
            metadata["name"] = generate_name(metadata["generateName"])
            if self.store.get(kind, namespace, metadata["name"]) is None:
                return

    def _check_version(self, kind: Kind, obj: Object, record: Record, subresource: str) -> None:
        metadata, old = obj["metadata"], record
        version = metadata.get("resourceVersion")
        if not version and kind.group in CUSTOM_GROUPS and not subresource:
            raise Invalid(
                f'{kind} "{old.name}" is invalid: metadata.resourceVersion: Invalid value: 0x0:'
                " must be specified for an update"
            )
        if version and version != str(old.version):
            raise Conflict(
                f'Operation cannot be fulfilled on {kind} "{old.name}": the object has been'
                " modified; please apply your changes to the latest version and try again",
                details={"name": old.name, "group": kind.group, "kind": kind.plural},
            )
        uid = metadata.get("uid")
        if uid and uid != old.uid:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind} "{old.name}": Precondition failed:'
                f" UID in precondition: {uid}, UID in object meta: {old.uid}",
                details={"name": old.name, "group": kind.group, "kind": kind.plural},
            )

    def _update(
        self, kind: Kind, obj: Object, record: Record, options: WriteOptions, subresource: str
    ) -> Written:
        old = record.object
        new = self._merged(kind, obj, old, subresource)
        warnings = self._finish(kind, new, old, options, subresource)
        new["metadata"]["managedFields"] = _given_ownership(obj, old, subresource)
        new["metadata"]["managedFields"] = own_updated(
            old, new, shape_of(kind), self._manager(kind, options, subresource=subresource)
        )
        return self._conclude(kind, new, old, record, options, warnings)

    def _apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        config: Object,
        options: WriteOptions,
        subresource: str,
        force: bool,
    ) -> Written:
        config = self._prepared(kind, namespace, config)
        metadata = config["metadata"]
        if metadata.setdefault("name", name) != name:
            raise BadRequest(f"the object's name {metadata['name']} is not the URL's {name}")
        if metadata.get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil")
        record = self.store.get(kind, namespace, name)
        if record is None and subresource:
            raise not_found(kind, name)
        if record is not None:
            self._check_version(kind, config, record, "apply")
        elif metadata.get("uid") or metadata.get("resourceVersion"):
            raise Conflict(f'{kind} "{name}" is not there: uid and resourceVersion cannot be met')
        else:
            self._check_namespace(kind, namespace)
        shape = shape_of(kind)
        applied = _applicable(kind, config, subresource)
        live: Object = _skeleton(config) if record is None else record.object
        manager = self._manager(kind, options, "Apply", subresource)
        new = apply_config(live, applied, shape, manager)
        if record is None:
            start_life(kind, new, self._now())
        else:
            new = self._merged(kind, new, live, subresource)
        old = record.object if record is not None else None
        warnings = self._finish(kind, new, old, options, subresource)
        new["metadata"]["managedFields"] = own_applied(
            live, new, applied, shape, manager, force=force
        )
        if record is None:
            return Written(self._store(kind, new, None, options), created=True, warnings=warnings)
        return self._conclude(kind, new, live, record, options, warnings)

    def _merged(self, kind: Kind, obj: Object, old: Object, subresource: str) -> Object:
        """What the write makes of the old object, before defaults."""
        if subresource == "status":
            new = {**old, "metadata": dict(old["metadata"])}
            if "status" in obj:
                new["status"] = obj["status"]
            else:
                new.pop("status", None)
            return new
        new = {**obj, "metadata": dict(obj["metadata"])}
        if kind.status and subresource != "finalize":
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        keep_identity(kind, new, old)
        _refuse_new_finalizers(kind, new, old)
        return new

    def _finish(
        self,
        kind: Kind,
        obj: Object,
        old: Object | None,
        options: WriteOptions,
        subresource: str = "",
    ) -> list[str]:
        """Defaults and every check; the warnings for the client."""
        if subresource == "status":
            check_status(kind, obj)
            return []
        warnings = check_types(kind, obj, options.field_validation, old)
        set_defaults(kind, obj)
        if kind is SERVICE:
            self._addresses.assign(obj, old)
        if old is not None:
            count_generation(kind, obj, old)
        check_valid(kind, obj, old)
        review = self._admission.admit(kind, "CREATE" if old is None else "UPDATE", obj, old)
        return [*warnings, *(text for text in review.warnings if text not in warnings)]

    def _conclude(
        self,
        kind: Kind,
        new: Object,
        old: Object,
        record: Record,
        options: WriteOptions,
        warnings: list[str],
    ) -> Written:
        """Store an update, drop it if it changes nothing, or let a deleted object go."""
        if is_same(new, old):
            return Written(old, warnings=warnings)
        if may_go(new) and not options.dry_run:
            return Written(self._remove(kind, record), warnings=warnings)
        return Written(self._store(kind, new, record, options), warnings=warnings)

    def _store(
        self, kind: Kind, obj: Object, record: Record | None, options: WriteOptions
    ) -> Object:
        if not obj["metadata"]["managedFields"]:
            del obj["metadata"]["managedFields"]
        if options.dry_run:
            return obj
        self.store.put(kind, obj, record)
        if kind is SERVICE:
            self._addresses.claim(obj)
        return obj

    def _remove(self, kind: Kind, record: Record) -> Object:
        obj = self.store.remove(kind, record)
        if kind is SERVICE:
            self._addresses.release(obj)
        return obj

    def _manager(
        self,
        kind: Kind,
        options: WriteOptions,
        operation: str = "Update",
        subresource: str = "",
    ) -> Manager:
        return Manager(options.field_manager, operation, kind.api_version, self._now(), subresource)

    def _now(self) -> str:
        return format_time(self._clock.now())


def patched(kind: Kind, obj: Object, patch: Any, type: PatchType) -> Any:
    """The object after a patch that is not an apply."""
    if type is PatchType.JSON:
        result = apply_json_patch(obj, patch)
        return result if kind.group in CUSTOM_GROUPS else _without_nulls(result)
    if type is PatchType.STRATEGIC:
        if kind.group in CUSTOM_GROUPS:
            raise UnsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include:"
                " application/json-patch+json, application/merge-patch+json,"
                " application/apply-patch+yaml"
            )
        return apply_strategic_patch(obj, patch, shape_of(kind))
    if not isinstance(patch, dict):
        raise BadRequest("a merge patch is an object")
    return apply_merge_patch(obj, patch)


def not_found(kind: Kind, name: str) -> NotFound:
    return NotFound(
        f'{kind} "{name}" not found',
        details={"name": name, "group": kind.group, "kind": kind.plural},
    )


def already_exists(kind: Kind, name: str) -> AlreadyExists:
    return AlreadyExists(
        f'{kind} "{name}" already exists',
        details={"name": name, "group": kind.group, "kind": kind.plural},
    )


def _refuse_new_finalizers(kind: Kind, new: Object, old: Object) -> None:
    if "deletionTimestamp" not in old["metadata"]:
        return
    before = old["metadata"].get("finalizers") or ()
    added = sorted(set(new["metadata"].get("finalizers") or ()) - set(before))
    if added:
        text = f"Forbidden: no new finalizers can be added to an object being deleted: {added}"
        name = old["metadata"]["name"]
        raise invalid(kind, name, [Problem("metadata.finalizers", text, "FieldValueForbidden")])


def _copy(obj: Object, *, nulls: bool) -> Object:
    encoded = msgspec.json.encode(obj)
    copied: Object = msgspec.json.decode(encoded)
    return copied if nulls or b"null" not in encoded else _without_nulls(copied)


def _without_nulls(value: Any) -> Any:
    """A field of a core kind that is null is one that is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _skeleton(config: Object) -> Object:
    metadata = config["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    return {"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": kept}


def _applicable(kind: Kind, config: Object, subresource: str) -> Object:
    """The part of an applied configuration that this (sub-)resource lets one set."""
    if subresource == "status":
        part = {key: value for key, value in config.items() if key in ("apiVersion", "kind")}
        part["metadata"] = _skeleton(config)["metadata"]
        if "status" in config:
            part["status"] = config["status"]
        return part
    metadata = {
        key: value
        for key, value in config["metadata"].items()
        if key not in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
    }
    part = {**config, "metadata": metadata}
    if kind.status:
        part.pop("status", None)
    return part


def _given_ownership(obj: Object, old: Object, subresource: str) -> list[Any]:
    """A client may edit `managedFields`: none means as before, an empty entry forgets them all."""
    entries = obj["metadata"].get("managedFields")
    if subresource or not isinstance(entries, list):
        return list(old["metadata"].get("managedFields") or ())
    before = list(old["metadata"].get("managedFields") or ())
    if entries == before:
        return before
    # What cannot be read is as if nothing had been said.
    return [entry for entry in entries if entry] if are_entries(entries) else before
