"""The part of KubeRay's RayJob that the manifest uses, written down from its API reference (ray.io/v1, 1.5 and 1.6).

Field names and types only, and nothing that the manifest does not use: an unknown or misspelt field is an error here,
as it is to the operator's own schema, which is too large to keep beside this.
"""

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def fields(required: tuple[str, ...] = (), **known: Schema) -> Schema:
    """Return the schema of an object that has these fields and no others."""
    return {"type": "object", "properties": known, "required": list(required), "additionalProperties": False}


def several(one: Schema) -> Schema:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "items": one, "minItems": 1}


SECRET_KEY = fields(("name", "key"), name=TEXT, key=TEXT)
FIELD = fields(("fieldPath",), fieldPath=TEXT)
VARIABLE = fields(
    ("name",), name=TEXT, value=TEXT, valueFrom=fields(secretKeyRef=SECRET_KEY, fieldRef=FIELD)
) | {"oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}]}  # fmt: skip
MOUNT = fields(("name", "mountPath"), name=TEXT, mountPath=TEXT, readOnly=FLAG)
LOCKED = fields(
    ("allowPrivilegeEscalation", "readOnlyRootFilesystem"),
    allowPrivilegeEscalation=FLAG,
    readOnlyRootFilesystem=FLAG,
    capabilities=fields(drop=several(TEXT)),
)
CONTAINER = fields(
    ("name", "image", "resources", "securityContext", "volumeMounts"),
    name=TEXT,
    image=TEXT,
    command=several(TEXT),
    env=several(VARIABLE),
    resources=fields(("requests", "limits"), requests=TEXTS, limits=TEXTS),
    securityContext=LOCKED,
    volumeMounts=several(MOUNT),
)
VOLUME = fields(
    ("name",), name=TEXT, emptyDir=fields(medium=TEXT, sizeLimit=TEXT), secret=fields(("secretName",), secretName=TEXT)
)
POD = fields(
    ("containers",),
    serviceAccountName=TEXT,
    restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
    securityContext=fields(
        runAsNonRoot=FLAG, runAsUser=COUNT, fsGroup=COUNT, seccompProfile=fields(("type",), type=TEXT)
    ),
    tolerations=several(fields(key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect=TEXT)),
    volumes=several(VOLUME),
    initContainers=several(CONTAINER),
    containers=several(CONTAINER),
)
TEMPLATE = fields(("metadata", "spec"), metadata=fields(("labels",), labels=TEXTS), spec=POD)
HEAD_GROUP = fields(("template",), rayStartParams=TEXTS, template=TEMPLATE)
WORKER_GROUP = fields(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = fields(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=fields(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=fields(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        env=several(VARIABLE),
        securityContext=LOCKED,
        volumeMounts=several(MOUNT),
    ),
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs=several(WORKER_GROUP),
)
RAY_JOB = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields(("name",), name=TEXT),
    spec=fields(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        activeDeadlineSeconds=COUNT,
        backoffLimit=COUNT,
        rayClusterSpec=CLUSTER,
    ),
)
