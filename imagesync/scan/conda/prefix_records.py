# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH116, PTH118, PTH122, PTH208
"""conda's prefix records: ``conda-meta/*.json``.

A record lists every file of its package, so the records of an environment are tens of megabytes of JSON. The
lists are cut out before the rest is parsed, and searched as bytes.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Literal

from imagesync.core.files import read_bytes
from imagesync.core.limits import PREFIX_RECORD, PREFIX_RECORD_FIELDS
from imagesync.core.names import canonical_name, is_valid_conda_part
from imagesync.scan.environment import CondaRecord

_FIRST_KEY = re.compile(rb"\{\n( +)\"")
# The metadata of a distribution lies in site-packages itself; below it are those that others vendor.
_METADATA = re.compile(r"(?:^|/)(?:site|dist)-packages/(?P<name>[^/]+)\.(?:dist|egg)-info$")
_ENDINGS = (b'.dist-info/METADATA"', b'.egg-info"', b'.egg-info/PKG-INFO"')
_SUBDIR = re.compile(r"/(?:noarch|[a-z]+-[a-z0-9_]+)/?$")
_TOKEN = re.compile(r"^/?t/[^/]+/")
_WITNESSES = 4


@dataclass(frozen=True)
class RecordFile:
    """One prefix record, and the relevant entries of its list of files.

    Parameters
    ----------
    path
        The JSON file.
    record
        The content, without the list of files.
    metadata
        The metadata folders (or files) of distributions that it lists, relative to the prefix.
    witnesses
        A few of the files that it lists, relative to the prefix; empty if it lists none.
    """

    path: str
    record: CondaRecord
    metadata: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()


def record_paths(prefix: str) -> list[str]:
    """Return the paths of the prefix records in *prefix*, sorted."""
    folder = os.path.join(prefix, "conda-meta")
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    except OSError:
        return []


def read_record_file(path: str) -> RecordFile:
    """Return the prefix record at *path*.

    Raises
    ------
    OSError
        It can't be read.
    ValueError
        It isn't JSON, or not a prefix record: it gives no name, version or build; or it is too large.
    """
    if os.stat(path).st_size > PREFIX_RECORD:
        raise ValueError(f"it is larger than {PREFIX_RECORD >> 20} MB")
    data = read_bytes(path)
    if data.startswith(b"{\r\n"):
        data = data.replace(b"\r\n", b"\n")
    document, files = _parse(data)
    metadata = tuple(sorted(_metadata_in(files)))
    names = {canonical_name(distribution_name(entry)) for entry in metadata}
    return RecordFile(path, _record(document, tuple(sorted(names)), files), metadata, _witnesses(files))


def distribution_name(metadata: str) -> str:
    """Return the name in the path of a metadata folder.

    >>> distribution_name("lib/python3.11/site-packages/PyYAML-6.0.3.dist-info")
    'PyYAML'
    """
    stem, kind = os.path.splitext(metadata.rpartition("/")[2])
    return (stem.rpartition("-")[0] or stem) if kind == ".dist-info" else stem.partition("-")[0]


def distribution_version(metadata: str) -> str:
    """Return the version in the path of a metadata folder; empty if it has none.

    >>> distribution_version("lib/python3.11/site-packages/PyYAML-6.0.3.dist-info")
    '6.0.3'
    >>> distribution_version("lib/python3.11/site-packages/demo-1.0-py3.11.egg-info")
    '1.0'
    """
    stem, kind = os.path.splitext(metadata.rpartition("/")[2])
    if kind == ".dist-info":
        return stem.rpartition("-")[2] if "-" in stem else ""
    return stem.partition("-")[2].partition("-py")[0]


def sha256_of_file(record_path: str, file: str) -> str:
    """Return the sha256 (hexadecimal) of one file in a record; empty if the record doesn't have it.

    Parameters
    ----------
    record_path
        The JSON file.
    file
        Relative to the prefix.
    """
    try:
        data = read_bytes(record_path)
        for match in re.finditer(rb'"_path": ?' + re.escape(json.dumps(file).encode()), data):
            # No entry holds another object.
            start, stop = data.rfind(b"{", 0, match.start()), data.find(b"}", match.end())
            entry = json.loads(data[start : stop + 1])
            return str(entry.get("sha256_in_prefix") or entry.get("sha256") or "")
    except (OSError, ValueError, AttributeError):
        return ""
    return ""


def _parse(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the record without its lists of files, and the bytes of the list of names."""
    files = b""
    first = _FIRST_KEY.match(data)
    if first is not None:
        line = b"\n" + first[1]
        data, _ = _cut(data, line, b'"paths_data": {', b"}")
        data, files = _cut(data, line, b'"files": [', b"]")
    if len(data) > PREFIX_RECORD_FIELDS:
        raise ValueError(f"it has more than {PREFIX_RECORD_FIELDS >> 20} MB besides its list of files")
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("it isn't an object")  # noqa: TRY004  callers handle bad content, whatever is bad
    if not files and document.get("files"):  # not written line by line
        files = "\n".join(json.dumps(name) for name in document["files"]).encode()
    return document, files


def _cut(data: bytes, line: bytes, opening: bytes, closing: bytes) -> tuple[bytes, bytes]:
    """Cut the content of a list or object out of *data*; return the rest, and the content.

    Parameters
    ----------
    data
        The JSON of a record.
    line
        A line break and the indentation of the outermost object's keys. Strings have no line breaks, so
        followed by *closing* it is the end.
    opening
        The key, and the bracket that opens the list or object.
    closing
        The closing bracket.
    """
    start = data.find(line + opening)
    if start < 0:
        return data, b""
    start += len(line) + len(opening)
    if data[start : start + 1] == closing:
        return data, b""
    stop = data.find(line + closing, start)
    if stop < 0:
        return data, b""
    return data[:start] + data[stop + len(line) :], data[start:stop]


