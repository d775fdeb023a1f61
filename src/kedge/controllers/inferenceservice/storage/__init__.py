"""How a model's files get into its pod: volumes, mounts and init containers, written into the pod.

Pure: a pod's spec, the model's sources and the objects around it in, the same spec with storage
out. KServe does this in a pod webhook; Kedge does it here, so pods need no webhook and a template
shows all that will run. Bringing the files themselves is the work of `kedge.storage`, inside the
init container.
"""
