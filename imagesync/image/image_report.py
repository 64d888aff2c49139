"""A report on an image from its documents: environment, layers by size and owner, base, attestations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from imagesync.core.strict_json import load_json
from imagesync.image_layout import LAYER_CONTENTS, PREFIX, Label
from imagesync.inventory.inventory import Inventory, from_text
from imagesync.lock.lock import Deviation

if TYPE_CHECKING:
    from imagesync.registry.config import History, ImageConfig
    from imagesync.registry.manifest import Descriptor, Index

Owner = Literal["base", "environment"]
_OCI: Final = "org.opencontainers.image"
PREDICATE: Final = "in-toto.io/predicate-type"
_OWN = "imagesync: "
_SHELL = re.compile(r"^(/bin/(ba)?sh -c( -[a-z]+)* )?(#\(nop\) +)?(RUN )?(/bin/(ba)?sh( -[a-z]+)* -c )?")
# What the steps of the shipped Dockerfiles do, by a part of their command.
_STEPS: Final = (
    ("missing=''; if ! command -v python3", "Python, compiler and certificates of the distribution"),
    ("getent group 1000", "user 1000 and its home"),
    ("apt-get install", "system packages"),
    ("install_conda.py", "conda packages"),
    ("rattler_install.py", "conda packages"),
    ("micromamba", "conda packages"),
    ("-m venv --without-pip", "empty virtual environment"),
    ("install_wheels.py", "local wheels"),
    ("install_code.py", "loose code"),
    ("uv --quiet", "packages of indexes"),
    ("COPY environment.json", "inventory"),
)


@dataclass(frozen=True)
class ReportLayer:
    """A layer of an image.

    Parameters
    ----------
    digest
        ``sha256:<hex>``; empty in an engine, which keeps layers unpacked.
    size
        As it is stored, in bytes.
    owner
        Whether the base image has it too.
    description
        What it holds, or the command that made it.
    contents
        What its packages take of it, in bytes by name; empty if it isn't known.
    """

    digest: str
    size: int
    owner: Owner
    description: str
    contents: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Attestation:
    """A document about an image, such as an SBOM, by its type and the digest of its manifest."""

    kind: str
    digest: str


@dataclass(frozen=True)
class ImageReport:
    """What an image says of itself.

    Parameters
    ----------
    reference
        As it was asked for.
    digest
        Of its manifest; of its configuration in an engine.
    platform, created
        Of its configuration.
    base, base_digest
        The root image; empty if the image doesn't say.
    environment_hash, lock_digest, version
        Of the environment, its lock, and the imagesync that built it; empty for another image.
    layers
        From the base up.
    inventory
        The packages; ``None`` if the image doesn't say.
    deviations
        Packages whose versions differ from those where it was built.
    attestations
        Documents about it.
    is_compressed
        Whether sizes are those of compressed layers, as in a registry.
    """

    reference: str
    digest: str
    platform: str
    created: str
    base: str
    base_digest: str
    environment_hash: str
    lock_digest: str
    version: str
    layers: tuple[ReportLayer, ...]
    inventory: Inventory | None
    deviations: tuple[Deviation, ...]
    attestations: tuple[Attestation, ...] = ()
    is_compressed: bool = True

    @property
    def size(self) -> int:
        """Return the size of all layers, in bytes."""
        return sum(layer.size for layer in self.layers)

    def size_of(self, owner: Owner) -> int:
        """Return the size of the layers of one owner, in bytes."""
        return sum(layer.size for layer in self.layers if layer.owner == owner)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as documented JSON (``docs/json.md``)."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "platform": self.platform,
            "created": self.created,
            "base": {"name": self.base, "digest": self.base_digest},
            "environment_hash": self.environment_hash,
            "lock_digest": self.lock_digest,
            "version": self.version,
            "size": self.size,
            "compressed": self.is_compressed,
            "layers": [{**asdict(layer), "contents": dict(layer.contents)} for layer in self.layers],
            "packages": [] if self.inventory is None else [e.to_dict() for e in self.inventory.entries],
            "deviations": [deviation.to_dict() for deviation in self.deviations],
            "attestations": [asdict(attestation) for attestation in self.attestations],
        }


def image_report(
    reference: str,
    *,
    digest: str,
    config: ImageConfig,
    layers: Sequence[Descriptor],
    referrers: Index | None = None,
    is_compressed: bool = True,
) -> ImageReport:
    """Return the report on an image.

    Parameters
    ----------
    reference, digest
        The image.
    config
        Its configuration.
    layers
        The descriptors of its layers, from the base up.
    referrers
        The documents about it.
    is_compressed
        Whether the sizes of *layers* are compressed.
    """
    labels = config.container.labels
    return ImageReport(
        reference=reference,
        digest=digest,
        platform=config.platform,
        created=labels.get(f"{_OCI}.created") or config.created,
        base=labels.get(f"{_OCI}.base.name", ""),
        base_digest=labels.get(f"{_OCI}.base.digest", ""),
        environment_hash=labels.get(Label.ENVIRONMENT_HASH, ""),
        lock_digest=labels.get(Label.LOCK_DIGEST, ""),
        version=labels.get(Label.VERSION, ""),
        layers=tuple(_layers(layers, config.history)),
        inventory=from_text(labels.get(Label.INVENTORY, "")),
        deviations=tuple(_deviations(labels)),
        attestations=tuple(_attestations(referrers)),
        is_compressed=is_compressed,
    )


def _layers(layers: Sequence[Descriptor], history: Sequence[History]) -> Iterator[ReportLayer]:
    steps = [step for step in history if not step.empty_layer]
    # An image without a history, or with another one, doesn't say what its layers are.
    steps_of = dict(enumerate(steps)) if len(steps) == len(layers) else {}
    first = next((number for number, step in steps_of.items() if _is_own(step)), len(layers))
    for number, layer in enumerate(layers):
        step = steps_of.get(number)
        owner: Owner = "environment" if number >= first else "base"
        description = "" if step is None else _description(step)
        yield ReportLayer(layer.digest, layer.size, owner, description, _contents(layer))


def _description(step: History) -> str:
    known = (words for part, words in _STEPS if part in step.created_by)
    text = _SHELL.sub("", step.created_by or step.comment).removesuffix("# buildkit")
    return next(known, " ".join(text.strip().removeprefix(_OWN).split()))


def _is_own(step: History) -> bool:
    return step.created_by.startswith(_OWN) or str(PREFIX) in step.created_by


def _contents(layer: Descriptor) -> dict[str, int]:
    with suppress(ValueError, TypeError, AttributeError):
        found = load_json(layer.annotations.get(LAYER_CONTENTS, "{}"))
        return {str(name): int(size) for name, size in found.items() if 0 < int(size) <= layer.size}
    return {}


def _deviations(labels: Mapping[str, str]) -> Iterator[Deviation]:
    # A label in a format of another version can't be shown.
    with suppress(ValueError, TypeError, LookupError):
        yield from [Deviation.from_dict(each) for each in load_json(labels.get(Label.DEVIATIONS) or "[]")]


def _attestations(referrers: Index | None) -> Iterator[Attestation]:
    for entry in () if referrers is None else referrers.manifests:
        kind = entry.annotations.get(PREDICATE) or entry.artifact_type or entry.media_type
        yield Attestation(kind, entry.digest)
