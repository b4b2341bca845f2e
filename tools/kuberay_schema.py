"""Make the JSON schema of a RayCluster that tests hold ``deploy/cluster`` against.

``python -m tools.kuberay_schema VERSION CRD.yaml > tests/kuberay/raycluster.schema.json``, where the CRD is
``ray-operator/config/crd/bases/ray.io_rayclusters.yaml`` of a release of KubeRay. A megabyte becomes some kilobytes:
left out are descriptions, what the operator writes (``status``), and what pods are made of, which is checked as that of
any pod. Unknown fields are refused, which Kubernetes drops without a word.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

COMMENT = (
    "Made by tools/kuberay_schema.py from the RayCluster CRD of KubeRay {version}, copyright by its authors, under the "
    "Apache License 2.0 beside this file: shortened, and changed so that unknown fields are refused."
)
POD_TEMPLATES = frozenset({"template"})
KEPT = ("type", "enum", "format", "minimum", "maximum", "minLength", "maxLength", "pattern", "required", "minItems")


def trimmed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what of an OpenAPI schema is checked, as JSON schema."""
    found: dict[str, Any] = {name: schema[name] for name in KEPT if name in schema}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "items" in schema:
        found["items"] = trimmed(schema["items"])
    if "properties" in schema:
        found["properties"] = {
            name: {"type": "object"} if name in POD_TEMPLATES else trimmed(each)
            for name, each in schema["properties"].items()
        }
        found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = trimmed(schema["additionalProperties"])
    return found


def main(version: str, crd: Path) -> None:
    """Print the schema."""
    versions = yaml.safe_load(crd.read_text())["spec"]["versions"]
    whole = next(each for each in versions if each["name"] == "v1")["schema"]["openAPIV3Schema"]
    del whole["properties"]["status"]
    metadata = {"metadata": {"type": "object"}}
    schema = trimmed(whole)
    schema["properties"] |= metadata
    print(json.dumps({"$comment": COMMENT.format(version=version)} | schema, separators=(",", ":")))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
