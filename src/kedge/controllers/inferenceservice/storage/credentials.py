"""Credentials for the init container: from the storage spec's secret, or from a service account."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.errors import InvalidStorage, MissingObject
from kedge.controllers.inferenceservice.merge import Tree
from kedge.controllers.inferenceservice.names import SERVING
from kedge.controllers.inferenceservice.surroundings import Surroundings, secret_keys, secret_text
from kedge.settings.serving import Credentials, S3Credentials

CA_BUNDLE_CONFIG_MAP = "AWS_CA_BUNDLE_CONFIGMAP"
_ROLE_ARN = "eks.amazonaws.com/role-arn"
_GCS_FOLDER = "/var/secrets/"
_HDFS_FOLDER = "/var/secrets/kserve-hdfscreds"
_STORAGE_TYPES = ("s3", "hdfs", "webhdfs")
_SPEC_TYPES = ", ".join(_STORAGE_TYPES)

_AZURE = {
    "AZURE_SUBSCRIPTION_ID": "AZ_SUBSCRIPTION_ID",
    "AZURE_TENANT_ID": "AZ_TENANT_ID",
    "AZURE_CLIENT_ID": "AZ_CLIENT_ID",
    "AZURE_CLIENT_SECRET": "AZ_CLIENT_SECRET",
    "AZURE_STORAGE_ACCESS_KEY": "",
    "AZURE_ACCESS_TOKEN": "",
    "AZURE_ACCESS_EXPIRES_ON_SECONDS": "",
    "AZURE_ACCOUNT_NAME": "",
    "AZURE_SERVICE_URL": "",
}


@dataclass
class Access:
    """What an init container gets to reach its source."""

    env: list[Tree] = field(default_factory=list)
    mounts: list[Tree] = field(default_factory=list)
    volumes: list[Tree] = field(default_factory=list)
    uri: str = ""
    """The real URI, where the storage spec's secret makes it up."""

    def value_of(self, name: str) -> str:
        return next((str(e.get("value") or "") for e in self.env if e["name"] == name), "")


# -- the storage spec --------------------------------------------------------------------------


def secret_name(annotations: Mapping[str, str], settings: Credentials) -> str:
    """The secret whose entries `storage.key` names."""
    key = settings.storage_secret_name_annotation
    return (key and annotations.get(key)) or settings.storage_spec_secret_name or "storage-config"


def from_storage_spec(
    storage: Mapping[str, Any],
    annotations: Mapping[str, str],
    around: Surroundings,
    settings: Credentials,
) -> Access:
    """Access by `model.storage`: an entry of the storage secret, overridden by `parameters`."""
    parameters = {str(key): str(val) for key, val in (storage.get("parameters") or {}).items()}
    name = secret_name(annotations, settings)
    entry_key, entry = _find_entry(name, storage, parameters, around)
    kind = parameters.get("type") or entry.get("type") or ""
    if entry.get("type") and entry["type"] not in _STORAGE_TYPES:
        raise InvalidStorage(
            f"Secret `{name}`, key `{entry_key}`: the storage type `{entry['type']}` is unknown.",
            fix=f"Set `type` there to one of {_SPEC_TYPES}.",
        )
    if not kind:
        raise InvalidStorage(
            "The model's `storage` says nowhere which kind of storage it is.",
            fix="Set `storage.parameters.type` to one of"
            f" {_SPEC_TYPES}, or `storage.key` to an entry of the secret `{name}` that does.",
        )
    access = Access(uri=_spec_uri(kind, storage, parameters.get("bucket") or entry.get("bucket")))
    if entry_key is not None:
        access.env.append(_from_secret("STORAGE_CONFIG", name, entry_key))
    if parameters:
        text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
        access.env.append({"name": "STORAGE_OVERRIDE_CONFIG", "value": text})
    bundle = parameters.get("cabundle_configmap") or entry.get("cabundle_configmap")
    if bundle:
        access.env.append({"name": CA_BUNDLE_CONFIG_MAP, "value": str(bundle)})
    return access


