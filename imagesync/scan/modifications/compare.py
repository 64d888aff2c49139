# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH114, PTH116, PTH120
"""Compare the installed files of an environment with what their installers recorded.

A status of each file tells whether anything has changed since the last comparison; only then the records are
read, and the digests of files whose status is new.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.progress import Progress, SilentProgress
from imagesync.core.stat_cache import MODE, SIZE, TICK, Stat, fingerprint, stat_of
from imagesync.scan.distributions.metadata import is_by_installer
from imagesync.scan.environment import Environment
from imagesync.scan.modifications.file_digests import FileDigests, digest_of
from imagesync.scan.modifications.links import leads_elsewhere, target_digest
from imagesync.scan.modifications.modification import Modification, Modifications, Unowned
from imagesync.scan.modifications.places import Places, is_inside, walk
from imagesync.scan.modifications.recorded import Claim, Owner, read_claims
from imagesync.scan.modifications.relocated import is_relocated
from imagesync.scan.modifications.unrecorded import is_expected, is_module, is_startup_file, startup_kind

_FORMAT = 8  # raised when the same files would give another result
_STANDARD_LIBRARY = re.compile(r"lib/python[0-9.]+t?/|Lib/")


def find_modifications(
    environment: Environment, *, cache: Path | None = None, progress: Progress | None = None
) -> Modifications:
    """Return the differences between the installed files and the records of their installers.

    Bytecode, the files that installers write for themselves, and packages without a RECORD aren't compared.

    Parameters
    ----------
    cache
        The folder that keeps the result and the digests of unchanged files; ``None`` for none.
    progress
        Shows how much has been read, if that takes long.
    """
    began = time.time_ns()
    places = Places.of(environment)
    stats = walk(places.roots)
    key = [_FORMAT, places.identity, fingerprint(stats)]
    result = None if cache is None else cache_path(cache, "modifications", places.prefix)
    if result is not None and (known := _remembered(result, key)) is not None:
        return known
    digests = FileDigests(None if cache is None else cache_path(cache, "installed files", places.prefix))
    comparison = _Comparison(environment, places, stats, digests, progress or SilentProgress())
    modifications = comparison.result()
    settled = digests.save(settled_before=began - TICK)
    elsewhere = comparison.elsewhere
    everything = (*stats.values(), *(value for value in elsewhere.values() if value is not None))
    if result is not None and settled and _is_settled(everything, began - TICK):
        write_cache(result, {"result": modifications.to_dict(), "elsewhere": elsewhere}, key=key)
    return modifications


def _remembered(path: Path, key: object) -> Modifications | None:
    """Return the last result, or ``None`` if a file that isn't in the walked folders has changed since."""
    known = read_cache(path, key=key)
    if known is None:
        return None
    for file, value in known["elsewhere"].items():
        if _status(file) != (None if value is None else tuple(value)):
            return None
    return Modifications.from_dict(known["result"])


def _status(path: str) -> Stat | None:
    try:
        return stat_of(os.stat(path))
    except (OSError, ValueError):
        return None


def _is_settled(stats: Iterable[Stat], before: int) -> bool:
    return all(value[2] < before and value[3] < before for value in stats)


@dataclass
class _Changes:
    edited: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)


