"""The files for Kubernetes, held against the schemas of Kubernetes and KubeRay, and against the code.

Nothing is applied: that needs a cluster.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from daemon.errors import SettingsError
from daemon.ipc import health
from daemon.settings import Settings
from daemon.tokens import Rights, new_token
from sidecar.auth import Guard
from tests.system.running import ROOT, environment

CLUSTER = ROOT / "deploy" / "cluster"
DOCKERFILES = ROOT / "deploy" / "docker"
SCHEMA = ROOT / "tests" / "kuberay" / "raycluster.schema.json"
KUSTOMIZATION = yaml.safe_load((CLUSTER / "kustomization.yaml").read_text())
UID = 10001
HOME = Path("/var/lib/dropframe")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PART_OF = {"app.kubernetes.io/part-of": "dropframe"}
Object = dict[str, Any]


@cache
def _loaded() -> list[Object]:
    return [each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((CLUSTER / name).read_text())]


def objects() -> list[Object]:
    """Return all that the kustomization applies, but for what it generates."""
    return deepcopy(_loaded())


def of_kind(kind: str) -> list[Object]:
    return [each for each in objects() if each["kind"] == kind]


def named(kind: str, name: str) -> Object:
    return next(each for each in of_kind(kind) if each["metadata"]["name"] == name)


def ray_groups() -> list[Object]:
    (cluster,) = of_kind("RayCluster")
    return [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]


def pod_templates() -> dict[str, Object]:
    head, *workers = ray_groups()
    (deployment,) = of_kind("Deployment")
    found = {"daemon": deployment["spec"]["template"], "head": head["template"]}
    return found | {group["groupName"]: group["template"] for group in workers}


def containers(template: Object) -> list[Object]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def container(name: str) -> Object:
    return next(each for each in containers(pod_templates()["daemon"]) if each["name"] == name)


def all_containers() -> Iterator[tuple[str, Object]]:
    for pod, template in pod_templates().items():
        for each in containers(template):
            yield f"{pod}/{each['name']}", each


def mounts(each: Object) -> dict[str, str]:
    """Return which volume is mounted where."""
    return {mount["mountPath"]: mount["name"] for mount in each["volumeMounts"]}


def claims_of(template: Object) -> set[str]:
    volumes = template["spec"]["volumes"]
    return {each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each}


def ray_version() -> str:
    found = re.search(r"ray\[default\]==([\d.]+)'", (DOCKERFILES / "Dockerfile.cluster").read_text())
    assert found
    return found[1]


# What Kubernetes and KubeRay take


@pytest.mark.parametrize("each", objects(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_an_object_is_what_kubernetes_or_kuberay_takes(each: Object) -> None:
    if each["kind"] == "RayCluster":
        jsonschema.validate(each, json.loads(SCHEMA.read_text()))
    else:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", pod_templates())
def test_a_pod_of_the_ray_cluster_is_what_kubernetes_takes(name: str) -> None:
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": pod_templates()[name]}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("path", [(), ("spec",), ("spec", "authOptions"), ("spec", "workerGroupSpecs", 0)])
def test_the_schema_of_a_ray_cluster_refuses_what_is_misspelt(path: tuple[str | int, ...]) -> None:
    (wrong,) = of_kind("RayCluster")
    place: Any = wrong
    for step in path:
        place = place[step]
    place["rayVersoin"] = "1"
    with pytest.raises(jsonschema.ValidationError, match="rayVersoin"):
        jsonschema.validate(wrong, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("kind", ["Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim"])
def test_the_schemas_of_kubernetes_refuse_what_is_misspelt(kind: str) -> None:
    wrong = of_kind(kind)[0]
    wrong["spec"]["repilcas"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="repilcas"):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_applies_every_file_and_names_every_image() -> None:
    listed = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configMapGenerator"][0]["files"]}
    assert listed | {"kustomization.yaml", "README.md"} == {path.name for path in CLUSTER.iterdir()}
    used = {each["image"] for _, each in all_containers()}
    assert {each["name"] for each in KUSTOMIZATION["images"]} == used
    built = set(re.findall(r"-t (\S+) \.", (DOCKERFILES / "Dockerfile.cluster").read_text()))
    assert built == used


def test_the_image_of_the_nodes_is_dropframe_s_own_with_ray_and_copies_only_what_is_let_through() -> None:
    path = DOCKERFILES / "Dockerfile.cluster"
    bases = re.findall(r"-t (\S+) \.", "\n".join(each.read_text() for each in DOCKERFILES.glob("Dockerfile*")))
    named = re.findall(r"BASE=(\S+)", path.read_text())
    assert sorted(named) == ["dropframe", "dropframe:cuda"]
    assert set(named) <= set(bases)
    copied = re.findall(r"^COPY (\S+) ", path.read_text(), re.MULTILINE)
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    assert [source for source in copied if (ROOT / source).exists() and f"!{source}" in ignored] == copied != []
    assert path.read_text().splitlines()[-1] == f"USER {UID}:{UID}"


@pytest.mark.needs("kubectl")
def test_kustomize_puts_names_of_images_and_settings_everywhere() -> None:
    made = subprocess.run(["kubectl", "kustomize", CLUSTER], capture_output=True, text=True, check=True).stdout
    found = list(yaml.safe_load_all(made))
    assert {each["metadata"].get("namespace", "dropframe") for each in found} == {"dropframe"}
    assert len(re.findall(r"image: registry\.example/dropframe-cluster(?:-cuda)?:", made)) == len([*all_containers()])
    (settings,) = [each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"]
    assert made.count(f"name: {settings}\n") == 2


def test_the_ray_cluster_keeps_the_rules_of_its_operator() -> None:
    """Those of KubeRay's validation.go that no schema knows."""
    (cluster,) = of_kind("RayCluster")
    spec = cluster["spec"]
    assert spec["rayVersion"] == ray_version()
    assert spec["authOptions"]["mode"] == "token"
    assert tuple(map(int, ray_version().split(".")[:2])) >= (2, 53)  # with tokens, and probes without wget
    groups = [group["groupName"] for group in spec["workerGroupSpecs"]]
    assert len(set(groups)) == len(groups)
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
    for group in ray_groups():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


