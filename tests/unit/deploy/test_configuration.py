"""What is rendered for each target, held against the schema of the system that is to read it."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path
from typing import Any

import botocore.session
import dask
import jsonschema
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64, Platform
from imagesync.deploy.configuration import TARGETS, Shape, make_shape, render_configuration
from imagesync.errors import RenderError, UsageError
from imagesync.image.templates import build_files_digest, shipped_templates
from tests.commands import CommandLine
from tests.documented_values import documented_values
from tests.host_platform import NEEDS_OWN_SYSTEM

HEX = "0123456789" * 6 + "abcd"
IMAGE = f"registry.example.com:5000/team/env@sha256:{HEX}"
ECR = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/env@sha256:{HEX}"
SHAPE = Shape("berries", workers=3, threads=2, memory=6000)


def render(
    target: str,
    *,
    image: str = IMAGE,
    shape: Shape = SHAPE,
    pull_secret: str | None = None,
    templates: Path | None = None,
    platform: Platform = LINUX_AMD64,
) -> str:
    return render_configuration(
        TARGETS[target],
        image=image,
        shape=shape,
        pull_secret=pull_secret,
        templates=templates,
        platform=platform,
    )


def images(value: object) -> list[str]:
    """Return all that stands under a key like ``image``, charts' two parts put together as charts do it."""
    if isinstance(value, list):
        return [image for entry in value for image in images(entry)]
    if not isinstance(value, dict):
        return []
    if "tag" in value:
        return [f"{value.get('repository') or value.get('name')}:{value['tag']}"]
    own = [entry for key, entry in value.items() if key in {"image", "container"} and isinstance(entry, str)]
    return own + [image for entry in value.values() for image in images(entry)]


def test_every_cluster_template_belongs_to_a_target() -> None:
    there = {path.name for path in (shipped_templates() / "cluster").iterdir()}
    assert there == {Path(target.template).name for target in TARGETS.values()}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("secret", [None, "regcred"])
