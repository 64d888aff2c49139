"""Decode BuildKit's trace, the engine's report on a running build, into frozen values.

Each message of the stream carries a ``StatusResponse`` of BuildKit's ``control.proto`` in base64. Only the
fields that are used are declared here; protobuf skips the others.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from imagesync.errors import EngineError

if TYPE_CHECKING:
    from google.protobuf.message import Message

# Message -> (field, number, type), from https://github.com/moby/buildkit/blob/master/api/services/control/control.proto
_MESSAGES = {
    "Vertex": (
        ("digest", 1, "string"),
        ("name", 3, "string"),
        ("cached", 4, "bool"),
        ("started", 5, "Timestamp"),
        ("completed", 6, "Timestamp"),
        ("error", 7, "string"),
    ),
    "VertexStatus": (
        ("ID", 1, "string"),
        ("vertex", 2, "string"),
        ("current", 4, "int64"),
        ("total", 5, "int64"),
        ("completed", 8, "Timestamp"),
    ),
    "VertexLog": (("vertex", 1, "string"), ("stream", 3, "int64"), ("msg", 4, "bytes")),
    "StatusResponse": (
        ("vertexes", 1, "Vertex"),
        ("statuses", 2, "VertexStatus"),
        ("logs", 3, "VertexLog"),
    ),
}
_PACKAGE = "imagesync.buildkit"


@dataclass(frozen=True)
class Vertex:
    """The state of a step of the build.

    Parameters
    ----------
    digest
        Its identifier.
    name
        Such as ``[2/5] RUN apt-get update``; internal ones start with ``[internal]``.
    cached
        Whether its result came from the cache.
    started, completed
        Seconds since the epoch; ``None`` before that.
    error
        Why it failed; empty if it didn't.
    """

    digest: str
    name: str
    cached: bool
    started: float | None
    completed: float | None
    error: str


@dataclass(frozen=True)
class Status:
    """A part of a step's work, such as the export of a layer; *current* and *total* are often bytes."""

    vertex: str
    name: str
    current: int
    total: int
    completed: bool


@dataclass(frozen=True)
class Log:
    """A piece of a step's output, which may end in the middle of a line; *stream* is 1 or 2."""

    vertex: str
    stream: int
    data: bytes


@dataclass(frozen=True)
class Trace:
    """The content of one message."""

    vertexes: tuple[Vertex, ...]
    statuses: tuple[Status, ...]
    logs: tuple[Log, ...]


def decode_trace(encoded: str) -> Trace:
    """Decode the ``aux`` of a ``moby.buildkit.trace`` message.

    Raises
    ------
    EngineError
        It isn't base64, or isn't a ``StatusResponse``.
    """
    from google.protobuf.message import DecodeError

    message: Any = _status_response()()
    try:
        message.ParseFromString(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise EngineError(f"The engine sends a build trace that can't be read: {error}") from error
    return Trace(
        vertexes=tuple(
            Vertex(v.digest, v.name, v.cached, _seconds(v, "started"), _seconds(v, "completed"), v.error)
            for v in message.vertexes
        ),
        statuses=tuple(
            Status(s.vertex, s.ID, s.current, s.total, s.HasField("completed")) for s in message.statuses
        ),
        logs=tuple(Log(log.vertex, log.stream, log.msg) for log in message.logs),
    )


def _seconds(message: Any, name: str) -> float | None:  # noqa: ANN401 - a class made at run time
    if not message.HasField(name):
        return None
    timestamp = getattr(message, name)
    return float(timestamp.seconds + timestamp.nanos / 1e9)


@cache
def _status_response() -> type[Message]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    field = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": field.TYPE_STRING,
        "bool": field.TYPE_BOOL,
        "int64": field.TYPE_INT64,
        "bytes": field.TYPE_BYTES,
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="imagesync/buildkit.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind in fields:
            added = message.field.add(name=name, number=number, label=field.LABEL_OPTIONAL)
            if kind in scalars:
                added.type = scalars[kind]
                continue
            added.type = field.TYPE_MESSAGE
            added.type_name = ".google.protobuf.Timestamp" if kind == "Timestamp" else f".{_PACKAGE}.{kind}"
            if kind != "Timestamp":
                added.label = field.LABEL_REPEATED
    # A separate pool: the default one is shared with every other library in the process.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.StatusResponse"))
