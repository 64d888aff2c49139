from __future__ import annotations

import contextlib
import doctest
import email.parser
import email.policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from imagesync.core import names
from imagesync.core.names import canonical_name, is_valid_name, is_valid_version
from imagesync.scan import environment_files as executable
from imagesync.scan.distributions import installed as eggs
from imagesync.scan.distributions import metadata
from imagesync.scan.distributions.direct_url import parse_direct_url
from imagesync.scan.distributions.metadata import parse_headers, read_headers

WANTED = ("name", "version", "requires-dist", "requires-python")

_names = st.sampled_from(
    ["Name", "name", "VERSION", "Version", "Requires-Dist", "Requires-Python", "X", "Author", ""]
)
_text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
_lines = st.one_of(
    st.builds(
        lambda name, gap, value: f"{name}:{gap}{value}", _names, st.sampled_from(["", " ", "\t "]), _text
    ),
    st.builds(lambda gap, value: gap + value, st.sampled_from([" ", "\t", "        "]), _text),
    st.sampled_from(["", "no colon here", "Name : spaced", ">From x"]),
)


@given(st.lists(_lines, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]))
def test_headers_equal_those_of_the_email_parser(lines: list[str], end: str) -> None:
    data = end.join([*lines, ""]).encode()
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(data)
    expected = {}
    for key in WANTED:
        values = message.get_all(key)
        if values:
            texts = [str(value).encode("utf-8", "surrogateescape").decode() for value in _raw(message, key)]
            expected[key] = [" ".join(text.split()) for text in texts]
    headers = parse_headers(data, WANTED)
    assert headers.values == expected


def _raw(message: email.message.Message, key: str) -> list[str]:
    return [value for name, value in message.raw_items() if name.lower() == key]  # type: ignore[attr-defined]


@given(st.binary(max_size=200))
def test_reader_of_headers_takes_any_content(data: bytes) -> None:
    parse_headers(data, WANTED)


@given(st.binary(max_size=100))
def test_invalid_direct_url_raises_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_direct_url(data)


def test_header_block_longer_than_one_chunk_is_read(tmp_path: Path) -> None:
    lines = [f"Requires-Dist: package-{number}" for number in range(9000)]
    (tmp_path / "METADATA").write_text("\n".join([*lines, "Name: last", "", "Name: of the description"]))
    headers = read_headers(str(tmp_path / "METADATA"), WANTED)
    assert headers.first("name") == "last"
    assert len(headers.all("requires-dist")) == 9000


def test_headers_that_are_not_utf8_are_read_as_latin1() -> None:
    headers = parse_headers("Name: caf\xe9\n".encode("latin-1"), WANTED)
    assert headers.first("name") == "caf\xe9"
    assert not headers.utf8


def test_byte_order_mark_is_skipped() -> None:
    assert parse_headers(b"\xef\xbb\xbfName: demo\n", WANTED).first("name") == "demo"


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True))
def test_canonical_names_equal_those_of_packaging(name: str) -> None:
    assert is_valid_name(name)
    assert canonical_name(name) == canonicalize_name(name)


@given(st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}[a-z0-9.+-]{0,6}", fullmatch=True))
def test_valid_versions_are_those_of_packaging(version: str) -> None:
    try:
        Version(version)
    except InvalidVersion:
        assert not is_valid_version(version)
    else:
        assert is_valid_version(version)


@pytest.mark.parametrize(
    "module",
    [eggs, executable, metadata, names],
)
def test_examples_in_docstrings(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried
    assert not failed


def test_direct_url_of_a_git_package_gives_its_commit() -> None:
    source = parse_direct_url(
        b'{"url": "https://me:secret@git.example.com/a.git", "subdirectory": "sub",'
        b' "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef0123456789abcdef01234567",'
        b' "requested_revision": "main"}}'
    )
    assert source.to_dict() == {
        "kind": "vcs",
        "url": "https://git.example.com/a.git",
        "vcs": "git",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "requested_revision": "main",
        "subdirectory": "sub",
    }


@pytest.mark.parametrize(
    "information",
    [
        '{"hash": "sha256=00ff"}',
        '{"hashes": {"sha256": "00ff"}}',
        '{"hash": "md5=11", "hashes": {"md5": "11", "sha256": "00ff"}}',
    ],
)
def test_direct_url_of_an_archive_gives_its_hash(information: str) -> None:
    source = parse_direct_url(
        b'{"url": "https://example.com/a.whl", "archive_info": %s}' % information.encode()
    )
    assert (source.kind, source.hash) == ("archive", "sha256:00ff")
