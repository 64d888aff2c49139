"""The image of an environment, as a value and as the content of its metadata file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from imagesync.core.image_reference import parse_reference
from imagesync.core.notebook import NotebookValue, Table
from imagesync.core.strict_json import load_json
from imagesync.core.text import counted
from imagesync.image_layout import Label, image_tag

if TYPE_CHECKING:
    from imagesync.engine.lookup import FoundImage
    from imagesync.lock.lock import Lock


@dataclass(frozen=True, repr=False)
class Image(NotebookValue):
    """An image that holds an environment, in the engine or in a registry.

    Parameters
    ----------
    reference
        ``<repository>:<tag>``.
    image_id, environment_hash, lock_digest
        ``sha256:<hex>``.
    digest
        ``<repository>@sha256:<hex>``, the image's reference in its registry. ``None`` if it isn't known to be
        in one.
    cached
        Whether it existed before the build.
    deviations
        As :meth:`imagesync.lock.lock.Deviation.to_dict` gives them.
    repacked
        Packages of an index that were made from the installed files, as
        :meth:`imagesync.lock.lock.Lock.repacked_to_list` gives them.
    file_conflicts
        The sha256 of each file that several packages have, as it was installed locally at the time of the
        build. ``None`` if the image was built from a lock file, which doesn't say that.
    shared_conda_files
        The packages that have each file that several conda packages have, likewise; see
        :func:`~imagesync.scan.conda.shared_files.shared_files`.
    artifacts_digest
        As :attr:`imagesync.lock.lock.Lock.artifacts_digest` gives it.
    compiled
        Names of packages of which the image has a wheel for certain platforms.
    verified_imports
        Names of modules that its build has imported in it.
    images
        If it is an index, its images by the names of their platforms; ``image_id`` is the index's digest
        then, and ``lock_digest`` covers those of the images.
    """

    reference: str
    image_id: str
    environment_hash: str
    lock_digest: str
    cached: bool
    digest: str | None = None
    deviations: tuple[Mapping[str, Any], ...] = ()
    repacked: tuple[Mapping[str, Any], ...] = ()
    file_conflicts: Mapping[str, str] | None = None
    shared_conda_files: Mapping[str, tuple[str, ...]] | None = None
    artifacts_digest: str = ""
    compiled: tuple[str, ...] = ()
    verified_imports: tuple[str, ...] = ()
    images: Mapping[str, Image] = field(default_factory=dict)

    def _summary(self) -> str:
        parts = ["found" if self.cached else "built"]
        if self.digest is not None:
            parts.append("in its registry")
        if self.deviations:
            parts.append(f"{counted(len(self.deviations), 'package')} not as here")
        return f"{self.reference}: {', '.join(parts)}"

    def _tables(self) -> Iterator[Table]:
        from imagesync.lock.lock import Deviation, deviation_table

        yield deviation_table(map(Deviation.from_dict, self.deviations))
        rows = [(p["name"], p["version"], p["reason"]) for p in self.repacked]
        title = f"{counted(len(rows), 'package')} made from the installed files"
        yield Table(title, ("package", "version", "reason"), rows)
        digests = {
            "image ID": self.image_id,
            "environment hash": self.environment_hash,
            "lock digest": self.lock_digest,
            "in the registry": self.digest or "",
        }
        yield Table("digests", ("", ""), [(name, digest) for name, digest in digests.items() if digest])

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the metadata file (``docs/json.md``)."""
        content = asdict(self)
        for key in (
            "file_conflicts",
            "shared_conda_files",
            "artifacts_digest",
            "compiled",
            "verified_imports",
            "images",
        ):
            del content[key]
        images = {platform: image.to_dict() for platform, image in self.images.items()}
        return {
            **content,
            "deviations": [dict(deviation) for deviation in self.deviations],
            "repacked": [dict(package) for package in self.repacked],
            **({"images": images} if images else {}),
        }


def image_of_lock(
    lock: Lock, *, reference: str, image_id: str, environment_hash: str, verified_imports: Iterable[str] = ()
) -> Image:
    """Return the image that was built of *lock* just now; the others are as for :class:`Image`."""
    return Image(
        reference=reference,
        image_id=image_id,
        environment_hash=environment_hash,
        lock_digest=lock.digest,
        cached=False,
        deviations=tuple(deviation.to_dict() for deviation in lock.deviations),
        repacked=tuple(lock.repacked_to_list()),
        artifacts_digest=lock.artifacts_digest,
        verified_imports=tuple(verified_imports),
    )


def image_of(found: FoundImage, *, repository: str, environment_hash: str) -> Image | None:
    """Return the image that a look-up found; ``None`` if its labels are of another environment or form.

    Parameters
    ----------
    found
        An image of the engine.
    repository
        The reference without a tag that the image is looked up by.
    environment_hash
        The whole hash; the tag has only its beginning, and anybody can set a tag.
    """
    if found.labels.get(Label.ENVIRONMENT_HASH) != environment_hash:
        return None
    lock_digest = found.labels.get(Label.LOCK_DIGEST)
    if not lock_digest:
        return None
    tag = image_tag(environment_hash)
    pushed = found.digest is not None and parse_reference(repository).names_registry
    try:
        content = _labelled(found.labels)
    except (LookupError, TypeError, ValueError):
        return None  # set by hand, or by a later version
    return Image(
        reference=f"{repository}:{tag if tag in found.tags else found.tags[0]}",
        image_id=found.image_id,
        environment_hash=environment_hash,
        lock_digest=lock_digest,
        cached=True,
        digest=f"{repository}@{found.digest}" if pushed else None,
        **content,
        artifacts_digest=found.labels.get(Label.ARTIFACTS, ""),
        compiled=tuple(found.labels.get(Label.COMPILED, "").split()),
        verified_imports=tuple(found.labels.get(Label.VERIFIED_IMPORTS, "").split()),
    )


def _labelled(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an image that its labels have as JSON.

    Raises
    ------
    LookupError, TypeError, ValueError
        A label isn't what a build writes.
    """
    deviations = load_json(labels.get(Label.DEVIATIONS) or "[]")
    repacked = load_json(labels.get(Label.REPACKED) or "[]")
    conflicts = load_json(labels.get(Label.FILE_CONFLICTS) or "null")
    shared = load_json(labels.get(Label.SHARED_CONDA_FILES) or "null")
    texts = [entry[key] for entry in repacked for key in ("name", "content")]
    texts += () if conflicts is None else _object(conflicts).values()
    owners = None if shared is None else {path: tuple(names) for path, names in _object(shared).items()}
    texts += (name for names in (owners or {}).values() for name in names)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return {
        "deviations": _deviations(deviations) if deviations != [] else (),
        "repacked": tuple(repacked),
        "file_conflicts": conflicts,
        "shared_conda_files": owners,
    }


def _deviations(entries: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    from imagesync.lock.lock import Deviation

    return tuple(Deviation.from_dict(entry).to_dict() for entry in entries)


def _object(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError
    return content
