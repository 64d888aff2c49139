"""A group of commands that are imported when they are asked for: no command pays for the others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group, some commands of which lie in modules of their own.

    Parameters
    ----------
    lazy
        By name of the command, the module that has it under its own name.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, str], **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command *cmd_name*, or ``None`` where there is none."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            self.add_command(getattr(import_module(self._lazy[cmd_name]), cmd_name))
        return super().get_command(ctx, cmd_name)
