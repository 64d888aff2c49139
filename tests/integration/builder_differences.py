"""By what an image that imagesync writes itself differs from the one that an engine builds, file by file."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker

from imagesync.image.layers.layer_stream import uncompressed
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout

FOLDERS = ("opt/env", "home/imagesync")
ALLOWED_FILES = {
    r".*\.dist-info/uv_cache\.json": "has the time at which uv stored the wheel",
    r".*\.dist-info/(INSTALLER|REQUESTED)": "PyPA's installer installs local wheels there",
    r"opt/env/share/anvil(/linked)?": "a post-link script writes it, which nobody runs here",
}
"""Paths that may differ, each with the reason."""
UNRECORDED = ("/uv_cache.json", "/INSTALLER", "/REQUESTED", "/RECORD")
"""Files of .dist-info whose lines of RECORD follow from the above; RECORD of a local wheel is sorted."""
ALLOWED_LABELS = {
    "dev.imagesync.base": "only an engine has base images under that name",
    "dev.imagesync.base-hash": "as above",
    "dev.imagesync.packages-hash": "only an engine has packages images",
    "dev.imagesync.packages-input-hash": "as above",
    "dev.imagesync.packages-lock": "as above",
    "dev.imagesync.input-hash": "covers the user's indexes",
    "dev.imagesync.layer-form": "only layers of imagesync's own have one",
    "dev.imagesync.verified-imports": "nobody imports anything here",
    "org.opencontainers.image.created": "1980 instead of 1970, as the files",
    "org.opencontainers.image.base.name": "a base image of an engine's has no name elsewhere",
}
"""Labels that may differ, each with the reason."""
ALLOWED_VARIABLES = {
    "CONDA_SHLVL": "the entry point activates the environment when a container starts",
    "COMPASS_HOME": "an activation script of a package sets it; scripts are run to find that out",
    "COMPASS_MODE": "a package declares it for the activation",
}
"""Variables that may be missing, each with the reason."""
HASHED_FILE = "opt/env/share/imagesync/environment.json"
"""A file with the image's hash, which covers the base image; with another base it differs."""
HASHED = {
    "dev.imagesync.environment-hash",
    "dev.imagesync.inventory",
    "org.opencontainers.image.base.digest",
    "org.opencontainers.image.ref.name",
    "org.opencontainers.image.version",
}
"""Labels that follow from the base image; with another base they differ."""
TREE = """
import hashlib, json, os, stat, sys
tree = {}
for root in sys.argv[1:]:
    for folder, folders, files in os.walk("/" + root):
        for path in [folder] + [os.path.join(folder, name) for name in folders + files]:
            state = os.lstat(path)
            content = ""
            if stat.S_ISLNK(state.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(state.st_mode):
                content = open(path, "rb").read()
                is_record = path.endswith(".dist-info/RECORD")
                content = content.decode() if is_record else hashlib.sha256(content).hexdigest()
            mode = "link" if stat.S_ISLNK(state.st_mode) else stat.filemode(state.st_mode)
            tree[path[1:]] = [mode, state.st_uid, state.st_gid, content]
print(json.dumps(tree))
"""


def image_of_layout(folder: Path) -> OCIImage:
    """Return the image ``latest`` of an OCI layout."""
    layout = ImageLayout(folder)
    found = layout.index().find("latest")
    assert found is not None
    return layout.image(found)


def differing_files(
    client: docker.DockerClient, reference: str, image: OCIImage, *, same_base: bool
) -> dict[str, Any]:
    """Return the files that differ, and mustn't, with what each image has."""
    output = client.containers.run(
        reference, ["python", "-IB", "-c", TREE, *FOLDERS], remove=True, user="0:0", network_mode="none"
    )
    theirs = _with_sorted_records(json.loads(output))
    ours = _with_sorted_records(dict(_tree(image)))
    return {
        path: (theirs.get(path), ours.get(path))
        for path in sorted({*theirs, *ours})
        if theirs.get(path) != ours.get(path) and not _is_allowed(path) and (same_base or path != HASHED_FILE)
    }


def differing_options(
    client: docker.DockerClient, reference: str, image: OCIImage, *, same_base: bool
) -> dict[str, Any]:
    """Return what differs, and mustn't, of how a container starts, and of the labels."""
    theirs = client.images.get(reference).attrs["Config"]
    ours = image.config.container
    allowed = {*ALLOWED_LABELS, *(() if same_base else HASHED)}
    pairs = {
        "user": (theirs["User"], ours.user),
        "entrypoint": (theirs["Entrypoint"] or [], list(ours.entrypoint)),
        "cmd": (theirs["Cmd"], list(ours.cmd)),
        "workdir": (theirs["WorkingDir"], ours.working_dir),
        "variables": (
            _without(dict(each.split("=", 1) for each in theirs["Env"]), set(ALLOWED_VARIABLES)),
            _without(ours.variables, set(ALLOWED_VARIABLES)),
        ),
        "labels": (_without(theirs["Labels"], allowed), _without(ours.labels, allowed)),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _without(values: Mapping[str, str], allowed: set[str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in allowed and value}


def _content(path: str, data: bytes) -> str:
    """Return the text of a RECORD, and the digest of any other file, as :data:`TREE` does."""
    return data.decode() if path.endswith(".dist-info/RECORD") else hashlib.sha256(data).hexdigest()


def _with_sorted_records(tree: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        path: [*state, _sorted_lines(content) if path.endswith(".dist-info/RECORD") else content]
        for path, (*state, content) in tree.items()
    }


def _sorted_lines(record: str) -> list[str]:
    return sorted(line for line in record.splitlines() if not line.partition(",")[0].endswith(UNRECORDED))


def _is_allowed(path: str) -> bool:
    return any(re.fullmatch(pattern, path) for pattern in ALLOWED_FILES)


def _tree(image: OCIImage) -> Iterator[tuple[str, list[object]]]:
    for layer in image.manifest.layers:
        with tarfile.open(fileobj=uncompressed(image, layer), mode="r|") as archive:
            for member in archive:
                path = member.name.rstrip("/")
                if not any(f"{path}/".startswith(f"{folder}/") for folder in FOLDERS):
                    continue
                mode, content = stat.filemode(member.mode), member.linkname
                kind = "d" if member.isdir() else "-"
                if member.isfile():
                    file = archive.extractfile(member)
                    assert file is not None
                    content = _content(path, file.read())
                text = "link" if member.issym() else kind + mode[1:]
                yield path, [text, member.uid, member.gid, content]