def _find_entry(
    name: str, storage: Mapping[str, Any], parameters: Mapping[str, str], around: Surroundings
) -> tuple[str | None, dict[str, Any]]:
    wanted = storage.get("key")
    key = str(wanted or (f"default_{parameters['type']}" if "type" in parameters else "default"))
    secret = around.secrets.get(name)
    if secret is None or key not in secret_keys(secret):
        if not wanted:
            return None, {}
        what = "does not exist" if secret is None else f"has no key `{key}`"
        raise MissingObject(
            f"`storage.key` is `{key}`, but the secret `{name}` {what}.",
            fix=f"kubectl create secret generic {name} --from-literal={key}='"
            '{"type":"s3","bucket":"BUCKET","access_key_id":"ID","secret_access_key":"KEY"}\''
            if secret is None
            else f"Set `storage.key` to one of {', '.join(sorted(secret_keys(secret)))}.",
        )
    try:
        entry = json.loads(secret_text(secret, key))
    except json.JSONDecodeError as error:
        raise InvalidStorage(
            f"Secret `{name}`, key `{key}` is not JSON: {error}.",
            fix='Write it as {"type": "s3", "bucket": ...}.',
        ) from error
    return key, entry if isinstance(entry, dict) else {}


def _spec_uri(kind: str, storage: Mapping[str, Any], bucket: str | None) -> str:
    path = str(storage.get("path") or "").lstrip("/")
    if kind != "s3":
        return f"{kind}://{path}"
    if not bucket:
        raise InvalidStorage(
            "The model's `storage` is of type s3 but names no bucket.",
            fix="Set `storage.parameters.bucket`, or `bucket` in the secret's entry.",
        )
    return f"s3://{bucket}/{path}"


# -- the service account -----------------------------------------------------------------------


def from_service_account(
    account_name: str,
    annotations: Mapping[str, str],
    around: Surroundings,
    settings: Credentials,
) -> Access:
    """Access by the secrets of a pod's service account, or by the one an annotation names."""
    access = Access()
    account = around.service_accounts.get(account_name)
    key = settings.storage_secret_name_annotation
    override = annotations.get(key) if key else None
    if account is None and not override:
        return access
    marks = (account or {}).get("metadata", {}).get("annotations") or {}
    if _ROLE_ARN in marks:
        access.env.extend(_s3_settings({}, marks, settings.s3))
    listed = [override] if override else [s["name"] for s in (account or {}).get("secrets") or ()]
    for name in listed:
        secret = around.secrets.get(name)
        if secret is None:
            listed_by = (
                f"the annotation {key}" if override else f"the service account `{account_name}`"
            )
            raise MissingObject(
                f"The secret `{name}` that {listed_by} names does not exist.",
                fix=f"Create the secret `{name}`, or take it out of there.",
            )
        _add_secret(access, secret, settings)
    return access


def _add_secret(access: Access, secret: Object, settings: Credentials) -> None:
    """The first key that is known decides what a secret is for."""
    keys = secret_keys(secret)
    for known, rule in _secret_rules(settings):
        if known in keys:
            rule(access, secret)
            return


