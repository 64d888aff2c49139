"""Templates: which one wins, what changes the digest, and what a broken one is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesync.engine.build_context import dockerfile_quote
from imagesync.errors import RenderError
from imagesync.image.templates import (
    base_stages,
    base_target,
    build_files_digest,
    dockerfile_base,
    render_template,
    shell_quote,
    shipped_templates,
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_users_template_replaces_the_shipped_one(tmp_path: Path) -> None:
    write(tmp_path, "Dockerfile.j2", "FROM {{ base }}")
    assert render_template("Dockerfile.j2", {"base": "debian"}, folder=tmp_path) == "FROM debian\n"


def test_stages_of_a_base_are_found_with_options_and_in_capitals() -> None:
    text = "FROM --platform=linux/amd64 gcc:14 AS Build\nFROM --platform=linux/amd64 debian:12 as RUNTIME\n"
    assert [base_target(text, stage) for stage in ("minimal", "runtime", "build")] == [
        "runtime",
        "runtime",
        "build",
    ]
    unnamed = base_stages("FROM a AS build\nfrom --platform=linux/amd64  b \n", "b", ())
    assert base_target(unnamed, "runtime") == "base"


def test_undefined_value_is_reported_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "Dockerfile.j2", "FROM x\n\nRUN {{ packges }}\n")
    with pytest.raises(RenderError, match=r"'packges' is undefined") as caught:
        render_template("Dockerfile.j2", {}, folder=tmp_path)
    assert f"{path}, line 3" in caught.value.message
    assert "docs/templates.md" in str(caught.value.hint)


def test_syntax_error_is_reported_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "Dockerfile.j2", "FROM x\n{% if %}\n")
    with pytest.raises(RenderError) as caught:
        render_template("Dockerfile.j2", {}, folder=tmp_path)
    assert f"{path}, line 2" in caught.value.message


def test_error_in_an_included_template_names_that_template(tmp_path: Path) -> None:
    write(tmp_path, "Dockerfile.j2", "FROM x\n{% include 'part.j2' %}\n")
    path = write(tmp_path, "part.j2", "\n\n\n{{ 1 // 0 }}\n")
    with pytest.raises(RenderError, match="ZeroDivisionError") as caught:
        render_template("Dockerfile.j2", {}, folder=tmp_path)
    assert f"{path}, line 4" in caught.value.message


def test_missing_template_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "Dockerfile.j2", "FROM x\n{% include 'nowhere.j2' %}\n")
    with pytest.raises(RenderError, match=r"there is no template '?nowhere\.j2") as caught:
        render_template("Dockerfile.j2", {}, folder=tmp_path)
    assert str(path) in caught.value.message


def test_template_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.j2").write_bytes(b"FROM x\xff\n")
    with pytest.raises(RenderError, match="UTF-8"):
        render_template("Dockerfile.j2", {}, folder=tmp_path)


def test_missing_templates_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="nowhere is not there"):
        build_files_digest(tmp_path / "nowhere")
    with pytest.raises(RenderError, match="nowhere is not there"):
        render_template("Dockerfile.j2", {}, folder=tmp_path / "nowhere")


def test_digest_covers_names_and_content_of_the_users_files(tmp_path: Path) -> None:
    digests = [build_files_digest(None), build_files_digest(tmp_path)]
    assert digests[0] == digests[1]
    path = write(tmp_path, "parts/a.j2", "one")
    digests.append(build_files_digest(tmp_path))
    path.write_text("two")
    digests.append(build_files_digest(tmp_path))
    path.rename(tmp_path / "parts/b.j2")
    digests.append(build_files_digest(tmp_path))
    assert len(set(digests[1:])) == 4


def test_digest_ignores_hidden_files_and_the_path_of_the_folder(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, "a.j2", "x")
    write(other, "a.j2", "x")
    write(other, ".git/HEAD", "x")
    write(other, "__pycache__/a.pyc", "x")
    assert build_files_digest(one) == build_files_digest(other)


def test_hit_path_imports_neither_jinja_nor_docker() -> None:
    program = (
        "import sys; from imagesync.image.templates import dockerfile_base;"
        "from imagesync.image.templates import build_files_digest;"
        "from imagesync.image.base import base_hash;"
        "build_files_digest(None); base_hash('sha256:0', dockerfile_base(), ());"
        "print(*sorted({'jinja2', 'docker', 'requests', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=50))
def test_shell_quote_is_one_word_for_a_shell(text: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"printf %s {shell_quote(text)}"], capture_output=True, check=True
    )
    assert done.stdout == text.encode()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_dockerfile_quote_refuses_line_breaks(text: str) -> None:
    with pytest.raises(RenderError, match="line breaks"):
        dockerfile_quote(text)


@given(st.text(st.characters(whitelist_characters='"\\$# {}', max_codepoint=300), max_size=6000))
def test_dockerfile_quote_is_unquoted_by_the_rules_of_dockerfiles(text: str) -> None:
    if set(text) & set("\r\n\0"):
        return
    quoted = dockerfile_quote(text)
    lines = quoted.split("\n")
    assert all(line.endswith("\\") for line in lines[:-1])
    assert all(len(line) < 60000 for line in lines)
    joined = "".join(line[:-1] for line in lines[:-1]) + lines[-1]
    plain, rest = "", joined[1:-1]
    while rest:
        escaped = rest[0] == "\\"
        plain, rest = plain + rest[escaped], rest[1 + escaped :]
    assert plain == text


def test_long_value_is_continued_on_further_lines() -> None:
    assert max(len(line) for line in dockerfile_quote("a1" * 100_000).split("\n")) < 5000


def test_shipped_templates_hold_no_python() -> None:
    assert not list(shipped_templates().rglob("*.py"))


def test_shipped_templates_are_found() -> None:
    assert (shipped_templates() / "Dockerfile.j2").is_file()
    assert dockerfile_base().splitlines()[0].startswith("#")
