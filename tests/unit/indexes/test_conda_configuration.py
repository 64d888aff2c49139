"""conda's configuration: which files count, in which order, and what channel names stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.errors import ScanError
from imagesync.indexes.conda.channel_access import with_credentials
from imagesync.indexes.conda.conda_configuration import CondaConfiguration, read_conda_configuration
from imagesync.indexes.conda.logins import with_netrc
from imagesync.scan.conda.conda_meta import channels_of
from imagesync.scan.environment import CondaRecord

FORGE = "https://conda.anaconda.org/conda-forge"
Read = Callable[..., CondaConfiguration]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def read(home: Path, tmp_path: Path) -> Read:
    def reading(text: str = "", **environ: str) -> CondaConfiguration:
        if text:
            (home / ".condarc").write_text(text)
        return read_conda_configuration(
            tmp_path / "env", {"HOME": str(home), "USERPROFILE": str(home), **environ}
        )

    return reading


def test_defaults_hold_where_nothing_is_configured(read: Read) -> None:
    configuration = read()
    assert (configuration.channels, configuration.public_urls, configuration.ssl_verify) == ((), (), True)


@pytest.mark.parametrize(
    ("channel", "url"),
    [
        ("conda-forge", FORGE),
        ("conda-forge/linux-64", FORGE),
        ("conda-forge/label/dev", f"{FORGE}/label/dev"),
        ("pkgs/main", "https://repo.anaconda.com/pkgs/main"),
        ("https://conda.example.com/team/", "https://conda.example.com/team"),
        ("https://conda.example.com/team/noarch", "https://conda.example.com/team"),
        ("/srv/channel", "file:///srv/channel"),
    ],
)
def test_channel_names_become_urls(read: Read, channel: str, url: str) -> None:
    assert read(f"channels:\n  - {channel}\n").channels == (url,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "flexible"),
        ("channel_priority: strict", "strict"),
        ("channel_priority: Disabled", "disabled"),
        ("channel_priority: false", "disabled"),
        ("channel_priority: true", "flexible"),
        ("channel_priority: nonsense", "flexible"),
    ],
)
def test_channel_priority_is_read_in_all_forms(read: Read, text: str, expected: str) -> None:
    assert read(text).channel_priority == expected
    assert read(text, CONDA_CHANNEL_PRIORITY="strict").channel_priority == "strict"


def test_pinned_packages_are_read(read: Read) -> None:
    text = "pinned_packages:\n  - numpy 1.26.*\n  - https://me:pass@h.example.com/c::scipy >=1,<2\n"
    pinned = read(text, CONDA_PINNED_PACKAGES="openssl=3&zlib >=1,<2").pinned_packages
    assert pinned == ("openssl=3", "zlib >=1,<2", "numpy 1.26.*", "https://h.example.com/c::scipy >=1,<2")


def test_multichannel_stands_for_its_channels(read: Read) -> None:
    configuration = read(
        "channels: [mine, defaults]\n"
        "default_channels: ['https://h.example.com/main', conda-forge]\n"
        "custom_channels:\n  team: https://me:pw@team.example.com/conda\n"
        "custom_multichannels:\n  mine:\n    - team/dev\n    - other\n    - mine\n"
        "channel_alias: https://alias.example.com/t/tk-1/\n"
    )
    assert configuration.public_urls == (
        "https://team.example.com/conda/team/dev",
        "https://alias.example.com/other",
        "https://alias.example.com/mine",
        "https://h.example.com/main",
        "https://alias.example.com/conda-forge",
    )
    assert configuration.channels[0] == "https://me:pw@team.example.com/conda/team/dev"
    assert "pw" not in repr(configuration)
    assert "tk-1" not in repr(configuration)


def test_channels_of_stronger_files_come_first(read: Read, home: Path, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / ".condarc").write_text("channels: [of-env]\nssl_verify: false\n")
    (home / ".conda" / "condarc.d").mkdir(parents=True)
    (home / ".conda" / "condarc.d" / "a.yml").write_text("channels: [of-folder]\nssl_verify: true\n")
    named = tmp_path / "named"
    named.write_text("channels: [of-condarc]\n")
    configuration = read("channels: [of-home]\n", CONDARC=str(named), CONDA_CHANNELS="of-variable,of-home")
    names = [url.rpartition("/")[2] for url in configuration.channels]
    assert names == ["of-variable", "of-home", "of-condarc", "of-env", "of-folder"]
    assert configuration.ssl_verify is False


def test_condarc_of_the_installation_counts(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "conda"
    (root / "conda-meta").mkdir(parents=True)
    (root / "pkgs").mkdir()
    (root / ".condarc").write_text("channels: [of-root]\n")
    environ = {"HOME": str(home), "USERPROFILE": str(home)}
    configuration = read_conda_configuration(root / "envs" / "mine", environ)
    assert configuration.channels == ("https://conda.anaconda.org/of-root",)
    assert configuration.package_caches == (str(root / "pkgs"),)
    named = read_conda_configuration(tmp_path / "elsewhere", {**environ, "MAMBA_ROOT_PREFIX": str(root)})
    assert named.channels == configuration.channels


def test_variables_in_values_are_expanded(read: Read) -> None:
    configuration = read(
        "channels:\n  - https://$NAME:${WORD}@h.example.com/team\n  - $UNKNOWN/x\n", NAME="me", WORD="pw"
    )
    assert configuration.channels[0] == "https://me:pw@h.example.com/team"
    assert configuration.public_urls[0] == "https://h.example.com/team"


def test_package_caches_are_the_existing_folders(read: Read, home: Path, tmp_path: Path) -> None:
    for folder in (home / "own", home / ".conda" / "pkgs", tmp_path / "a", tmp_path / "b"):
        folder.mkdir(parents=True)
    assert read().package_caches == (str(home / ".conda" / "pkgs"),)
    assert read("pkgs_dirs:\n  - ~/own\n  - /nowhere\n").package_caches == (str(home / "own"),)
    given = read(CONDA_PKGS_DIRS=f"{tmp_path / 'a'}:{tmp_path / 'b'}").package_caches
    assert given == (str(tmp_path / "a"), str(tmp_path / "b"), str(home / "own"))


def test_certificates_and_proxies_are_read(read: Read) -> None:
    configuration = read(
        "ssl_verify: /etc/ca.pem\nclient_ssl_cert: /a\nclient_ssl_cert_key: /b\n"
        "proxy_servers:\n  https: http://me:pw@proxy.example.com:8080\n  http:\n"
    )
    assert (configuration.ssl_verify, configuration.client_cert) == ("/etc/ca.pem", "/a")
    assert configuration.client_cert_key == "/b"
    assert configuration.proxies == {"https": "http://me:pw@proxy.example.com:8080"}
    assert "pw" not in repr(configuration)
    assert read("ssl_verify: no\n").ssl_verify is False


@pytest.mark.parametrize(
    "text",
    [
        "channels:\n  - conda-forge\n  - bioconda  # both\nchannel_priority: strict\n",
        "# mine\n---\nchannels:\n- conda-forge\n- bioconda\n",
        'channels: ["conda-forge", bioconda]\n',
        "{channels: [conda-forge, bioconda], always_yes: true}",
        "channels:\n  - 'conda-forge'\n  - null\n  - bioconda\nplugins:\n  auto: {a: 1}\n",
        "channels: &c\n  - conda-forge\n  - bioconda\nwhitelist_channels: *c\n",
    ],
)
def test_plain_condarc_reads_as_the_yaml_parser_reads_it(read: Read, text: str) -> None:
    assert [url.rpartition("/")[2] for url in read(text).channels] == ["conda-forge", "bioconda"]


@pytest.mark.parametrize(
    "text",
    [
        "channels: [a\n",
        "- a\n- b\n",
        "channels: 'https://me:secret@h/\n",
        "a: b: secret\n",
        f"{{ssl_verify: {'9' * 5000}}}\n",
        "channels: [2001-99-99]\n",
    ],
)
def test_invalid_condarc_is_refused(read: Read, text: str) -> None:
    with pytest.raises(ScanError, match="condarc") as caught:
        read(text)
    assert caught.value.hint == "See what conda says of it: conda config --show-sources"
    assert "secret" not in caught.value.message


def test_unreadable_condarc_is_refused(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / "env" / "condarc.d"
    folder.mkdir(parents=True)
    (folder / "a.yml").write_bytes(b"channels: [\xff]\n")
    with pytest.raises(ScanError, match=r"a\.yml isn't a valid conda configuration file"):
        read()


def record(name: str, channel: str) -> CondaRecord:
    return CondaRecord(name, "1", "0", 0, channel, "noarch", f"{name}-1-0.conda", "")


def test_channels_of_packages_precede_configured_ones(read: Read) -> None:
    configuration = read("channels: [conda-forge, bioconda]\n")
    records = [
        record("a", FORGE),
        record("b", "https://h.example.com/one"),
        record("c", "nvidia"),
        record("d", "https://conda.anaconda.org/nvidia"),
        record("e", ""),
    ]
    assert channels_of(records, configuration) == (
        "https://conda.anaconda.org/nvidia",
        "https://h.example.com/one",
        FORGE,
        "https://conda.anaconda.org/bioconda",
    )
    assert channels_of(records[:1], CondaConfiguration()) == (FORGE,)


def test_credentials_of_a_channel_are_found_for_its_public_url(read: Read, home: Path) -> None:
    tokens = home / ".local" / "share" / "anaconda-client" / "tokens"
    tokens.mkdir(parents=True)
    (tokens / "https%3A%2F%2Fconda.anaconda.org.token").write_text("tk-9\n")
    (home / ".netrc").write_text("machine plain.example.com login me password p@w\n")
    configuration = read(
        "channels:\n  - https://me:pw@h.example.com/team\n  - https://k.example.com/t/tk-1/team\n"
        "custom_channels:\n  own: https://h2.example.com/t/tk-2/conda\n"
    )
    environ = {"HOME": str(home), "USERPROFILE": str(home)}
    opened = {
        "https://h.example.com/team/noarch/a-1-0.conda": "https://me:pw@h.example.com/team/noarch/a-1-0.conda",
        "https://k.example.com/team": "https://k.example.com/t/tk-1/team",
        "https://k.example.com/teamwork": "https://k.example.com/teamwork",
        "https://h2.example.com/conda/own": "https://h2.example.com/t/tk-2/conda/own",
        f"{FORGE}/noarch": "https://conda.anaconda.org/t/tk-9/conda-forge/noarch",
        "https://other.example.com/x": "https://other.example.com/x",
        "https://a:b@h.example.com/team": "https://a:b@h.example.com/team",
    }
    assert {url: with_credentials(configuration, url) for url in opened} == opened
    assert with_netrc("https://plain.example.com/x", environ) == "https://me:p%40w@plain.example.com/x"
    assert "tk-9" not in repr(configuration)
    silent = read("add_anaconda_token: false\n")
    assert with_credentials(silent, FORGE) == FORGE
