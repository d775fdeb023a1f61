"""Certificate authorities of object stores, copied to where init containers can mount them.

The configured ConfigMap is in Kedge's own namespace; pods can mount only what is in theirs.
"""

from __future__ import annotations

from kedge.api.scheme import CONFIG_MAP
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.controllers.inferenceservice.errors import MissingObject
from kedge.controllers.inferenceservice.storage.inject import GLOBAL_CA_BUNDLE
from kedge.settings.serving import ServingConfig

_KEY = "cabundle.crt"


async def copy_ca_bundle(
    cluster: Cluster, config: ServingConfig, home: str, namespace: str
) -> None:
    """Bring the configured bundle to `namespace`, if one is configured.

    Args:
        home: the namespace of the configuration.

    Raises:
        MissingObject: the configured ConfigMap, or its key, is not there.
    """
    name = config.storage_initializer.ca_bundle_config_map_name
    if not name or namespace == home:
        return
    try:
        source = await cluster.get(CONFIG_MAP, name, home)
    except NotFound:
        source = {}
    text = (source.get("data") or {}).get(_KEY)
    if not text:
        what = f"has no key `{_KEY}`" if source else "does not exist"
        raise MissingObject(
            f"The ConfigMap `{name}` with certificate authorities {what} in namespace `{home}`.",
            fix=f"kubectl create configmap {name} -n {home} --from-file={_KEY}=FILE, or take"
            " `caBundleConfigMapName` out of the ConfigMap inferenceservice-config, key"
            " `storageInitializer`.",
        )
    copied: Object = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {"name": GLOBAL_CA_BUNDLE, "namespace": namespace},
        "data": {_KEY: text},
    }
    await cluster.apply(CONFIG_MAP, copied)