# What a pod may do


@pytest.mark.parametrize("name", pod_templates())
def test_a_pod_is_restricted_as_the_namespace_asks(name: str) -> None:
    """The rules of the pod security standard "restricted", and a read-only root."""
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    template = pod_templates()[name]
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == UID
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "configMap"}
    for each in containers(template):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"memory"} <= set(each["resources"]["limits"]), each["name"]
        assert "/tmp" in mounts(each) or each["name"] == "folders"


def test_a_pod_is_not_told_of_services_whose_names_are_those_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_PORT", "tcp://10.0.0.1:8000")  # what Kubernetes says of a service "dropframe"
    with pytest.raises(SettingsError, match="port"):
        Settings.load()
    for name, template in pod_templates().items():
        assert template["spec"]["enableServiceLinks"] is False, name


def test_only_dropframe_s_own_pods_reach_ray_and_chosen_ones_the_api() -> None:
    pods = named("NetworkPolicy", "dropframe-pods")["spec"]
    assert pods["podSelector"] == {"matchLabels": PART_OF}
    assert set(pods["policyTypes"]) == {"Ingress", "Egress"}
    assert pods["ingress"] == [{"from": [{"podSelector": {"matchLabels": PART_OF}}]}]
    for name, template in pod_templates().items():
        assert PART_OF.items() <= template["metadata"]["labels"].items(), name
    for policy in of_kind("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert rule.get("from"), policy["metadata"]["name"]
    http = named("NetworkPolicy", "dropframe-http")["spec"]
    assert [rule["ports"] for rule in http["ingress"]] == [[{"port": 8000, "protocol": "TCP"}]]
    # Nothing but the head speaks to anybody outside.
    outside = [
        p["metadata"]["name"]
        for p in of_kind("NetworkPolicy")
        if any("to" not in r for r in p["spec"].get("egress", []))
    ]
    assert outside == ["dropframe-autoscaler"]
    assert named("NetworkPolicy", *outside)["spec"]["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"


def test_no_secret_is_in_the_files_and_each_that_is_named_is_made_as_the_text_says() -> None:
    assert of_kind("Secret") == []
    (cluster,) = of_kind("RayCluster")
    used = {(cluster["spec"]["authOptions"]["secretName"], "auth_token")}
    for _, each in all_containers():
        for variable in each.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                used.add((secret["name"], secret["key"]))
    text = (CLUSTER / "README.md").read_text()
    made = re.findall(r"create secret generic (\S+) --from-literal=(\w+)=", text)
    assert set(made) == used


# What the code says


def test_folders_are_where_dropframe_looks_for_them_and_shared_ones_at_one_path() -> None:
    settings = Settings(home=HOME)
    shared = {str(settings.videos_dir): "videos", str(settings.models_dir): "models"}
    daemon = mounts(container("daemon"))
    assert daemon.items() >= shared.items()
    assert daemon[str(settings.data_dir)] == "data"
    assert (daemon[str(settings.inbox_dir)], daemon[str(settings.outbox_dir)]) == ("inbox", "outbox")
    _, *workers = ray_groups()
    for group in workers:
        (worker,) = group["template"]["spec"]["containers"]
        assert mounts(worker) == {"/tmp": "tmp", **shared}
    made = container("folders")["args"]
    assert set(made) == {str(settings.spool_dir), *shared}
    (spool,) = [
        mount for mount in container("sidecar")["volumeMounts"] if mount["mountPath"] == str(settings.spool_dir)
    ]
    assert spool == {"name": "data", "mountPath": str(settings.spool_dir), "subPath": "spool"}
    writable = [mount["mountPath"] for mount in container("sidecar")["volumeMounts"] if not mount.get("readOnly")]
    assert set(writable) == {str(settings.spool_dir), "/tmp"}


def test_each_claim_is_used_and_the_job_store_is_on_a_volume_of_one_node() -> None:
    claims = {each["metadata"]["name"]: each["spec"]["accessModes"] for each in of_kind("PersistentVolumeClaim")}
    users = {claim: [pod for pod, t in pod_templates().items() if claim in claims_of(t)] for claim in claims}
    assert set().union(*map(claims_of, pod_templates().values())) == set(claims)
    assert users.pop("dropframe-data") == ["daemon"]
    assert claims.pop("dropframe-data") == ["ReadWriteOnce"]
    assert all(users.values())
    assert set(map(tuple, claims.values())) == {("ReadWriteMany",)}
    (deployment,) = of_kind("Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("name", ["daemon", "sidecar"])
def test_a_container_runs_a_command_that_exists(name: str) -> None:
    command, *flags = container(name)["args"]
    said = subprocess.run(
        [sys.executable, "-m", "daemon", command, "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [flag for flag in flags if flag.startswith("--") and flag not in said] == []


def test_the_daemon_is_ready_when_health_says_so() -> None:
    assert container("daemon")["readinessProbe"]["exec"]["command"] == ["dropframe", "health"]
    (service,) = of_kind("Service")
    assert service["spec"]["publishNotReadyAddresses"] is True  # the page says what is wrong


@pytest.mark.needs("find")
@pytest.mark.parametrize(
    ("probe", "age_seconds", "is_well"),
    [
        ("startupProbe", None, False),
        ("startupProbe", 20, False),  # of a process before this one, when it is first asked
        ("startupProbe", 1, True),
        ("livenessProbe", 1, True),
        ("livenessProbe", 90, True),
        ("livenessProbe", 240, False),
    ],
)
def test_a_daemon_is_up_with_its_heartbeat_and_is_started_again_when_that_stands_still(
    tmp_path: Path, probe: str, age_seconds: float | None, is_well: bool
) -> None:
    beat = tmp_path / health.NAME
    if age_seconds is not None:
        beat.touch()
        then = time.time() - age_seconds
        os.utime(beat, (then, then))
    command = container("daemon")[probe]["exec"]["command"]
    here = [part.replace(str(HOME / "data"), str(tmp_path)) for part in command]
    assert here != command
    assert (subprocess.run(here, stderr=subprocess.DEVNULL).returncode == 0) is is_well


def test_the_sidecar_answers_its_probe_without_a_token_whatever_its_names_are() -> None:
    probe = container("sidecar")["livenessProbe"]["httpGet"]
    _, token = new_token("somebody", Rights.READ)
    guard = Guard(Settings(host="0.0.0.0", tokens=[str(token)], allowed_hosts=["dropframe.example.org"]))
    headers = {header["name"].lower().encode(): header["value"].encode() for header in probe["httpHeaders"]}
    assert guard.check("GET", headers, probe["path"]) == ""


def test_the_service_leads_to_the_port_of_the_sidecar() -> None:
    (service,), (deployment,) = of_kind("Service"), of_kind("Deployment")
    (port,) = container("sidecar")["ports"]
    assert port["containerPort"] == service["spec"]["ports"][0]["port"] == Settings.model_fields["port"].default
    assert port["name"] == service["spec"]["ports"][0]["targetPort"] == "http"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    for _, template in list(pod_templates().items())[1:]:
        assert not service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_the_daemon_and_the_node_beside_it_find_each_other_and_the_head() -> None:
    (cluster,) = of_kind("RayCluster")
    address = f"{cluster['metadata']['name']}-head-svc:6379"  # as KubeRay calls it
    settings = tomllib.loads((CLUSTER / "dropframe.toml").read_text())
    assert settings["cluster_address"] == address
    assert container("ray")["args"][0].count(address) == 2
    assert "--num-cpus=0 --num-gpus=0" in container("ray")["args"][0]
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert pod_templates()["daemon"]["spec"]["shareProcessNamespace"] is True
    beside = mounts(container("daemon"))
    for path in ("/tmp/ray", "/dev/shm"):
        assert beside[path] == mounts(container("ray"))[path]
    for name in ("daemon", "ray"):
        variables = {variable["name"] for variable in container(name)["env"]}
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"} <= variables


def test_settings_in_the_files_are_settings() -> None:
    known = {f"DROPFRAME_{name.upper()}" for name in Settings.model_fields} | {"DROPFRAME_CONFIG"}
    for name, each in all_containers():
        variables = {variable["name"] for variable in each.get("env", [])}
        assert {variable for variable in variables if variable.startswith("DROPFRAME_")} <= known, name
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    for name in ("daemon", "sidecar"):
        (config,) = [v["value"] for v in container(name)["env"] if v["name"] == "DROPFRAME_CONFIG"]
        (folder,) = [path for path, volume in mounts(container(name)).items() if volume == "settings"]
        assert config == f"{folder}/{generated['files'][0]}"


def test_the_settings_load_and_each_group_has_room_for_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_CONFIG", str(CLUSTER / "dropframe.toml"))
    settings = Settings.load().model_dump()
    assert (settings["executor"], settings["device"]) == ("cluster", "cpu")
    _, cpu, gpu = ray_groups()
    for group, needs in ((cpu, {"cpu": 2}), (gpu, {"cpu": 1, "nvidia.com/gpu": 1})):
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for name, number in needs.items():
            assert group["maxReplicas"] * int(limits[name]) >= number * settings["workers"], group["groupName"]


def test_all_pods_have_a_version_of_ray_that_is_supported() -> None:
    (wanted,) = [each for each in map(Requirement, EXTRAS["cluster"]) if each.name == "ray"]
    assert ray_version() in wanted.specifier
