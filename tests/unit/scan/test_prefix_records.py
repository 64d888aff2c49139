"""conda's records, in the forms that conda, mamba and rattler write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagesync.scan.conda.conda_meta import read_record_files, requested_specs
from imagesync.scan.conda.prefix_records import read_record_file, sha256_of_file
from imagesync.scan.environment import Finding

SITE = "lib/python3.11/site-packages"
SHA = "ab" * 32


def document(**changes: Any) -> dict[str, Any]:
    files = [
        "bin/demo",
        "etc/odd [name]}.txt",
        f"{SITE}/demo_pack-1.0.dist-info/METADATA",
        f"{SITE}/demo_pack/__init__.py",
        f"{SITE}/demo_pack/_vendor/six-1.0.dist-info/METADATA",
    ]
    paths = [{"_path": name, "path_type": "hardlink", "sha256": SHA, "size_in_bytes": 1} for name in files]
    return {
        "name": "demo-pack",
        "version": "1.0",
        "build": "py311h123_0",
        "build_number": 2,
        "channel": "https://conda.anaconda.org/conda-forge/linux-64",
        "constrains": ["other >=2"],
        "depends": ["python >=3.11,<3.12.0a0"],
        "files": files,
        "fn": "demo-pack-1.0-py311h123_0.conda",
        "license": "MIT",
        "link": {"source": "/opt/conda/pkgs/x", "type": 1},
        "md5": "cd" * 16,
        "noarch": None,
        "paths_data": {"paths": paths, "paths_version": 1},
        "requested_spec": "demo-pack >=1",
        "sha256": SHA.upper(),
        "size": 1234,
        "subdir": "linux-64",
        "url": "https://conda.anaconda.org/conda-forge/linux-64/demo-pack-1.0-py311h123_0.conda",
        **changes,
    }


def by_conda(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, separators=(",", ": "))


def by_mamba(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=4, sort_keys=True)


def by_rattler(value: dict[str, Any]) -> str:
    last = {key: value[key] for key in ("requested_spec", "files", "paths_data", "link")}
    return json.dumps({**{key: item for key, item in value.items() if key not in last}, **last}, indent=2)


def compact(value: dict[str, Any]) -> str:
    return json.dumps(value)


def on_windows(value: dict[str, Any]) -> str:
    return by_conda(value).replace("\n", "\r\n")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str) -> str:
        path = tmp_path / "demo-pack-1.0-py311h123_0.json"
        path.write_bytes(text.encode())
        return str(path)

    return written


@pytest.mark.parametrize("form", [by_conda, by_mamba, by_rattler, compact, on_windows])
def test_record_reads_the_same_in_every_form(write: Any, form: Any) -> None:
    found = read_record_file(write(form(document())))
    assert found.record.to_dict() == {
        "name": "demo-pack",
        "version": "1.0",
        "build": "py311h123_0",
        "build_number": 2,
        "channel": "https://conda.anaconda.org/conda-forge",
        "subdir": "linux-64",
        "filename": "demo-pack-1.0-py311h123_0.conda",
        "url": "https://conda.anaconda.org/conda-forge/linux-64/demo-pack-1.0-py311h123_0.conda",
        "sha256": f"sha256:{SHA}",
        "md5": "cd" * 16,
        "size": 1234,
        "noarch": "",
        "requested_spec": "demo-pack >=1",
        "depends": ["python >=3.11,<3.12.0a0"],
        "constrains": ["other >=2"],
        "distributions": ["demo-pack"],
        "license": "MIT",
        "has_post_link": False,
    }
    assert found.metadata == (f"{SITE}/demo_pack-1.0.dist-info",)
    assert set(found.witnesses) <= set(document()["files"])
    assert len(found.witnesses) > 2


def test_metapackage_lists_no_files(write: Any) -> None:
    empty = {"paths": [], "paths_version": 1}
    found = read_record_file(write(by_conda(document(files=[], paths_data=empty))))
    assert (found.metadata, found.witnesses, found.record.distributions) == ((), (), ())
    assert found.record.depends == ("python >=3.11,<3.12.0a0",)


def test_list_after_the_files_is_kept(write: Any) -> None:
    value = {**by_name(), "requested_specs": ["demo-pack"], "track_features": ["x"]}
    assert read_record_file(write(by_mamba(value))).record.requested_spec == "demo-pack"


def by_name() -> dict[str, Any]:
    return {key: item for key, item in document().items() if key != "requested_spec"}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([f"{SITE}/A_b-1.0.dist-info/METADATA", f"{SITE}/c-2.dist-info/METADATA"], ["a-b", "c"]),
        ([f"{SITE}/legacy-1.0-py3.11.egg-info/PKG-INFO"], ["legacy"]),
        ([f"{SITE}/single-1.0-py3.11.egg-info"], ["single"]),
        (["Lib/site-packages/win-1.0.dist-info/METADATA"], ["win"]),
        ([f"{SITE}/h\u00e4-1.dist-info/METADATA"], ["h\u00e4"]),
        (["share/site-packages-of/x-1.0.dist-info/METADATA"], []),
    ],
)
def test_distributions_are_read_from_the_list_of_files(
    write: Any, files: list[str], names: list[str]
) -> None:
    found = read_record_file(write(by_conda(document(files=files))))
    assert list(found.record.distributions) == names


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"noarch": "python"}, "python"),
        ({"noarch": "generic"}, "generic"),
        ({"noarch": True}, "generic"),
        ({"noarch": None, "package_type": "noarch_python"}, "python"),
    ],
)
def test_noarch_python_and_generic_are_told_apart(write: Any, changes: dict[str, Any], expected: str) -> None:
    assert read_record_file(write(by_conda(document(**changes)))).record.noarch == expected


@pytest.mark.parametrize(
    ("changes", "channel", "url"),
    [
        (
            {"url": "https://me:pw@conda.example.com/t/tk-1/team/noarch/x-1-0.conda", "subdir": "noarch"},
            "https://conda.example.com/team",
            "https://conda.example.com/team/noarch/x-1-0.conda",
        ),
        (
            {"url": "", "channel": "https://conda.example.com/t/tk-1/team/linux-64", "fn": "x-1-0.conda"},
            "https://conda.example.com/team",
            "https://conda.example.com/team/linux-64/x-1-0.conda",
        ),
        ({"url": "", "channel": "conda-forge"}, "conda-forge", ""),
        ({"url": "", "channel": "t/tk-1/team"}, "team", ""),
        ({"url": "file:///root/x-1-0.conda", "channel": "<unknown>"}, "", "file:///root/x-1-0.conda"),
        (
            {"url": "https://h.example.com/c/linux-64/x-1-0.conda?sig=tk-1#" + "a" * 32},
            "https://h.example.com/c",
            "https://h.example.com/c/linux-64/x-1-0.conda",
        ),
    ],
)
def test_channels_and_urls_are_without_credentials(
    write: Any, changes: dict[str, Any], channel: str, url: str
) -> None:
    record = read_record_file(write(by_conda(document(**changes)))).record
    assert (record.channel, record.url) == (channel, url)
    assert "tk-1" not in str(record.to_dict())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("None", ""),
        (None, ""),
        ("numpy=1", "numpy=1"),
        ("https://u:pw@h.example.com/t/tk-1/team::numpy", "https://h.example.com/team::numpy"),
    ],
)
def test_requested_spec_is_read_in_all_forms(write: Any, value: str | None, expected: str) -> None:
    record = read_record_file(write(by_conda(document(requested_spec=value)))).record
    assert record.requested_spec == expected


def test_post_link_script_is_recognised(write: Any) -> None:
    assert read_record_file(write(by_conda(document(files=["bin/.demo-post-link.sh"])))).record.has_post_link


@pytest.mark.parametrize("form", [by_conda, by_mamba, by_rattler, compact])
def test_sha256_of_one_file_is_read(write: Any, form: Any) -> None:
    path = write(form(document()))
    assert sha256_of_file(path, f"{SITE}/demo_pack/__init__.py") == SHA
    assert sha256_of_file(path, f"{SITE}/demo_pack/__init__") == ""
    assert sha256_of_file("/nowhere", "x") == ""


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"fn": "../../etc/x-1-0.conda"}, "filename", "x-1-0.conda"),
        ({"fn": "..\\x-1-0.conda"}, "filename", "x-1-0.conda"),
        ({"subdir": "../up"}, "subdir", "linux-64"),
        ({"sha256": "../../x"}, "sha256", ""),
        ({"md5": "none"}, "md5", ""),
        ({"size": "many", "build_number": None, "depends": "x"}, "size", None),
    ],
)
def test_invalid_paths_and_digests_are_dropped(
    write: Any, changes: dict[str, Any], field: str, expected: object
) -> None:
    assert getattr(read_record_file(write(by_conda(document(**changes)))).record, field) == expected


@pytest.mark.parametrize("changes", [{"name": "../x"}, {"version": "1/2"}, {"build": ""}, {"name": 1}])
def test_invalid_name_version_or_build_is_refused(write: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no valid name, version and build"):
        read_record_file(write(by_conda(document(**changes))))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "a", "version": "1"}', '{\n  "files": [\n    "a'])
def test_invalid_record_is_a_finding(write: Any, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever is bad about it
        read_record_file(write(text))


def test_requested_specs_are_read_from_the_history(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "history").write_text(
        "==> 2024-01-01 10:00:00 <==\n# cmd: conda create python numpy\n# conda version: 24.1.0\n"
        "+defaults/linux-64::numpy-1.0-0\n"
        "# update specs: ['python=3.11', 'conda-forge::Numpy[version=\">=1\"]', 'scipy']\n"
        "==> 2024-01-02 10:00:00 <==\n# remove specs: ['scipy']\n# update specs: numpy >=2, pandas\n"
    )
    assert requested_specs(str(tmp_path)) == {
        "python": "python=3.11",
        "numpy": "numpy >=2",
        "pandas": "pandas",
    }
    assert requested_specs(str(tmp_path / "nowhere")) == {}


def aged(path: Path, seconds: float) -> None:
    import os
    import time

    then = time.time() - seconds
    os.utime(path, (then, then))


def test_unchanged_records_come_from_the_cache(tmp_path: Path) -> None:
    folder, cache = tmp_path / "env" / "conda-meta", tmp_path / "cache"
    folder.mkdir(parents=True)
    path = folder / "demo-pack-1.0-0.json"
    many = [f"share/{number}-{'x' * 400}" for number in range(6000)]
    path.write_text(by_conda(document(files=[*document()["files"], *many])))
    findings: list[Finding] = []

    def read() -> Any:
        return read_record_files([str(path)], findings, lambda: cache)

    first = read()
    assert first[0].record.distributions == ("demo-pack",)
    # The change time is of now whatever utime says, so nothing of the last two seconds is remembered.
    (cached,) = cache.iterdir()
    assert json.loads(cached.read_text())["content"] == {}
    value = json.loads(cached.read_text())
    status = path.stat()
    entry = [
        [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino],
        [getattr(first[0].record, name) for name in value["key"][1:]],
        ["from the cache"],
        [],
    ]
    cached.write_text(json.dumps({**value, "content": {path.name: entry}}))
    assert read()[0].metadata == ("from the cache",)
    assert read()[0].record == first[0].record
    path.write_text(by_conda(document(version="2.0", files=many)))
    assert read()[0].record.version == "2.0"
    for damage in ("", "{", "[]", json.dumps({**value, "content": {path.name: [1]}})):
        cached.write_text(damage)
        assert read()[0].record.version == "2.0"
    assert findings == []