def test_configuration_names_the_image_by_its_digest(target: str, secret: str | None) -> None:
    text = render(target, pull_secret=secret)
    if target == "apptainer":
        assert f"apptainer pull berries.sif docker://{IMAGE}\n" in text
    else:
        named = [image for document in yaml.safe_load_all(text) for image in images(document)]
        assert set(named) == {IMAGE}
    # Nobody's eyes are offended by what a template left.
    assert "\n\n\n" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def strict(schema: Any) -> Any:
    """Return a schema of a custom resource that refuses what Kubernetes would silently drop."""
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.fixture(scope="module")
def dask_cluster() -> Validator:
    """Return a validator by the schema of a DaskCluster that dask-kubernetes ships."""
    spec = importlib.util.find_spec("dask_kubernetes")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "operator/deployment/helm/dask-kubernetes-operator"
    definition = yaml.safe_load((folder / "crds" / "daskcluster.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    # These are every resource's; the definition leaves them out.
    for field in ("apiVersion", "kind", "metadata"):
        schema["properties"][field] = {}
    validator = validator_for(schema)
    validator.check_schema(schema)  # takes seconds
    return validator(schema)


@pytest.mark.parametrize("secret", [None, "regcred"])
def test_dask_operator_configuration_satisfies_its_schema(
    dask_cluster: Validator, secret: str | None
) -> None:
    resource = yaml.safe_load(render("dask-operator", pull_secret=secret))
    dask_cluster.validate(resource)
    assert (resource["apiVersion"], resource["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    resource["spec"]["worker"]["spec"]["containers"][0]["imge"] = IMAGE
    with pytest.raises(jsonschema.ValidationError, match="imge"):
        dask_cluster.validate(resource)


def test_dask_operator_configuration_equals_that_of_dask_kubernetes() -> None:
    from dask_kubernetes.operator import make_cluster_spec

    rendered = yaml.safe_load(render("dask-operator"))["spec"]
    reference = make_cluster_spec("berries", image=IMAGE, n_workers=3)["spec"]
    assert rendered["scheduler"]["service"] == reference["scheduler"]["service"]
    assert rendered["worker"]["replicas"] == reference["worker"]["replicas"]
    for role in ("scheduler", "worker"):
        ((mine,), (other,)) = (spec[role]["spec"]["containers"] for spec in (rendered, reference))
        for container in (mine, other):
            # dask-worker is what `dask worker` was called once; only our configuration has sizes.
            container["args"] = " ".join(container["args"]).replace("dask-", "dask ")
            container.pop("resources", None)
            container.pop("env", None)
        assert mine["args"].startswith(other.pop("args"))
        mine.pop("args")
        assert mine == other


@pytest.mark.parametrize("secret", [None, "regcred"])
@pytest.mark.parametrize("version", ["1.25", "1.33"])
def test_kubernetes_configuration_satisfies_the_api_schema(version: str, secret: str | None) -> None:
    resources = list(yaml.safe_load_all(render("kubernetes", pull_secret=secret)))
    assert [resource["kind"] for resource in resources] == ["Service", "Deployment", "Deployment"]
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)
    service, scheduler, worker = resources
    for deployment in (scheduler, worker):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"] == scheduler["spec"]["selector"]["matchLabels"]
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    assert f"tcp://{service['metadata']['name']}:8786" in container["args"]
    container["imge"] = IMAGE
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker, version, strict=True)


@pytest.mark.parametrize("secret", [None, "regcred"])
def test_kubernetes_job_satisfies_the_api_schema(secret: str | None) -> None:
    job = yaml.safe_load(render("kubernetes-job", pull_secret=secret))
    kubernetes_validate.validate(job, "1.33", strict=True)
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (3, 3)


@NEEDS_OWN_SYSTEM
def test_slurm_jobs_run_workers_in_the_apptainer_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its import sets a handler, which would be that of all later tests.
    before = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, before)
    # There is no Slurm here that would take the jobs.
    monkeypatch.setattr(SLURMCluster, "scale", lambda self, jobs: setattr(self, "jobs", jobs))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with dask.config.set({"jobqueue.slurm.scheduler-options": {"dashboard_address": ":0"}}):
        exec(compile(render("apptainer"), "apptainer.py", "exec"), names)
    with names["cluster"] as cluster:
        assert cluster.jobs == 3
        script = cluster.job_script()
    image = f"'{tmp_path}/berries.sif'"
    assert f"apptainer exec --env PYTHONNOUSERSITE=1 {image} python -m distributed.cli.dask_worker" in script
    assert "--nthreads 2" in script
    assert "#SBATCH --mem=6G" in script


def test_ecs_task_definitions_name_the_processor_of_the_image() -> None:
    for platform, name in ((LINUX_AMD64, "X86_64"), (LINUX_ARM64, "ARM64")):
        for definition in json.loads(render("ecs", platform=platform)):
            assert definition["runtimePlatform"]["cpuArchitecture"] == name


@pytest.mark.parametrize("image", [IMAGE, ECR])
def test_ecs_task_definitions_satisfy_the_api_model(image: str) -> None:
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    definitions = json.loads(render("ecs", image=image))
    assert [definition["family"] for definition in definitions] == ["berries-scheduler", "berries-worker"]
    for definition in definitions:
        assert not ParamValidator().validate(definition, shape).has_errors()
        # Fargate pulls from its own account's registry, and writes logs, with a role only.
        assert ("executionRoleArn" in definition) is (image == ECR)
    assert (definitions[1]["cpu"], definitions[1]["memory"]) == ("2048", "6144")
    definitions[1]["imge"] = image
    assert ParamValidator().validate(definitions[1], shape).has_errors()


def test_worker_too_large_for_fargate_is_refused() -> None:
    with pytest.raises(RenderError, match="Fargate has no task with 32 CPUs"):
        render("ecs", shape=Shape("dask", workers=1, threads=32, memory=4096))


def test_user_template_replaces_the_shipped_one(tmp_path: Path) -> None:
    before = build_files_digest(tmp_path)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "coiled.yaml.j2").write_text(
        '{% include "imagesync/cluster/coiled.yaml.j2" %}\n  region: eu-west-1\n'
    )
    assert yaml.safe_load(render("coiled", templates=tmp_path)) == {
        "coiled": {"container": IMAGE, "region": "eu-west-1"}
    }
    # It shapes no image, and so it leads to no other one.
    assert build_files_digest(tmp_path) == before
    (tmp_path / "cluster" / "ecs.json.j2").write_text("[{]")
    with pytest.raises(RenderError, match=r"ecs\.json\.j2 doesn't give JSON"):
        render("ecs", templates=tmp_path)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [("4GiB", 4096), ("4g", 3814), ("4000MB", 3814), ("536870912", 512), ("1.5 TiB", 1572864)],
)
def test_memory_sizes_are_converted_to_mebibytes(memory: str, expected: int) -> None:
    assert make_shape(name="dask", workers=1, threads=1, memory=memory).memory == expected