def _secret_rules(
    settings: Credentials,
) -> list[tuple[str, Callable[[Access, Object], None]]]:
    def s3(access: Access, secret: Object) -> None:
        _add_s3(access, secret, settings.s3)

    def gcs(access: Access, secret: Object) -> None:
        file_name = settings.gcs.gcs_credential_file_name
        _mount(access, secret, "user-gcp-sa", _GCS_FOLDER)
        access.env.append(
            {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": f"{_GCS_FOLDER}{file_name}"}
        )

    return [
        (settings.s3.secret_access_key_name, s3),
        (settings.gcs.gcs_credential_file_name, gcs),
        ("AZ_CLIENT_ID", _add_azure),
        ("AZURE_CLIENT_ID", _add_azure),
        ("AZURE_ACCESS_TOKEN", _add_azure),
        ("AZURE_STORAGE_ACCESS_KEY", _add_same("AZURE_STORAGE_ACCESS_KEY")),
        ("https-host", _add_https),
        ("HDFS_NAMENODE", lambda access, secret: _mount(
            access, secret, "hdfs-secrets", _HDFS_FOLDER
        )),
        ("HF_TOKEN", _add_same("HF_TOKEN")),
        ("MODELSCOPE_API_TOKEN", _add_same("MODELSCOPE_API_TOKEN")),
    ]  # fmt: skip


def _add_same(key: str) -> Callable[[Access, Object], None]:
    def add(access: Access, secret: Object) -> None:
        access.env.append(_from_secret(key, secret["metadata"]["name"], key))

    return add


def _add_s3(access: Access, secret: Object, settings: S3Credentials) -> None:
    name = secret["metadata"]["name"]
    access.env += [
        _from_secret("AWS_ACCESS_KEY_ID", name, settings.access_key_id_name),
        _from_secret("AWS_SECRET_ACCESS_KEY", name, settings.secret_access_key_name),
    ]
    marks = secret["metadata"].get("annotations") or {}
    access.env += _s3_settings(secret, marks, settings)


def _s3_settings(secret: Object, marks: Mapping[str, str], settings: S3Credentials) -> list[Tree]:
    """Per setting: the annotation, else the secret's key, else the ConfigMap."""

    def pick(mark: str, key: str, configured: str) -> str:
        return marks.get(f"{SERVING}/s3-{mark}") or secret_text(secret, key) or configured

    env = _s3_endpoint(
        pick("endpoint", "S3_ENDPOINT", settings.endpoint),
        pick("usehttps", "S3_USE_HTTPS", settings.use_https),
    )
    for name, mark, configured in (
        ("S3_VERIFY_SSL", "verifyssl", settings.verify_ssl),
        ("awsAnonymousCredential", "useanoncredential", settings.use_anonymous_credential),
        ("AWS_DEFAULT_REGION", "region", settings.region),
        ("S3_USER_VIRTUAL_BUCKET", "usevirtualbucket", settings.use_virtual_bucket),
        ("S3_USE_ACCELERATE", "useaccelerate", settings.use_accelerate),
        ("AWS_CA_BUNDLE", "cabundle", settings.ca_bundle),
        (CA_BUNDLE_CONFIG_MAP, "cabundle-configmap", settings.ca_bundle_config_map),
    ):
        value = pick(mark, name, configured)
        if value:
            env.append({"name": name, "value": value})
    return env


def _s3_endpoint(endpoint: str, use_https: str) -> list[Tree]:
    if not endpoint:
        return [{"name": "S3_USE_HTTPS", "value": use_https}] if use_https else []
    scheme, separator, host = endpoint.partition("://")
    if separator:
        use_https = "0" if scheme == "http" else "1"
    else:
        host, scheme = endpoint, "http" if use_https == "0" else "https"
    env = [{"name": "S3_USE_HTTPS", "value": use_https}] if use_https else []
    return [
        *env,
        {"name": "S3_ENDPOINT", "value": host},
        {"name": "AWS_ENDPOINT_URL", "value": f"{scheme}://{host}"},
    ]


def _add_azure(access: Access, secret: Object) -> None:
    name, keys = secret["metadata"]["name"], secret_keys(secret)
    for variable, legacy in _AZURE.items():
        key = variable if variable in keys or not legacy else legacy
        if key in keys or variable == "AZURE_TENANT_ID":
            access.env.append(_from_secret(variable, name, key, optional=key not in keys))


def _add_https(access: Access, secret: Object) -> None:
    host = secret_text(secret, "https-host")
    headers = secret_text(secret, "headers").rstrip("\n")
    access.env.append({"name": f"{host}-headers", "value": headers})


def _mount(access: Access, secret: Object, volume: str, folder: str) -> None:
    access.volumes.append({"name": volume, "secret": {"secretName": secret["metadata"]["name"]}})
    access.mounts.append({"name": volume, "mountPath": folder, "readOnly": True})


def _from_secret(variable: str, secret: str, key: str, *, optional: bool = False) -> Tree:
    reference: Tree = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}