class _Comparison:
    def __init__(
        self,
        environment: Environment,
        places: Places,
        stats: Mapping[str, Stat],
        digests: FileDigests,
        progress: Progress,
    ) -> None:
        self._environment = environment
        self._places = places
        self._stats = stats
        self._digests = digests
        self._progress = progress
        self._claims = read_claims(environment, places.conda)
        self.elsewhere: dict[str, Stat | None] = {}  # what the walk didn't see
        self._stats = {**stats, **self._stats_in_linked_folders()}
        self._changes: defaultdict[Owner, _Changes] = defaultdict(_Changes)
        self._unowned: list[Unowned] = []
        self._modules: set[str] = set()
        self._prefixes = (places.conda, environment.python.prefix, places.prefix)

    def _stats_in_linked_folders(self) -> dict[str, Stat]:
        """Return the status of each file in the target of a link that stands for the folder of a package."""
        sites = tuple(site + os.sep for site in self._places.sites)
        links = [
            path
            for path, value in self._stats.items()
            if stat.S_ISDIR(value[MODE]) and path.startswith(sites)
        ]
        if not links:
            return {}
        folders = {os.path.dirname(path) for path in self._claims}
        found: dict[str, Stat] = {}
        for link in links:
            if any(is_inside(folder, link) for folder in folders):
                inside = walk((link,))
                found |= inside
                # A file that is added changes the status of its folder.
                holders = {link, *map(os.path.dirname, inside)}
                self.elsewhere |= {**inside, **{holder: _status(holder) for holder in holders}}
        return found

    def result(self) -> Modifications:
        self._compare_recorded()
        self._sort_unrecorded()
        # The image gets an editable package from its sources.
        editable = {("pip", p.name) for p in self._environment.packages if p.source.editable}
        found = {
            owner: Modification(
                owner[1],
                "conda" if owner[0] == "conda" else "pip",
                dict(sorted(changes.edited.items())),
                dict(sorted(changes.added.items())),
                tuple(sorted(changes.missing)),
                tuple(sorted(changes.generated)),
            )
            for owner, changes in sorted(self._changes.items())
            if owner not in editable
        }
        return Modifications(
            tuple(each for owner, each in found.items() if owner[0] != "provided"),
            {name: each for (kind, name), each in found.items() if kind == "provided"},
            tuple(sorted(self._unowned, key=lambda each: each.path)),
            tuple(sorted(self._modules)),
        )

    def _compare_recorded(self) -> None:
        places = (self._places.prefix, self._places.conda or self._places.prefix, *self._places.sites)
        # A RECORD may name any file of the machine.
        inside = [
            path
            for path, claims in self._claims.items()
            if not all(claim.is_optional for claim in claims)
            and any(is_inside(path, place) for place in places)
        ]
        present = {path: value for path in inside if (value := self._stat(path)) is not None}
        hashed = {
            path: value
            for path, value in present.items()
            if stat.S_ISREG(value[MODE]) and any(map(_is_comparable, self._claims[path]))
        }
        digests = self._digests.of(hashed, self._progress)
        for path in inside:
            if path not in present:
                self._add_missing(path, self._claims[path])
            elif path in digests:
                self._compare(path, self._claims[path], digests[path])
            elif all(claim.link for claim in self._claims[path]):
                self._compare_link(path, self._claims[path])

    def _stat(self, path: str) -> Stat | None:
        """Return the status of a recorded file; ``None`` if it is missing."""
        known = self._stats.get(path)
        if known is None:  # in a folder that is a link, or in none of the walked ones
            known = self.elsewhere[path] = _status(path)
        return known

    def _add_missing(self, path: str, claims: list[Claim]) -> None:
        exists = os.path.lexists(path)
        for claim in claims:
            # conda packages may have links that lead nowhere.
            if not claim.is_optional and not (exists and not claim.sha256):
                changes = self._changes[claim.owner]
                changes.missing.append(claim.path)
                changes.generated += [claim.path] if claim.is_generated else []

    def _compare(self, path: str, claims: list[Claim], digest: str) -> None:
        # Of a file that several packages have, one version is installed, and it is right for all of them.
        if any(self._is_right(path, claim, digest) for claim in claims if claim.owner[0] != "provided"):
            claims = [claim for claim in claims if claim.owner[0] == "provided"]
        for claim in claims:
            if (
                not _is_comparable(claim)
                or self._is_right(path, claim, digest)
                or (claim.size is not None and claim.other is None and self._size(path) == claim.size)
                or is_relocated(path, claim, self._prefixes)
            ):
                continue
            changes = self._changes[claim.owner]
            changes.edited[claim.path] = digest
            changes.generated += [claim.path] if claim.is_generated else []

    def _compare_link(self, path: str, claims: list[Claim]) -> None:
        moved = [claim for claim in claims if leads_elsewhere(path, claim, self._claims, self._digest)]
        if len(moved) < len(claims):
            return
        digest = target_digest(path) if os.path.islink(path) else self._digest(path)
        for claim in moved:
            self._changes[claim.owner].edited[claim.path] = digest

    def _digest(self, path: str) -> str:
        value = self._stat(path)
        is_file = value is not None and stat.S_ISREG(value[MODE])
        return self._digests.of({path: value}, self._progress)[path] if value is not None and is_file else ""

    def _is_right(self, path: str, claim: Claim, digest: str) -> bool:
        """Return True if a file has the recorded digest."""
        if claim.other is not None:
            algorithm, value = claim.other
            return digest_of(path, algorithm) == value
        return claim.sha256 == digest

    def _size(self, path: str) -> int | None:
        value = self._stat(path)
        return None if value is None else value[SIZE]

    def _sort_unrecorded(self) -> None:
        owners: defaultdict[str, set[Owner]] = defaultdict(set)
        for path, claims in self._claims.items():
            owners[os.path.dirname(path)].update(claim.owner for claim in claims)
        added: dict[str, set[Owner]] = {}
        loose: list[str] = []
        for path in self._stats:
            if path in self._claims or (
                stat.S_ISDIR(self._stats[path][MODE])  # a link
                and any(is_inside(folder, path) for folder in owners)
            ):
                continue
            site = next((site for site in self._places.sites if is_inside(path, site)), "")
            top = site or self._places.conda or self._places.prefix
            relative = path[len(top) + 1 :].replace(os.sep, "/")
            starts = bool(site) and "/" not in relative and is_startup_file(relative)
            is_metadata = bool(site) and _is_metadata_of(relative, site, owners)
            if not starts and not is_metadata and is_expected(relative, in_site=bool(site)):
                continue
            holders: set[Owner] = set()
            if site or _STANDARD_LIBRARY.match(relative):
                holders = _owners_of_folder(path, site, owners)
            if sum(owner[0] != "provided" for owner in holders) == 1:
                added[path] = holders
            elif starts:
                if (kind := startup_kind(path)) is not None:
                    self._unowned.append(Unowned(path, kind))
            elif site not in self._places.unlisted and (site or self._places.has_own_prefix):
                loose.append(path)
        self._unowned += map(Unowned, self._without_modules(loose))
        self._add(added)

    def _without_modules(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield *paths* without those of modules on ``sys.path``, which are kept as such.

        These are single modules and folders with an ``__init__.py``, of whose name no package has a file.
        """
        recorded: dict[str, set[str]] = {}
        for path in paths:
            site = next((site for site in self._places.sites if is_inside(path, site)), "")
            if not site:
                yield path
                continue
            if site not in recorded:
                recorded[site] = {_module(claim, site) for claim in self._claims if is_inside(claim, site)}
            top = f"{site}{os.sep}{path[len(site) + 1 :].partition(os.sep)[0]}"
            if top in self._modules or (_module(top, site) not in recorded[site] and is_module(top)):
                self._modules.add(top)
            else:
                yield path

    def _add(self, added: Mapping[str, set[Owner]]) -> None:
        regular = {path: self._stats[path] for path in added if stat.S_ISREG(self._stats[path][MODE])}
        locations: dict[str, str] = {package.name: package.location for package in self._environment.packages}
        for path, digest in self._digests.of(regular, self._progress).items():
            for kind, name in added[path]:
                base = self._places.conda if kind == "conda" else os.path.realpath(locations.get(name, ""))
                relative = os.path.relpath(path, base).replace(os.sep, "/")
                self._changes[kind, name].added[relative] = digest


def _is_comparable(claim: Claim) -> bool:
    return bool(claim.sha256) or claim.other is not None or claim.size is not None


def _module(path: str, site: str) -> str:
    return path[len(site) + 1 :].partition(os.sep)[0].partition(".")[0]


def _is_metadata_of(relative: str, site: str, owners: Mapping[str, set[Owner]]) -> bool:
    """Return True if a file is in the metadata folder of a package with a RECORD, and no installer's own."""
    folder, _, rest = relative.partition("/")
    if (
        not rest
        or not folder.endswith((".dist-info", ".egg-info"))
        or f"{site}{os.sep}{folder}" not in owners
    ):
        return False
    is_installers = is_by_installer(relative, folder) or rest == "installed-files.txt"
    return not is_installers and not is_expected(rest, in_site=False)


def _owners_of_folder(path: str, site: str, owners: Mapping[str, set[Owner]]) -> set[Owner]:
    """Return the packages with files in the nearest folder above *path* that has some, below *site*."""
    folder = os.path.dirname(path)
    while len(folder) > len(site) and folder != site:
        if folder in owners:
            return owners[folder]
        folder = os.path.dirname(folder)
    return set()