@pytest.mark.parametrize(
    "wrong", [{"memory": "much"}, {"memory": "0"}, {"name": "My cluster"}, {"name": "-x"}, {"name": "a" * 41}]
)
def test_invalid_name_or_memory_of_a_cluster_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        make_shape(**{"name": "dask", "workers": 1, "threads": 1, "memory": "4GiB", **wrong})


def test_config_command_writes_a_file(cli: CommandLine) -> None:
    printed = cli("cluster", "config", "coiled", "--image", IMAGE)
    assert yaml.safe_load(printed.stdout) == {"coiled": {"container": IMAGE}}
    written = cli("cluster", "config", "coiled", "--image", IMAGE, "-o", "coiled.yaml")
    assert written.stdout == "coiled.yaml\n"
    assert (cli.cwd / "coiled.yaml").read_text() == printed.stdout


def test_config_command_updates_a_file(cli: CommandLine) -> None:
    path = cli.cwd / "dask.yaml"
    text = f'a:  1 # one\nimage: "registry.example.com:5000/team/env:old"   # ours\nb:\n    - {HEX}\n'
    path.write_bytes(text.replace("\n", "\r\n").encode())
    updated = cli("cluster", "config", "kubernetes", "--image", IMAGE, "--update", "dask.yaml")
    assert updated.stdout == f"{IMAGE}\n"
    after = text.replace("registry.example.com:5000/team/env:old", IMAGE)
    assert path.read_bytes() == after.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--update", "missing.yaml"), "can't read missing.yaml"),
        (("--update", "latin.yaml"), "latin.yaml isn't UTF-8"),
        (
            ("--update", "other.yaml"),
            "has no image registry.example.com:5000/team/env; it has daskdev/dask:1",
        ),
        (("--update", "broken.yaml"), "broken.yaml, line 2: it is neither YAML nor JSON"),
        (("--replacing", "x"), "--replacing needs --update"),
        (("--update", "other.yaml", "-o", "x"), "can't be combined with --output-file"),
        (("--image", "no reference"), "'no reference' isn't an image reference"),
        (("--memory-limit", "much"), "memory can't be 'much'"),
    ],
)
def test_config_command_refuses_invalid_arguments(
    cli: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    (cli.cwd / "latin.yaml").write_bytes("image: ö\n".encode("latin-1"))
    (cli.cwd / "other.yaml").write_text("image: daskdev/dask:1\n")
    (cli.cwd / "broken.yaml").write_text("a: [1\nb: }\n")
    if "--image" not in arguments:
        arguments = ("--image", IMAGE, *arguments)
    refused = cli.run("cluster", "config", "kubernetes", *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (cli.cwd / "other.yaml").read_text() == "image: daskdev/dask:1\n"


def test_documented_values_of_templates_are_there(tmp_path: Path) -> None:
    used = documented_values("Clusters", attributes_of=("shape", "aws", "target"))
    assert {"image", "shape.fargate()", "target.use", "aws.region"} <= set(used)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "coiled.yaml.j2").write_text("".join(f"{{{{ {name} }}}}\n" for name in used))
    assert render("coiled", image=ECR, templates=tmp_path)
