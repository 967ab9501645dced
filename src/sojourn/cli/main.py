"""The `sojourn` command: one verb for each file beside this one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated, Final

import typer

from sojourn import __version__
from sojourn.cli import (
    calibrate,
    catalog,
    compare,
    mode,
    policies,
    recipes,
    replay,
    report,
    rollout,
    serve,
    simulate,
    trace,
)
from sojourn.cli.streams import guarded
from sojourn.errors import UserError

USER_ERROR: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    name="sojourn",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Boxes would cut the engine's long flag names short.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sojourn {__version__}")
        raise typer.Exit


EXAMPLES: Final = """\
\b
Try:
  sojourn compare sample --model llama-3.1-8b --gpu h100-sxm
  sojourn simulate sample --model llama-3.1-8b --gpu h100-sxm --recipe vllm
  sojourn trace info sample
  sojourn recipes
  sojourn policies skip_join_mlfq
"""


def _page(text: str | None, examples: str) -> str:
    """Return a help page: a docstring, then examples with their line breaks kept."""
    return f"{cleandoc(text or '')}\n\n{examples}"


SUMMARY: Final = "Compare LLM-serving schedulers on real traffic, before anything is deployed."


@app.callback(help=_page(SUMMARY, EXAMPLES))
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that come before a verb."""
    del version


VERBS: Final[tuple[tuple[Callable[..., None], str], ...]] = (
    (compare.compare, compare.EXAMPLES),
    (simulate.simulate, simulate.EXAMPLES),
    (calibrate.calibrate, calibrate.EXAMPLES),
    (replay.replay, replay.EXAMPLES),
    (report.report, report.EXAMPLES),
    (recipes.recipes, recipes.EXAMPLES),
    (policies.policies, policies.EXAMPLES),
    (catalog.catalog, catalog.EXAMPLES),
    (mode.mode, mode.EXAMPLES),
)
for verb, examples in VERBS:
    app.command(help=_page(verb.__doc__, examples))(verb)
app.command(help=_page(serve.serve.__doc__, serve.EXAMPLES), context_settings=serve.SETTINGS)(
    serve.serve
)
app.add_typer(rollout.app, name="rollout")
app.add_typer(trace.app, name="trace")


@guarded
def main(words: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    What the user can mend is one sentence on standard error and 2; Ctrl-C is 130. Any other
    exception is a bug and passes through.
    """
    try:
        app(list(words), prog_name="sojourn")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def run() -> None:
    """Run the command line of this process."""
    sys.exit(main(sys.argv[1:]))
