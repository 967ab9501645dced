"""The command line's reference page, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Final

import typer

from sojourn.cli.main import app

STANDARD: Final = ("help", "install_completion", "show_completion")
"""Options that every command or every Typer program has."""


def cli_reference() -> str:
    """Return usage, arguments and options of every command, as Markdown."""
    return "\n".join(_sections(typer.main.get_command(app), None, "sojourn")).rstrip()


def _sections(command: Any, parent: Any, name: str) -> Iterator[str]:
    if command.hidden:
        return
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    children = getattr(command, "commands", {})
    parameters = [p for p in command.params if p.name not in STANDARD and not _hidden(p)]
    yield f"## `{context.command_path}`\n"
    yield from _description(command)
    pieces = ["COMMAND"] if children else [_argument(p) for p in parameters if not _flag(p)]
    options = ["[OPTIONS]"] if any(_flag(p) for p in parameters) else []
    yield f"```text\n{' '.join([context.command_path, *pieces, *options])}\n```\n"
    if parameters:
        yield "| parameter | default | meaning |\n| --- | --- | --- |"
        yield from map(_row, parameters)
        yield ""
    for child_name, child in children.items():
        yield from _sections(child, context, child_name)


def _hidden(parameter: Any) -> bool:
    return bool(getattr(parameter, "hidden", False))


def _flag(parameter: Any) -> bool:
    """Return whether a parameter is an option rather than an argument."""
    return str(parameter.param_type_name) == "option"


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs < 0 else "")
    return name if parameter.required else f"[{name}]"


def _description(command: Any) -> Iterator[str]:
    """Yield the help text; commands after `Try:` become a code block, and text goes on below."""
    text, _, examples = inspect.cleandoc(command.help or "").replace("\b", "").partition("Try:")
    yield _plain(f"{text.strip()}\n")
    parts = [part.splitlines() for part in examples.replace("\\\n", " ").split("\n\n")]
    parts = [[line for line in part if line.strip()] for part in parts]
    commands = list(takewhile(_is_commands, (part for part in parts if part)))
    if commands:
        shown = (" ".join(line.split()) for part in commands for line in part)
        yield "```sh\n" + "\n".join(shown) + "\n```\n"
    for part in [part for part in parts if part][len(commands) :]:
        yield from _text(part)


def _is_commands(part: list[str]) -> bool:
    return all(line.strip().startswith("sojourn ") for line in part)


def _text(part: list[str]) -> Iterator[str]:
    """Yield a paragraph; its indented lines are of a settings file."""
    yield _plain(" ".join(line for line in part if not line.startswith(" "))) + "\n"
    settings = [line.strip() for line in part if line.startswith(" ")]
    if settings:
        yield "```toml\n" + "\n".join(settings) + "\n```\n"


def _row(parameter: Any) -> str:
    if _flag(parameter):
        written = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    else:
        written = f"`{_argument(parameter)}`"
    default = parameter.default
    bare = default is None or default is False or default in ((), []) or callable(default)
    shown = "required" if parameter.required else "" if bare else f"`{default}`"
    return f"| {written} | {shown} | {_plain(parameter.help or '')} |"


def _plain(text: str) -> str:
    """Return help text as Markdown that means the same."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
