"""What clusters use of Dask's private parts, in the oldest supported ``distributed`` and the newest."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from distributed.deploy import cluster, spec

import imagesync
from imagesync.cluster import dask_cluster
from tests.environments import make_environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
USED = {
    "_adaptive": "stopped when the cluster closes",
    "_close": "overridden: containers are removed whatever has failed before",
    "_cluster": "leads from a worker to its cluster",
    "_correct_state": "starts the workers that the specification has and the cluster hasn't",
    "_correct_state_internal": "overridden: results of retired workers are kept, and their names may return",
    "_correct_state_waiting": "is the change that has yet to look at the specification",
    "_created": "has each worker that was made",
    "_futures": "are awaited when the cluster closes",
    "_instances": "of Client: has the clients of this process",
    "_lock": "is held while workers are started and ended",
    "_loop_runner": "has the event loop and its thread",
    "_start": "overridden: scheduler and workers are started at once",
    "_update_worker_status": "overridden: says who has joined and who has left",
    "_watch_worker_status": "overridden: ends with the connection to the scheduler",
}


def test_one_module_uses_what_is_private_to_dask() -> None:
    """A name of another module that Dask has, too, would replace Dask's."""
    sources = [inspect.getsource(module) for module in (cluster, spec)]
    theirs = {name for source in sources for name in re.findall(r"(?:\.|def )(_[a-z]\w*)", source)}
    classes = {*imagesync.DockerCluster.__mro__, *imagesync.SwarmCluster.__mro__}
    modules = {each.__module__ for each in classes if each.__module__.startswith("imagesync")}
    used = {name: names_of(name) & theirs for name in modules}
    assert used.pop(dask_cluster.__name__) == set(USED)
    assert set().union(*used.values()) == set()


def names_of(module: str) -> set[str]:
    """Return the names of attributes and functions that a module has or uses."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(sys.modules[module]))))
    # `hasattr` names an attribute by text.
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    functions = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    return texts | attributes | functions


@pytest.mark.parametrize("version", ["oldest", "newest"])
def test_dask_has_what_is_used(version: str, tmp_path: Path) -> None:
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    (requirement,) = (each for each in extras["dask"] if each.startswith("distributed"))
    wanted = requirement.replace(">=", "==") if version == "oldest" else "distributed"
    environment = make_environment(tmp_path / "env", packages=[wanted], python=sys.executable)
    environment.run(
        "-W", "error", Path(__file__).with_name("dask_contract.py"), Path(dask_cluster.__file__).parent
    )
