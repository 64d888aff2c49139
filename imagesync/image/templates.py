"""Templates, the shipped ones and a user's own, and the programs that run in a build; their digest.

Only rendering imports Jinja: a build that finds its image doesn't need it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from imagesync.engine.build_context import dockerfile_quote
from imagesync.errors import RenderError
from imagesync.standalone.programs import program_modules, program_path, program_text

if TYPE_CHECKING:
    import jinja2

_FROM: Final = re.compile(
    r"^[ \t]*FROM(?:[ \t]+--\S+)*[ \t]+\S+(?:[ \t]+AS[ \t]+(\S+))?[ \t]*$", re.MULTILINE | re.IGNORECASE
)
Stage = Literal["minimal", "runtime", "build"]
"""The stages of ``Dockerfile.base``."""
TEMPLATES: Final = (
    "Dockerfile.j2",
    "image/activate.sh.j2",
    "image/conda.j2",
    "image/profile.sh.j2",
    "image/wheels.j2",
)
"""The templates of the Dockerfile and of what it copies."""
PROGRAMS: Final = ("compile_modules", "install_code", "install_wheels", "restore_conflicts", "run_uv")
"""The programs of ``standalone/image`` that run in every build."""
CONDA_PROGRAMS: Final = ("convert_bytecode", "install_conda")
"""Those that also run in builds with conda packages, beside :data:`RATTLER_INSTALL`."""
RATTLER_INSTALL: Final = Path(__file__).parent / "conda" / "rattler_install.py"


def shipped_templates() -> Path:
    """Return the folder of the shipped templates, in the installed package or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def dockerfile_base(templates: Path | None = None) -> str:
    """Return the text of ``Dockerfile.base``: the one in the user's *templates*, else the shipped one.

    Raises
    ------
    RenderError
        The user's own can't be read.
    """
    own = None if templates is None else templates / "Dockerfile.base"
    if own is not None and own.is_file():
        try:
            return own.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RenderError(f"can't read the template {own}: {error}") from error
    folder = shipped_templates()
    installed = folder / "Dockerfile.base"
    path = installed if installed.is_file() else folder.parent / "Dockerfile.base"
    return path.read_text(encoding="utf-8")


def base_target(dockerfile: str, stage: Stage) -> str:
    r"""Return the name of the stage of a ``Dockerfile.base`` that serves as *stage*; empty if it has none.

    A user's own needn't have all of them: its last stage serves as those that it lacks.

    >>> base_target("FROM a AS runtime\nFROM b AS build\n", "minimal"), base_target("FROM a\n", "build")
    ('runtime', '')
    """
    # Names of stages are case-insensitive, and BuildKit keeps them in lower case.
    names = [name.lower() for name in _FROM.findall(dockerfile)]
    wanted = ("minimal", "runtime") if stage == "minimal" else (stage,)
    return next((name for name in wanted if name in names), names[-1] if names else "")


def base_stages(dockerfile: str, root: str, apt: Sequence[str]) -> str:
    """Return a ``Dockerfile.base`` as the first stages of another Dockerfile.

    A last stage without a name is called ``base``.

    Parameters
    ----------
    dockerfile
        The text of ``Dockerfile.base``.
    root
        The reference of the root image.
    apt
        The system packages that the settings name.
    """
    replaced = {"ARG BASE=": f"ARG BASE={root}", "ARG APT=": f"ARG APT={dockerfile_quote(' '.join(apt))}"}
    lines = [
        next((line for start, line in replaced.items() if old.startswith(start)), old)
        for old in dockerfile.strip().splitlines()
    ]
    named = [(number, found[1]) for number, line in enumerate(lines) if (found := _FROM.match(line))]
    if named and not named[-1][1]:
        lines[named[-1][0]] += " AS base"
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def is_in_parts(folder: Path | None) -> bool:
    """Return True if the Dockerfile can be rendered in two parts, of which environments share the first.

    A user's own Dockerfile that doesn't extend the shipped one is always rendered as a whole.
    """
    if folder is None or not (dockerfile := folder / "Dockerfile.j2").is_file():
        return True
    text = dockerfile.read_text(encoding="utf-8", errors="replace")
    return "imagesync/Dockerfile.j2" in text or "packages_image" in text