def _metadata_in(files: bytes) -> set[str]:
    found = set()
    for ending in _ENDINGS:
        position = files.find(ending)
        while position >= 0:
            start = files.rfind(b'"', 0, position)
            stop = position + len(ending)
            path = str(json.loads(files[start:stop]))
            folder = path.rpartition("/")[0] if path.endswith(("/METADATA", "/PKG-INFO")) else path
            if _METADATA.search(folder):
                found.add(folder)
            position = files.find(ending, stop)
    return found


def _witnesses(files: bytes) -> tuple[str, ...]:
    """Return a few names spread over the list."""
    found = []
    for part in range(_WITNESSES):
        start = files.find(b"\n", len(files) * part // _WITNESSES) if part else 0
        start = files.find(b'"', start)
        stop = files.find(b'"', start + 1)
        if 0 <= start < stop and b"\\" not in files[start:stop]:
            found.append(str(json.loads(files[start : stop + 1])))
    return tuple(dict.fromkeys(found))


def _record(document: dict[str, Any], distributions: tuple[Any, ...], files: bytes) -> CondaRecord:
    from imagesync.core.credentials import strip_credentials, strip_credentials_in

    def text(key: str) -> str:
        value = document.get(key)
        return value if isinstance(value, str) else ""

    def lines(key: str) -> tuple[str, ...]:
        value = document.get(key)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    name, version, build = text("name"), text("version"), text("build") or text("build_string")
    # These become parts of paths and URLs.
    if not all(map(is_valid_conda_part, (name, version, build))):
        raise ValueError("it gives no valid name, version and build")
    number, size = document.get("build_number"), document.get("size")
    sha256, md5 = text("sha256").lower(), text("md5").lower()
    url = strip_credentials(re.split("[?#]", text("url"))[0])
    filename = re.split(r"[/\\]", text("fn") or url)[-1]
    subdir = text("subdir") if _SUBDIR.fullmatch("/" + text("subdir")) else _subdir_of(url)
    channel = channel_of(strip_credentials(text("channel")), url, subdir)
    if not url and "://" in channel and subdir and filename:
        url = f"{channel}/{subdir}/{filename}"
    requested = text("requested_spec")
    if requested == "None":  # conda writes it for a dependency; rattler writes a list
        requested = ""
    requested = requested or next(iter(lines("requested_specs")), "")
    return CondaRecord(
        name=name,
        version=version,
        build=build,
        build_number=number if isinstance(number, int) else 0,
        channel=channel,
        subdir=subdir,
        filename=filename,
        url=url,
        sha256=f"sha256:{sha256}" if re.fullmatch("[0-9a-f]{64}", sha256) else "",
        md5=md5 if re.fullmatch("[0-9a-f]{32}", md5) else "",
        size=size if isinstance(size, int) else None,
        noarch=_noarch(document),
        requested_spec=strip_credentials_in(requested),
        depends=lines("depends"),
        constrains=lines("constrains"),
        distributions=distributions,
        license=text("license"),
        has_post_link=b"-post-link." in files,
    )


def _noarch(document: dict[str, Any]) -> Literal["", "python", "generic"]:
    value = document.get("noarch")
    if value == "python" or document.get("package_type") == "noarch_python":
        return "python"
    return "generic" if value else ""


def channel_of(channel: str, url: str, subdir: str) -> str:
    """Return a channel's URL without subdir, or its name if no URL is known.

    Parameters
    ----------
    channel
        The record's value: a URL with or without subdir, or a name.
    url
        Of the package's archive.
    subdir
        The platform folder of the channel, such as ``linux-64``.

    >>> channel_of("conda-forge", "https://conda.anaconda.org/conda-forge/noarch/a-1-0.conda", "noarch")
    'https://conda.anaconda.org/conda-forge'
    >>> channel_of("https://conda.anaconda.org/conda-forge/linux-64", "", "linux-64")
    'https://conda.anaconda.org/conda-forge'
    >>> channel_of("pkgs/main", "", "linux-64")
    'pkgs/main'
    """
    folder = url.rpartition("/")[0]
    if "://" in folder and folder.rpartition("/")[2] == subdir:
        return folder.rpartition("/")[0]
    if channel.startswith("<"):  # <unknown>, of an archive that was installed by its path
        return ""
    if "://" in channel:
        return _SUBDIR.sub("", channel).rstrip("/")
    return _TOKEN.sub("", channel).strip("/")


def _subdir_of(url: str) -> str:
    match = _SUBDIR.search(url.rpartition("/")[0])
    return match[0].strip("/") if match else ""


def with_placeholder(content: bytes, prefix: bytes, placeholder: bytes) -> tuple[bytes, bytes]:
    r"""Return the content of a file in its archive, if it is a text and if it is a binary.

    conda puts the prefix in place of the placeholder, and ends strings of a binary with null bytes for the
    difference.

    >>> with_placeholder(b"/env/lib\0\0\0\0/x", b"/env", b"/build")
    (b'/build/lib\x00\x00\x00\x00/x', b'/build/lib\x00\x00/x')
    """

    def restore(match: re.Match[bytes]) -> bytes:
        text, zeros = match.groups()
        padding = text.count(prefix) * (len(placeholder) - len(prefix))
        if not 0 <= padding < len(zeros):
            return match[0]
        return text.replace(prefix, placeholder) + zeros[padding:]

    strings = rb"(%s[^\0]*)(\0+)" % re.escape(prefix)
    return content.replace(prefix, placeholder), re.sub(strings, restore, content)
