"""The command line's reference page, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
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
    """Yield the help text; examples after `Try:` become a code block."""
    text, _, examples = inspect.cleandoc(command.help or "").replace("\b", "").partition("Try:")
    yield _plain(f"{text.strip()}\n")
    lines = examples.replace("\\\n", " ").splitlines()
    commands = [" ".join(line.split()) for line in lines if line.strip()]
    if commands:
        yield "```sh\n" + "\n".join(commands) + "\n```\n"


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
