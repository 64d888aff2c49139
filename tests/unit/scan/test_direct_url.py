"""What a direct_url.json may have git fetch, and what it may not, with a real git."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesync.core.names import Level, canonical_name
from imagesync.errors import WheelError
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.distributions.direct_url import refusal
from imagesync.scan.environment import Environment, Severity, Source
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from imagesync.wheels.sources.build_copy import copy_for_build
from imagesync.wheels.sources.origin import fetch_source
from imagesync.wheels.sources.source_tree import source_files
from tests.commands import clean_environ, git

COMMIT = "a" * 40


def repository(folder: Path, files: dict[str, str] | None = None) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, text in (files or {"pyproject.toml": ""}).items():
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def planned(
    url: str, commit: str = COMMIT, *, vcs: str = "git", subdirectory: str | None = None
) -> PlannedPackage:
    return PlannedPackage(
        name=canonical_name("mine"),
        version="1.0",
        level=Level.EXACT,
        specifier="==1.0",
        reason="",
        source=Source("vcs", url=url, vcs=vcs, commit=commit, subdirectory=subdirectory),
    )


def install(prefix: Path, name: str, source: dict[str, object], *, record: bool = False) -> None:
    folder = prefix / "lib/python3.11/site-packages" / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "INSTALLER").write_text("pip")
    (folder / "WHEEL").write_text("Root-Is-Purelib: true\nTag: py3-none-any\n")
    (folder / "direct_url.json").write_text(json.dumps(source))
    if record:
        (folder / "RECORD").write_text("")


def of_git(url: str, commit: str = COMMIT, **more: str) -> dict[str, object]:
    return {"url": url, "vcs_info": {"vcs": "git", "commit_id": commit}, **more}


def scanned(prefix: Path) -> Environment:
    return scan(prefix=prefix, environ=clean_environ())


HOSTILE_URLS = [
    "--upload-pack=touch {file};",
    "-u{file}",
    "ext::sh -c 'touch {file}'",
    "ext://sh -c touch% {file}",
    "ssh://-oProxyCommand=touch% {file}/code.git",
    "ssh://-oProxyCommand=x@example.com/code.git",
    "ssh://git@-oProxyCommand=x/code.git",
    "git@-oProxyCommand=x:code.git",
    "ssh://%2doProxyCommand=touch%20{file}/code.git",
    "ssh://git@%2DoProxyCommand=x/code.git",
    "ssh://%2doProxyCommand=x@example.com/code.git",
    "ssh://git%40-oProxyCommand=x/code.git",
    "ssh://[-oProxyCommand=x]/code.git",
    "ssh://%5b-oProxyCommand=x%5d/code.git",
    "ssh://a:b@-x@example.com/code.git",
    "ssh://example.com:-oProxyCommand=x/code.git",
    "ssh://example.com%0a/code.git",
    "git@[-oProxyCommand=x]:code.git",
    "git@[-oProxyCommand=x:22]:code.git",
    "git@%2doProxyCommand=x:code.git",
    "a@ext::touch {file}",
    "https://[x/code",
    "http://[::1/code",
    "https:///code",
    "git@example.com:--upload-pack=x",
    "git+https://example.com/code.git",
    "fd::7",
    "hg+https://example.com/code",
    "https://example.com/code.git\nhost=other.example.com",
    "file://code.git",
    "code.git",
    "",
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_hostile_urls_are_refused_before_git_runs(url: str, tmp_path: Path) -> None:
    file = tmp_path / "FILE"
    with pytest.raises(
        WheelError, match=r"mine 1\.0 isn't fetched from where it was installed from: its URL"
    ) as error:
        fetch_source(planned(url.format(file=file)), tmp_path / "into")
    assert "--ignore mine" in (error.value.hint or "")
    assert not file.exists()
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    "commit",
    ["--upload-pack=touch FILE", "main", "a" * 39, "a" * 41, "", "-" * 40, "a" * 40 + "\n", "g" * 40],
)
def test_commit_that_is_no_hexadecimal_digest_is_refused(commit: str, tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="its commit"):
        fetch_source(planned("https://example.com/code.git", commit), tmp_path / "into")


@pytest.mark.parametrize("folder", ["../other", "/etc", "a/../../b", "..\\x", "C:\\x", "a\nb"])
def test_subdirectory_outside_the_tree_is_refused(folder: str) -> None:
    assert "isn't in the tree" in (refusal("git", "https://example.com/x", COMMIT, folder) or "")


@pytest.mark.parametrize("vcs", ["hg", "svn", "bzr", "--version"])
def test_source_under_other_version_control_is_refused(vcs: str, tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="only git's can be fetched"):
        fetch_source(planned("https://example.com/code", vcs=vcs), tmp_path / "into")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/team/code.git",
        "http://example.com:8080/code",
        "ssh://git@example.com:2222/team/code.git",
        "git://example.com/code",
        "file:///srv/my%20code",
        "git@example.com:team/code.git",
        "me_1@[::1]:code.git",
        "git@[example.com:2222]:code.git",
        "https://me:se%40cret@example.com/code.git?ref=x",
        "ssh://git@[fe80::1]:22/code.git",
        "ssh://git@my_host-1.example.com/~me/code.git",
        "https://bücher.example/code",
    ],
)
def test_usual_urls_are_accepted(url: str) -> None:
    assert refusal("git", url, "0123456789abcdefABCD" * 2, "python/pkg") is None
    assert refusal("git", url, "f" * 64) is None


def test_refused_source_is_a_finding_and_the_scan_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "FILE"
    install(tmp_path, "evilurl", of_git(f"--upload-pack=touch {file};"))
    install(tmp_path, "evilcommit", of_git("https://example.com/x.git", f"--upload-pack=touch {file}"))
    install(tmp_path, "evilfolder", of_git("https://example.com/x.git", subdirectory="../.."))
    install(tmp_path, "recorded", of_git("ext::sh -c x"), record=True)
    install(tmp_path, "fine", of_git("https://example.com/x.git"), record=True)
    environment = scanned(tmp_path)
    found = {finding.package: finding for finding in environment.findings if finding.code == "source-refused"}
    assert set(found) == {"evilurl", "evilcommit", "evilfolder", "recorded"}
    assert {name for name, each in found.items() if each.severity is Severity.ERROR} == set(found) - {
        "recorded"
    }
    for name, finding in found.items():
        assert (finding.path or "").endswith(f"{name}-1.0.dist-info/direct_url.json")
        assert finding.hint
    sources = {package.name: package.source for package in environment.packages}
    # Nothing of what was refused goes on to later stages.
    assert sources["evilurl"].url is sources["evilurl"].commit is None
    plan = make_plan(environment, settings=Settings(profile="none"))
    reasons = {package.name: package.reason for package in plan.packages}
    assert set(reasons) == {"python", "recorded", "fine"}
    assert "from its installed files" in reasons["recorded"]
    assert "gets the very commit" in reasons["fine"]
    assert {package.name for package in plan.left_out} == {"evilurl", "evilcommit", "evilfolder"}
    assert {finding.package for finding in plan.findings if finding.code == "source-refused"} == set(found)
    assert not file.exists()


def test_commit_is_fetched_from_a_local_repository(tmp_path: Path) -> None:
    served = repository(tmp_path / "my code", {"pyproject.toml": "one"})
    commit = git(served, "rev-parse", "HEAD")
    (served / "pyproject.toml").write_text("two")
    git(served, "commit", "-qam", "second")
    folder = fetch_source(planned(served.as_uri(), commit), tmp_path / "into")
    assert (folder / "pyproject.toml").read_text() == "one"


def test_annotated_tag_stands_for_its_commit(tmp_path: Path) -> None:
    served = repository(tmp_path / "served", {"pyproject.toml": "one"})
    git(served, "tag", "-a", "v1", "-m", "v1")
    (served / "pyproject.toml").write_text("two")
    git(served, "commit", "-qam", "second")
    folder = fetch_source(planned(served.as_uri(), git(served, "rev-parse", "v1")), tmp_path / "into")
    assert (folder / "pyproject.toml").read_text() == "one"
    assert git(folder, "rev-parse", "HEAD") == git(served, "rev-parse", "v1^{commit}")


def test_commit_that_the_repository_lacks_is_named(tmp_path: Path) -> None:
    served = repository(tmp_path / "served")
    with pytest.raises(WheelError, match=f"mine 1.0: git can't get commit {COMMIT}"):
        fetch_source(planned(served.as_uri()), tmp_path / "into")


def test_files_are_checked_out_through_the_users_own_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = repository(
        tmp_path / "served", {"pyproject.toml": "", ".gitattributes": "*.txt filter=caps", "a.txt": "abc"}
    )
    configuration = {"filter.caps.smudge": "tr a-z A-Z", "filter.caps.required": "true"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(configuration)))
    for number, (key, value) in enumerate(configuration.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    folder = fetch_source(planned(served.as_uri(), git(served, "rev-parse", "HEAD")), tmp_path / "into")
    assert (folder / "a.txt").read_text() == "ABC"


def test_submodules_may_not_name_files_of_this_machine(tmp_path: Path) -> None:
    secret = repository(tmp_path / "secret", {"secret.txt": "secret"})
    served = repository(tmp_path / "served")
    git(served, "submodule", "--quiet", "add", secret.as_uri(), "taken")
    git(served, "commit", "-qm", "with a submodule")
    commit = git(served, "rev-parse", "HEAD")
    with pytest.raises(WheelError, match="'file' not allowed"):
        fetch_source(planned(served.as_uri(), commit), tmp_path / "into")
    assert not (tmp_path / "into/taken/secret.txt").exists()


def test_submodules_may_not_run_commands(tmp_path: Path) -> None:
    file = tmp_path / "FILE"
    served = repository(
        tmp_path / "served",
        {
            "pyproject.toml": "",
            ".gitmodules": f'[submodule "x"]\npath = x\nurl = ext::sh -c "touch% {file}"\n'
            f"update = !touch {file}\n",
        },
    )
    git(served, "update-index", "--add", "--cacheinfo", f"160000,{git(served, 'rev-parse', 'HEAD')},x")
    git(served, "commit", "-qm", "with a submodule")
    with pytest.raises(WheelError):
        fetch_source(planned(served.as_uri(), git(served, "rev-parse", "HEAD")), tmp_path / "into")
    assert not file.exists()


def hostile_repository(folder: Path, file: Path) -> Path:
    """Return a project whose git configuration and hooks touch *file* wherever git heeds them."""
    source = repository(folder, {"pyproject.toml": "", "mine.py": "", ".gitattributes": "*.py filter=evil\n"})
    command = f"sh -c 'touch {file}; exit 1'"
    for key in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "filter.evil.clean"):
        git(source, "config", key, command)
    for key in ("filter.evil.smudge", "filter.evil.process", "diff.external", "credential.helper"):
        git(source, "config", key, f"!{command}" if key == "credential.helper" else command)
    git(source, "config", "extensions.partialClone", "origin")
    git(source, "config", "core.repositoryFormatVersion", "1")
    git(source, "config", "remote.origin.url", f"ext::{command}")
    git(source, "config", "remote.origin.promisor", "true")
    git(source, "config", "protocol.ext.allow", "always")
    for hook in ("post-index-change", "post-checkout", "pre-commit", "reference-transaction"):
        path = source / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {file}\n")
        path.chmod(0o755)
    git(source, "config", "core.hooksPath", str(source / ".git/hooks"))
    return source


def test_reading_a_repository_runs_nothing_of_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "FILE"
    source = hostile_repository(tmp_path / "source", file)
    file.unlink(missing_ok=True)
    (tmp_path / "copy").mkdir()
    assert {"pyproject.toml", "mine.py"} <= set(source_files(source))
    staged = copy_for_build(source, tmp_path / "copy")
    assert (staged.folder / ".git").is_dir()
    git(staged.folder, "status")
    assert not file.exists()
