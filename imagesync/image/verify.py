"""Verify a built image: compare what a container of it reports with its lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.names import canonical_name, is_same_version
from imagesync.core.progress import Severity, SilentProgress
from imagesync.core.strict_json import load_json
from imagesync.core.text import first_of
from imagesync.engine.run_container import RunRequest
from imagesync.errors import EngineError, VerifyError
from imagesync.image_layout import PREFIX
from imagesync.standalone.programs import program_text

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.lock.lock import Lock

IMPORT_TIMEOUT: Final = 120
"""Seconds that all critical imports together may take."""
_SHOWN = 10


def verify(
    engine: Engine,
    image: str,
    *,
    lock: Lock,
    critical_imports: Sequence[str],
    progress: Progress | None = None,
    new: Sequence[str] | None = None,
    user: str | None = None,
    code_modules: Sequence[str] = (),
) -> Mapping[str, str]:
    """Check that an image holds exactly the packages of its lock, and that they work.

    The interpreter starts as the image's user and has the locked version. The distributions and conda
    packages are those of the lock, with all their files unchanged. The critical packages can be imported,
    every module has an unchecked hash-based .pyc file, and the user can't change the environment.

    Parameters
    ----------
    engine
        The engine that has the image.
    image
        A reference or an ID.
    lock
        The expected packages.
    critical_imports
        Names of modules.
    progress
        Shows the check, and warns of failed post-link scripts.
    new
        The distributions whose files are checked, with the files that they share with others, because the
        image below was verified before; ``None`` for all.
    user
        As ``docker run --user``; ``None`` is the image's own.
    code_modules
        Modules without a package that have to be found; they aren't run.

    Returns
    -------
    Mapping
        The variables that activating the environment adds to those of the image, by running the scripts of
        conda packages. Empty unless *new* is ``None``.

    Raises
    ------
    VerifyError
        The image differs; the message names each difference.
    """
    with (progress or SilentProgress()).task("Checking the image", total=None, unit="steps"):
        selected = "*" if new is None else ",".join(new)
        arguments = (str(PREFIX), str(IMPORT_TIMEOUT), selected, ",".join(code_modules), *critical_imports)
        facts = _facts(engine, image, arguments, user)
        differences = tuple(_differences(facts, lock))
    if differences:
        raise VerifyError(
            "The image that was built isn't what the lock says, and gets no name:\n"
            + "\n".join(f"  {difference}" for difference in differences),
            hint="If a template of your own installs or changes packages, correct it."
            " Otherwise build again with --no-cache.",
        )
    for name in facts["failed_scripts"]:
        (progress or SilentProgress()).line(
            f"the post-link script of the conda package {name} failed in the build,"
            " which has no network; what it sets up is missing in the image",
            Severity.WARNING,
        )
    if lost := facts["lost_files"]:
        (progress or SilentProgress()).line(
            f"{_writers(lost['scripts'])} wrote files outside of {PREFIX}, which aren't"
            f" in the image: {first_of(lost['files'], _SHOWN)}. Make them by the settings `run` or `files`.",
            Severity.WARNING,
        )
    variables: Mapping[str, str] = facts["activation"]
    return variables


def _writers(packages: Sequence[str]) -> str:
    if len(packages) == 1:
        return f"the post-link script of the conda package {packages[0]}"
    return f"a post-link script of {', '.join(packages)} (which one isn't recorded)"


def _facts(engine: Engine, image: str, arguments: Sequence[str], user: str | None) -> Mapping[str, Any]:
    """Return the facts that ``standalone/image/image_facts.py`` reports."""
    command = ("python", "-W", "ignore", "-c", program_text("image.image_facts"), *arguments)
    try:
        result = engine.run(RunRequest(image, command, user=user, timeout=IMPORT_TIMEOUT + 180))
    except EngineError as error:
        raise VerifyError(
            f"The image that was built can't be started: {error.message}", hint=error.hint
        ) from error
    log = result.stderr.decode(errors="replace").strip()[-2000:]
    if result.exit_code != 0:
        raise VerifyError(f"The interpreter of the image ended with {result.exit_code}: {log}")
    try:
        facts = load_json(result.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise VerifyError(f"The interpreter of the image gave no answer. {log}") from error
    assert isinstance(facts, dict)  # noqa: S101  the script prints an object
    return facts


def _differences(facts: Mapping[str, Any], lock: Lock) -> Iterator[str]:
    if facts["version"] != lock.target.python_version:
        yield f"Python is {facts['version']} instead of {lock.target.python_version}"
    if facts["prefix"] != str(PREFIX):
        yield f"the environment is {facts['prefix']} instead of {PREFIX}"
    if facts["user"] == 0:
        yield "the process user is root"
    yield from _conda(facts["conda"], lock)
    yield from _packages(facts["distributions"], lock)
    for name, reason in facts["failed_imports"].items():
        yield f"{name} can't be imported: {reason}"
    yield from _some([f"{name}, which belongs to no package, can't be found" for name in facts["not_found"]])
    yield from _some(facts["damaged"])
    yield from _some([f"{path} has no valid bytecode" for path in facts["without_bytecode"]])
    yield from _some([f"{path} can be changed by the process user" for path in facts["writable"]])


def _conda(records: Sequence[tuple[str, str, str, str]], lock: Lock) -> Iterator[str]:
    expected = {
        package.name: (package.version, package.build, package.artifact.digest.removeprefix("sha256:"))
        for package in lock.conda
    }
    found = {name: (version, build, digest) for name, version, build, digest in records}
    for name in sorted({*expected, *found}):
        if name not in found:
            yield f"the conda package {name} {expected[name][0]} is missing"
        elif name not in expected:
            yield f"the conda package {name} {found[name][0]} is there, and not in the lock"
        elif found[name] != expected[name]:
            yield (
                f"the conda package {name} is {' '.join(found[name][:2])} instead of"
                f" {' '.join(expected[name][:2])}, or of another archive"
            )


def _packages(distributions: Sequence[tuple[str, str, bool]], lock: Lock) -> Iterator[str]:
    expected: dict[str, str] = {package.name: package.version for package in lock.packages}
    expected |= {package.name: package.version for package in lock.vendored}
    found: dict[str, str] = {}
    for name, version, of_conda in distributions:
        canonical = canonical_name(name)
        # Distributions inside conda packages were compared by the records and files of these.
        if of_conda and canonical not in expected:
            continue
        if canonical in found:
            yield f"{canonical} is there twice, as {found[canonical]} and as {version}"
        found[canonical] = version
    for name in sorted({*expected, *found}):
        if name not in found:
            yield f"{name} {expected[name]} is missing"
        elif name not in expected:
            yield f"{name} {found[name]} is there, and not in the lock"
        elif not is_same_version(found[name], expected[name]):
            yield f"{name} is {found[name]} instead of {expected[name]}"


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"... and {len(lines) - _SHOWN} more"
