"""The builder: an image gets its names when it has passed its check, all of them or none."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import ContextFile
from imagesync.engine.client import connect
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.images import EngineImage
from imagesync.engine.run_container import RunRequest
from imagesync.errors import BuildError, EngineError, VerifyError
from imagesync.image.builder import build_image
from imagesync.image.built_image import Image
from imagesync.image.image_context import BuildContext
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Deviation, Lock, Target
from tests.integration.tiny_image import REFERENCE

pytestmark = pytest.mark.engine
STEPS = "RUN cat /proc/sys/kernel/random/uuid >/made"
MakeContext = Callable[..., BuildContext]
Build = Callable[..., Image]


@pytest.fixture
def engine(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("IMAGESYNC_CACHE_DIR", str(tmp_path / "cache"))
    with Engine(endpoint) as engine:
        yield engine


@pytest.fixture
def token() -> str:
    """Return what makes a test's images its own: part of their names, and a layer."""
    return secrets.token_hex(4)


@pytest.fixture
def make_context(token: str) -> MakeContext:
    """Return a factory of contexts with the given steps on a base of 2 MB."""

    def make(steps: str = STEPS, *, tag: str = "1") -> BuildContext:
        text = f"FROM {REFERENCE}\nLABEL test.token={token}\nENV TOKEN={token}\n{steps}\n".encode()
        target = Target(LINUX_AMD64, "3.11.2", (2, 36))
        return BuildContext(
            files=(ContextFile("Dockerfile", text, len(text)),),
            base=BaseImage(
                reference=REFERENCE,
                root=REFERENCE,
                digest="sha256:" + "1" * 64,
                image_id="sha256:" + "1" * 64,
                python_version=target.python_version,
                python_executable="/usr/bin/python3",
                glibc=target.glibc,
                base_hash="sha256:" + "2" * 64,
            ),
            lock=Lock(target, (), (), (Deviation("a", "1", "2", Level.COMPATIBLE, "it differs"),)),
            environment_hash="sha256:" + "3" * 64,
            labels={},
            name=f"imagesync-test-{token}:{tag}",
        )

    return make


@pytest.fixture
def build(engine: Engine, token: str) -> Iterator[Build]:
    """Return `build_image` on this engine, with a check that finds nothing; at the end what it made goes."""

    def build(
        context: BuildContext, *, verify: Callable[[str], None] = lambda _: None, **options: object
    ) -> Image:
        return build_image(context, engine=engine, verify=verify, progress=SilentProgress(), **options)  # type: ignore[arg-type]

    yield build
    for image in images(engine, token):
        engine.remove(image)


def images(engine: Engine, token: str) -> list[str]:
    """Return the IDs of a test's images, those without a name included."""
    with closing(connect(engine.endpoint)) as api:
        return [image["Id"] for image in api.images(filters={"label": f"test.token={token}"})]


def inspected(engine: Engine, reference: str) -> EngineImage:
    image = engine.inspect(reference)
    assert image is not None
    return image


def made(engine: Engine, reference: str) -> bytes:
    return engine.run(RunRequest(reference, ("cat", "/made"))).stdout


def fail(_: str) -> None:
    raise VerifyError("the check fails")


def interrupt(_: str) -> None:
    raise KeyboardInterrupt


def test_all_names_are_given_to_what_was_checked(
    engine: Engine, build: Build, make_context: MakeContext, token: str
) -> None:
    checked = []

    def check(image_id: str) -> None:
        # It runs, and nobody can take it for good yet.
        assert made(engine, image_id)
        checked.append(inspected(engine, image_id))

    context = make_context()
    extra = (f"imagesync-test-{token}:latest", f"127.0.0.1:5000/imagesync-test/{token}:a.b_c")
    image = build(context, verify=check, extra_tags=extra)
    assert [before.tags for before in checked] == [()]
    assert image.image_id == checked[0].image_id
    for reference in (context.name, *extra):
        assert inspected(engine, reference).image_id == image.image_id
    assert image.reference == context.name
    assert image.lock_digest == context.lock.digest
    assert image.environment_hash == context.environment_hash
    assert not image.cached
    assert [deviation["reason"] for deviation in image.deviations] == ["it differs"]


@pytest.mark.parametrize(("verify", "error"), [(fail, VerifyError), (interrupt, KeyboardInterrupt)])
def test_image_that_does_not_pass_is_removed(
    engine: Engine,
    build: Build,
    make_context: MakeContext,
    token: str,
    verify: Callable[[str], None],
    error: type[BaseException],
) -> None:
    context = make_context()
    with pytest.raises(error):
        build(context, verify=verify, extra_tags=(f"imagesync-test-{token}:latest",))
    assert images(engine, token) == []
    assert engine.inspect(context.name) is None


def test_failing_check_leaves_what_was_there(
    engine: Engine, build: Build, make_context: MakeContext, token: str
) -> None:
    good = build(make_context())
    # The same content from the builder's cache, and so the same image on Docker.
    with pytest.raises(VerifyError):
        build(make_context(tag="2"), verify=fail)
    with pytest.raises(VerifyError):
        build(make_context("RUN echo other >/made"), verify=fail)
    assert images(engine, token) == [good.image_id]
    assert inspected(engine, good.reference).image_id == good.image_id


def test_failing_step_leaves_nothing(
    engine: Engine, build: Build, make_context: MakeContext, token: str
) -> None:
    with pytest.raises(BuildError, match="exit code 3"):
        build(make_context("RUN exit 3"), verify=fail)
    if engine.info().name == "Podman":
        # Its builder's cache shows as images without a name.
        assert [tag for image in images(engine, token) for tag in inspected(engine, image).tags] == []
    else:
        assert images(engine, token) == []


@pytest.mark.parametrize("refused", ["NAME@sha256:" + "0" * 64, "NAME:" + "x" * 200, "UPPER CASE:1", ""])
def test_refused_name_takes_the_others_back(
    engine: Engine, build: Build, make_context: MakeContext, token: str, refused: str
) -> None:
    name = f"imagesync-test-{token}"
    before = build(make_context("RUN echo before >/made"), extra_tags=(f"{name}:moved",))
    with pytest.raises(EngineError):
        build(make_context(), extra_tags=(f"{name}:new", f"{name}:moved", refused.replace("NAME", name)))
    for reference in (before.reference, f"{name}:moved"):
        assert inspected(engine, reference).image_id == before.image_id
    assert engine.inspect(f"{name}:new") is None
    assert images(engine, token) == [before.image_id]


def test_no_cache_runs_every_step_again(engine: Engine, build: Build, make_context: MakeContext) -> None:
    first = build(make_context())
    content = made(engine, first.reference)
    again = build(make_context(tag="2"))
    assert made(engine, again.reference) == content
    anew = build(make_context(tag="3"), no_cache=True)
    assert made(engine, anew.reference) != content
    assert made(engine, first.reference) == content
