"""The targets of configurations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A system that starts containers.

    Parameters
    ----------
    name
        Name on the command line.
    what
        Short description of the configuration.
    template
        Path below the folder of templates.
    use
        Command that applies the configuration in ``FILE``.
    local
        Whether it can start an image that is only in the local engine.
    """

    name: str
    what: str
    template: str
    use: str
    local: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target(
            "dask-operator",
            "a DaskCluster of the Dask operator for Kubernetes",
            "cluster/dask-operator.yaml.j2",
            "kubectl apply -f FILE",
        ),
        Target(
            "kubernetes",
            "Deployments and a Service",
            "cluster/kubernetes.yaml.j2",
            "kubectl apply -f FILE",
        ),
        Target(
            "compose",
            "a Compose file for one machine",
            "cluster/compose.yaml.j2",
            "docker compose -f FILE up -d",
            local=True,
        ),
        Target(
            "swarm-stack",
            "a stack of Docker Swarm",
            "cluster/swarm-stack.yaml.j2",
            "docker stack deploy --with-registry-auth -c FILE NAME",
            local=True,
        ),
        Target(
            "dask-gateway",
            "values of the Helm chart of Dask Gateway",
            "cluster/dask-gateway.yaml.j2",
            "helm upgrade --install --repo https://helm.dask.org RELEASE dask-gateway --values FILE",
        ),
        Target(
            "helm-dask",
            "values of the Helm chart of Dask",
            "cluster/helm-dask.yaml.j2",
            "helm upgrade --install --repo https://helm.dask.org RELEASE dask --values FILE",
        ),
        Target(
            "ecs",
            "task definitions of Amazon ECS on Fargate",
            "cluster/ecs.json.j2",
            "aws ecs register-task-definition --cli-input-json ...",
        ),
        Target(
            "coiled",
            "a configuration file of Coiled",
            "cluster/coiled.yaml.j2",
            "cp FILE ~/.config/dask/coiled.yaml",
        ),
        Target("ray", "a cluster of Ray's launcher", "cluster/ray.yaml.j2", "ray up FILE"),
        Target("prefect", "deployments of Prefect", "cluster/prefect.yaml.j2", "prefect deploy --all"),
    )
}
