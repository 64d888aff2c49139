"""The configuration of an image: what a container of it gets, and the history of its layers.

Source: the OCI image specification 1.1, "Image Configuration".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imagesync.registry.manifest import canonical_json, is_digest, parse_json

_LISTS: Final = {"env": "Env", "entrypoint": "Entrypoint", "cmd": "Cmd"}
_TEXTS: Final = {"user": "User", "working_dir": "WorkingDir", "stop_signal": "StopSignal"}
_SETS: Final = {"exposed_ports": "ExposedPorts", "volumes": "Volumes"}


@dataclass(frozen=True)
class ContainerConfig:
    """The defaults of a container.

    Parameters
    ----------
    env
        ``NAME=value`` each.
    entrypoint, cmd
        The command: *cmd* follows *entrypoint*.
    user
        Such as ``1000:1000``.
    working_dir
        Its first folder.
    labels
        Texts by name.
    exposed_ports
        Such as ``8786/tcp``.
    volumes
        Paths.
    stop_signal
        Such as ``SIGTERM``.
    other
        Fields that only Docker knows, such as ``Healthcheck``, as they stand in the document.
    """

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables by name."""
        return dict(entry.partition("=")[::2] for entry in self.env)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, without fields that are empty."""
        found: dict[str, Any] = dict(self.other)
        found |= {key: list(getattr(self, name)) for name, key in _LISTS.items()}
        found |= {key: getattr(self, name) for name, key in _TEXTS.items()}
        found |= {key: {entry: {} for entry in getattr(self, name)} for name, key in _SETS.items()}
        found["Labels"] = dict(self.labels)
        return {key: value for key, value in found.items() if value or key in self.other}


@dataclass(frozen=True)
class History:
    """One step of an image's history.

    Parameters
    ----------
    created
        RFC 3339, or empty.
    created_by
        The command, or what made the layer.
    comment
        Any text.
    empty_layer
        Whether the step made no layer.
    """

    created: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, without fields that are empty."""
        fields = {
            "created": self.created,
            "created_by": self.created_by,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {key: value for key, value in fields.items() if value}


@dataclass(frozen=True)
class ImageConfig:
    """The configuration of an image.

    Parameters
    ----------
    platform
        Such as ``linux/amd64`` or ``linux/arm64/v8``.
    diff_ids
        The digests of the uncompressed layers, from the base up.
    container
        The defaults of a container.
    history
        Steps, those without a layer among them.
    created
        RFC 3339, or empty.
    author
        Any text.
    """

    platform: str
    diff_ids: tuple[str, ...] = ()
    container: ContainerConfig = ContainerConfig()
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""

    def to_json(self) -> bytes:
        """Return the configuration in canonical JSON."""
        system, architecture, *variant = self.platform.split("/")
        document: dict[str, Any] = {
            "os": system,
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
            "config": self.container.to_dict(),
        }
        if variant:
            document["variant"] = variant[0]
        if self.history:
            document["history"] = [step.to_dict() for step in self.history]
        for key in ("created", "author"):
            if value := getattr(self, key):
                document[key] = value
        return canonical_json(document)


def parse_config(content: bytes) -> ImageConfig:
    """Return the configuration in *content*, a JSON document of OCI or of Docker.

    Raises
    ------
    ValueError
        It isn't one: the message says which field is wrong.
    """
    document = _Fields(parse_json(content), "the configuration")
    rootfs = _Fields(document.mapping("rootfs"), "rootfs")
    diff_ids = rootfs.texts("diff_ids")
    if not all(map(is_digest, diff_ids)):
        raise ValueError("rootfs has a diff ID that isn't a sha256 digest")
    parts = (document.text("os"), document.text("architecture"), document.text("variant"))
    if not parts[0] or not parts[1] or any("/" in part for part in parts):
        raise ValueError("its configuration doesn't say for which platform it is")
    return ImageConfig(
        "/".join(part for part in parts if part),
        diff_ids,
        _container(document.mapping("config")),
        tuple(_history(_Fields(step, "history")) for step in document.list("history")),
        document.text("created"),
        document.text("author"),
    )


def _container(content: Mapping[str, Any]) -> ContainerConfig:
    fields = _Fields(content, "config")
    known = {*_LISTS.values(), *_TEXTS.values(), *_SETS.values(), "Labels"}
    env = fields.texts("Env")
    if any("=" not in entry or "\0" in entry for entry in env):
        raise ValueError("config has an environment variable that isn't NAME=value")
    return ContainerConfig(
        env=env,
        entrypoint=fields.texts("Entrypoint"),
        cmd=fields.texts("Cmd"),
        user=fields.text("User"),
        working_dir=fields.text("WorkingDir"),
        labels={key: fields.as_text(value, "Labels") for key, value in fields.mapping("Labels").items()},
        exposed_ports=tuple(fields.mapping("ExposedPorts")),
        volumes=tuple(fields.mapping("Volumes")),
        stop_signal=fields.text("StopSignal"),
        other={key: value for key, value in content.items() if key not in known and _is_docker(key, value)},
    )


def _is_docker(key: str, value: object) -> bool:
    """Return True for a field that the specification reserves for Docker, and that says something."""
    return key in {"Healthcheck", "Shell", "OnBuild", "StopTimeout", "ArgsEscaped"} and bool(value)


def _history(step: _Fields) -> History:
    return History(
        step.text("created"), step.text("created_by"), step.text("comment"), step.truth("empty_layer")
    )


class _Fields:
    """The fields of a JSON object, each of its type or an error."""

    def __init__(self, content: object, name: str) -> None:
        if not isinstance(content, Mapping):
            raise ValueError(f"{name} isn't an object")  # noqa: TRY004  callers handle one error
        self._content = content
        self._name = name

    def _get(self, key: str, kind: type, default: object) -> Any:  # noqa: ANN401  of the kind
        value = self._content.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise ValueError(f"{self._name} has a wrong value for {key}")  # noqa: TRY004  one error
        return value

    def text(self, key: str) -> str:
        return str(self._get(key, str, ""))

    def truth(self, key: str) -> bool:
        return bool(self._get(key, bool, False))

    def mapping(self, key: str) -> dict[str, Any]:
        return dict(self._get(key, dict, {}))

    def list(self, key: str) -> list[Any]:
        return list(self._get(key, list, []))

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self.as_text(value, key) for value in self.list(key))

    def as_text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{self._name} has something else than texts in {key}")  # noqa: TRY004
        return value
