from __future__ import annotations

from pathlib import Path

from imagesync.core.user_folders import home_folder, native_config_folder, xdg_config_folder

BOTH = {"HOME": "/home/me", "USERPROFILE": "/Users/me"}


def test_home_folder_is_named_by_the_variable_of_the_platform() -> None:
    assert home_folder(BOTH, "linux") == Path("/home/me")
    assert home_folder(BOTH, "win32") == Path("/Users/me")
    assert home_folder({"HOME": ""}) == Path.home()


def test_configuration_folder_is_that_of_the_platform() -> None:
    assert xdg_config_folder(BOTH, "darwin") == Path("/home/me/.config")
    assert native_config_folder(BOTH, "darwin") == Path("/home/me/Library/Application Support")
    assert xdg_config_folder({**BOTH, "XDG_CONFIG_HOME": "/etc/mine"}, "linux") == Path("/etc/mine")
    assert xdg_config_folder(BOTH, "win32") == Path("/Users/me/AppData/Roaming")