def user_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a user's templates folder, sorted, without hidden ones and caches.

    Raises
    ------
    RenderError
        The folder doesn't exist.
    """
    if not folder.is_dir():
        raise RenderError(
            f"the templates folder {folder} is not there",
            hint="Correct `templates` in [tool.imagesync], or make the folder.",
        )

    def visible(path: Path) -> bool:
        parts = path.relative_to(folder).parts
        return not any(part.startswith(".") or part == "__pycache__" for part in parts)

    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and visible(path)))


def template_environment(folder: Path | None) -> jinja2.Environment:
    """Return the Jinja environment: a user's templates first, then the shipped ones.

    The shipped ones can also be named ``imagesync/<name>``, so that a user's ``Dockerfile.j2`` can extend the
    shipped one that it replaces.
    """
    import jinja2

    shipped = jinja2.FileSystemLoader(shipped_templates())
    loaders: list[jinja2.BaseLoader] = [shipped, jinja2.PrefixLoader({"imagesync": shipped})]
    if folder is not None:
        user_files(folder)
        loaders.insert(0, jinja2.FileSystemLoader(folder))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  Dockerfiles aren't HTML; values are quoted by the filters below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shell_quote"] = shell_quote
    environment.filters["dockerfile_quote"] = dockerfile_quote
    environment.filters["yaml_quote"] = yaml_quote
    return environment


def shell_quote(value: object) -> str:
    """Return *value* as one word of a POSIX shell.

    >>> print(shell_quote("two words"))
    'two words'
    """
    return shlex.quote(str(value))


def yaml_quote(value: object) -> str:
    """Return *value* as JSON, which is also YAML.

    >>> print(yaml_quote("1e5"))
    "1e5"
    """
    return json.dumps(value, ensure_ascii=False)


def render_template(name: str, values: Mapping[str, Any], *, folder: Path | None) -> str:
    """Return the rendered text of a template.

    Parameters
    ----------
    name
        Such as ``Dockerfile.j2``.
    values
        The variables of the template (``docs/templates.md``).
    folder
        The user's own templates.

    Raises
    ------
    RenderError
        The template is broken, or uses an undefined value; the message names file and line.
    """
    import jinja2

    environment = template_environment(folder)
    try:
        text = environment.get_template(name).render(values)
    except jinja2.TemplateSyntaxError as error:
        where = f"{error.filename or error.name}, line {error.lineno}"
        raise RenderError(f"{where}: {error.message}", hint=_HINT) from error
    except jinja2.TemplateNotFound as error:
        where = _place(error) or f"rendering {name}"
        raise RenderError(f"{where}: there is no template {error.message}", hint=_HINT) from error
    except RenderError as error:
        raise RenderError(f"{_place(error) or name}: {error.message}", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise RenderError(f"a template isn't UTF-8: {error}", hint=_HINT) from error
    except Exception as error:
        # A template is the user's program, which may raise anything.
        reason = f"{error}" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        raise RenderError(f"{_place(error) or name}: {reason}", hint=_HINT) from error
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


_HINT = "docs/templates.md lists the blocks and the values that a template can use."


def _place(error: BaseException) -> str | None:
    """Return file and line of the innermost template in the traceback of *error*."""
    # Jinja rewrites the traceback: the frames of templates have their file names and lines.
    places = [f"{frame.filename}, line {frame.lineno}" for frame in _template_frames(error)]
    return places[-1] if places else None


def _template_frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.endswith((".py", ".pyc", ">")):
            yield frame


def build_programs(*, conda: bool) -> dict[str, str]:
    """Return the text of each program that runs in a build, by its path in the context.

    Parameters
    ----------
    conda
        Whether the build installs conda packages.
    """
    programs = (*PROGRAMS, *(CONDA_PROGRAMS if conda else ()))
    texts = {f"tools/{name}.py": program_text(f"image.{name}") for name in programs}
    if conda:
        texts[f"tools/{RATTLER_INSTALL.name}"] = RATTLER_INSTALL.read_text(encoding="utf-8")
    return texts


def build_files() -> Iterator[tuple[str, Path]]:
    """Yield name and path of every shipped file that goes into an image or runs in its build, sorted."""
    for name in TEMPLATES:
        yield f"templates/{name}", shipped_templates() / name
    programs = (*PROGRAMS, *CONDA_PROGRAMS)
    for module in sorted({module for name in programs for module in program_modules(f"image.{name}")}):
        yield f"standalone/{module}", program_path(module)
    yield RATTLER_INSTALL.name, RATTLER_INSTALL


def build_files_digest(folder: Path | None) -> str:
    """Return ``sha256:<hex>`` over name and content of all files that shape an image.

    Parameters
    ----------
    folder
        The user's own templates. All files count but hidden ones and those in ``cluster/``, which shape what
        starts an image.

    Raises
    ------
    RenderError
        The user's folder doesn't exist, or can't be read.
    """
    digest = hashlib.sha256()
    for name, path in build_files():
        _update(digest, name, path)
    if folder is not None:
        for path in user_files(folder):
            name = path.relative_to(folder).as_posix()
            if not name.startswith("cluster/"):
                _update(digest, f"user/{name}", path)
    return f"sha256:{digest.hexdigest()}"


def _update(digest: hashlib._Hash, name: str, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RenderError(f"can't read the template {path}: {error.strerror}") from error
    digest.update(f"{len(name)}:{name}{len(content)}:".encode())
    digest.update(content)
