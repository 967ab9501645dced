"""A recorded run, replayed with its own recipe, is the recorded run; what cannot be is said."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from recordings import CLASSES, COST, recorded, sample, saved, sessions

from sojourn.cli.main import main
from sojourn.cli.replay import sentence
from sojourn.cost import Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError
from sojourn.recipes import load_recipe, recipe_names
from sojourn.sim.fidelity import Check, Measure, check_replay
from sojourn.sim.loop import TURN_LOST
from sojourn.sim.replay import make_replay
from sojourn.sim.study import Fleet, Task, run_task
from sojourn.steplog.record import CANCELLED, FINISHED, SHED, UNFINISHED


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def document_of(capsys, tmp_path, log, *words):
    path = tmp_path / "replay.json"
    code, out, err = run(capsys, "replay", log, *words, "--json", path)
    assert code == 0, err
    return json.loads(path.read_text()), out, err


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_replayed_exactly(name, tmp_path, capsys):
    record, source = recorded(sample(), name)
    assert (record.requests.outcome == FINISHED).sum() > 100
    log, cost = saved(tmp_path, record, source)
    document, out, _ = document_of(capsys, tmp_path, log, "--cost", cost)
    assert document["replay"]["exact"], document["replay"]["measures"]
    assert document["replay"]["recorded_recipe"] == name
    assert "reproduces the recorded run exactly" in out
    measures = {one["name"]: one for one in document["replay"]["measures"]}
    assert measures["preemptions"]["simulated"] == record.requests.preemptions.sum()
    assert all(one["ratio"] == 1.0 for one in measures.values() if one["ratio"] is not None)


def test_a_run_under_pressure_was_among_them():
    assert recorded(sample())[0].requests.preemptions.sum() > 0


@pytest.mark.parametrize("seats", [4, 16])
def test_step_times_fitted_to_the_log_itself_do_as_well(seats, tmp_path, capsys):
    log, _ = saved(tmp_path, *recorded(sample(), "fastserve", 0.8, seats=seats, blocks=2000))
    document, out, _ = document_of(capsys, tmp_path, log)
    assert document["replay"]["exact"]
    assert "cost fitted to the log itself" in out


def test_parameters_of_the_recording_are_taken_over(tmp_path, capsys):
    recipe = load_recipe("fastserve", "vllm", [("order", "quantum_base_seconds", "0.3")])
    record, source = recorded(sample(), recipe)
    log, cost = saved(tmp_path, record, source)
    document, _, _ = document_of(capsys, tmp_path, log, "--cost", cost)
    assert document["replay"]["exact"]
    policies = document["results"][0]["policies"]
    assert policies["order"]["quantum_base_seconds"] == 0.3
    stock, _ = recorded(sample(), "fastserve")
    assert not np.array_equal(stock.requests.finish, record.requests.finish)


def test_limits_of_a_recipes_own_are_taken_over(tmp_path, capsys):
    log, cost = saved(tmp_path, *recorded(sample(), "vllm@6x256"))
    document, _, _ = document_of(capsys, tmp_path, log, "--cost", cost)
    assert document["replay"]["exact"]


def test_prefixes_and_replicas_are_replayed_exactly(tmp_path, capsys):
    record, source = recorded(sessions(open_loop=True), replicas=2)
    assert record.requests.cached_tokens.sum() > 0
    log, cost = saved(tmp_path, record, source)
    document, _, err = document_of(capsys, tmp_path, log, "--cost", cost)
    assert document["replay"]["exact"]
    assert document["results"][0]["prefix_hit_share"] > 0
    assert "--closed-loop lets them wait" in err


def test_a_closed_loop_is_replayed_exactly_as_one(tmp_path, capsys):
    record, source = recorded(sessions(open_loop=False))
    log, cost = saved(tmp_path, record, source)
    document, _, err = document_of(capsys, tmp_path, log, "--cost", cost, "--closed-loop")
    assert document["replay"]["exact"]
    assert "after the recorded pause" in err
    # With a slower recipe later turns come later, which at recorded arrivals they cannot.
    ends = {}
    for closed in (False, True):
        made = make_replay(record, "x", record.classes, closed)
        fleet = Fleet(EngineLimits(800, max_num_seqs=2, block_tokens=record.block_tokens,
                                   max_model_len=8192), Fitted(COST))  # fmt: skip
        slow = run_task(made.workload, fleet, Task(load_recipe("vllm"), 1.0))
        ends[closed] = slow.requests.arrival.max()
    assert ends[True] > ends[False]


def test_shed_requests_are_offered_again_with_a_neighbours_answer():
    record, _ = recorded(sample(), "vllm-queue-limit", 30.0, seats=4)
    shed = np.flatnonzero(record.requests.outcome == SHED)
    assert shed.size
    made = make_replay(record, "x", record.classes)
    assert len(made.workload) == len(record.requests.arrival)
    answers = dict(zip(made.rows.tolist(), made.workload.output, strict=True))
    mine = record.requests
    done = np.flatnonzero(mine.outcome == FINISHED)
    for row in shed.tolist():
        least = np.abs(mine.arrival[done] - mine.arrival[row]).min()
        near = done[np.abs(mine.arrival[done] - mine.arrival[row]) == least]
        assert answers[row] in mine.output_tokens[near]
    assert any(f"{shed.size} requests were shed" in text for text in made.notices)


def test_cancelled_and_unfinished_requests_are_cut_to_what_they_had():
    record, _ = recorded(sample(60))
    mine = record.requests
    mine.outcome[:6] = [CANCELLED, CANCELLED, UNFINISHED, UNFINISHED, FINISHED, FINISHED]
    mine.output_tokens[:6] = [5, 0, 7, 0, 9, 0]
    mine.finish[:4] = -1
    made = make_replay(record, "x", record.classes)
    assert made.rows.tolist()[:4] == [0, 2, 4, 6]
    assert made.workload.output[:3] == [5, 7, 9]
    text = " ".join(made.notices)
    assert "2 requests were cancelled: 1 are replayed with the tokens that they had got" in text
    assert "2 requests were cut off by the log's end" in text
    assert "1 requests ended without a token: 1 that had none are left out" in text


def test_turns_that_were_never_sent_are_left_out():
    record, _ = recorded(sample(60))
    record.reasons = (TURN_LOST,)
    record.requests.outcome[3] = SHED
    record.requests.reason[3] = 0
    assert 3 not in make_replay(record, "x", record.classes).rows


def test_a_log_in_which_nothing_finished_is_refused():
    record, _ = recorded(sample(5))
    record.requests.outcome[:] = CANCELLED
    with pytest.raises(UserError, match="no request of 'x' finished"):
        make_replay(record, "x", record.classes)


def test_the_check_is_of_requests_that_finished_in_both():
    record, _ = recorded(sample(80), rate=0.5)
    made = make_replay(record, "x", record.classes)
    slower = Fitted(replace(COST, fixed=2 * COST.fixed, decode=2 * COST.decode))
    fleet = Fleet(EngineLimits(800, max_num_seqs=16, max_model_len=8192), slower)
    again = run_task(made.workload, fleet, Task(load_recipe("vllm"), 1.0))
    again.requests.outcome[0] = SHED
    again.requests.finish[0] = -1
    check = check_replay(record, made, again)
    assert check.requests == 79
    tpot = next(one for one in check.measures if one.name == "mean TPOT")
    tokens = record.requests.output_tokens[1:]
    streams = record.requests.finish[1:] - record.requests.first_token[1:]
    known = tokens > 1
    by_hand = (streams[known] / (tokens[known] - 1)).mean() / 1e12
    assert tpot.recorded == pytest.approx(by_hand, rel=1e-12)
    assert 1.4 < tpot.ratio < 2.5
    assert tpot.median_error > 0.4
    assert not check.exact
    assert check.error >= tpot.ratio - 1


def measured(ratio):
    times = [Measure("mean TTFT", "s", 1.0, ratio), Measure("preemptions", "", 1.0, 9.0)]
    return Check(tuple(times), 10, False)


def test_the_sentence_says_how_far_to_trust_it():
    assert sentence(measured(1.04)).startswith(
        "the replay reproduces the recorded run within 4.0 % (worst: mean TTFT)"
    )
    assert "does not reproduce" in sentence(measured(0.5))
    assert "do not act on the comparison" in sentence(measured(1.6))


def test_another_recipe_is_held_against_the_recorded_one(tmp_path, capsys):
    log, cost = saved(tmp_path, *recorded(sample(), rate=3.0, seats=4))
    files = [word for flag in ("html", "timeline") for word in (f"--{flag}", tmp_path / flag)]
    words = ("--cost", cost, "--recipe", "fastserve,vllm,vllm@64x2048", *files)
    document, out, _ = document_of(capsys, tmp_path, log, *words)
    names = [one["recipe"] for one in document["results"]]
    assert names == ["recorded vllm", "fastserve", "vllm@64x2048"]
    assert out.index("mean TTFT") < out.index("Verdict: ") < out.index("Goodput and SLOs")
    assert "Check: the replay reproduces the recorded run exactly" in out
    # However much better stock with other flags does, the recorded run stays the baseline.
    assert document["verdict"]["by_load"][0]["stock"] == "recorded vllm"
    page = (tmp_path / "html").read_text()
    assert "reproduces the recorded run exactly" in page
    assert json.loads((tmp_path / "timeline").read_text())["traceEvents"]
    again, _, _ = document_of(capsys, tmp_path, log, *words)
    for one in (document, again):
        for row in one["results"]:
            del row["timing"]
    assert again == document


def test_bounds_come_from_the_log_or_the_command_line(tmp_path, capsys):
    log, cost = saved(tmp_path, *recorded(sample()))
    document, _, _ = document_of(capsys, tmp_path, log, "--cost", cost)
    asked = {one["name"]: one for one in document["limits"]["slo_classes"]}
    assert asked["chat"]["ttft"] == 2.0
    words = ("--cost", cost, "--slo-class", "chat:ttft=0.7")
    document, _, _ = document_of(capsys, tmp_path, log, *words)
    asked = {one["name"]: one for one in document["limits"]["slo_classes"]}
    assert (asked["chat"]["ttft"], asked["chat"]["tpot"], asked["batch"]["e2e"]) == (0.7, None, 60)
    code, _, err = run(capsys, "replay", log, "--cost", cost, "--slo-class", "chats:ttft=1")
    assert code == 2
    assert "did you mean 'chat'" in err


def test_shadow_mode_is_replayed_as_stock(tmp_path, capsys):
    from sojourn.steplog.record import DifferenceColumns

    record, source = recorded(sample())
    record.recipe = "fastserve"
    empty = np.empty(0, dtype=np.int64)
    record.differences = DifferenceColumns(empty, empty, empty, empty)
    log, cost = saved(tmp_path, record, source)
    document, _, err = document_of(capsys, tmp_path, log, "--cost", cost)
    assert document["replay"]["exact"]
    assert document["replay"]["recorded_recipe"] == "vllm"
    assert "fastserve ran in shadow mode" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "mine"}, "recipe 'mine', which does not come with Sojourn"),
        ({"limits": {"block_size": 16}}, "does not say what max_num_seqs, max_num_batched_tokens"),
    ],
)
def test_a_log_that_cannot_be_repeated_is_refused(change, message, tmp_path, capsys):
    record, source = recorded(sample(40))
    record.recipe = change.get("recipe", record.recipe)
    log, cost = saved(tmp_path, record, replace(source, limits=change.get("limits", source.limits)))
    code, _, err = run(capsys, "replay", log, "--cost", cost)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_log_too_short_to_fit_asks_for_step_times(tmp_path, capsys):
    log, _ = saved(tmp_path, *recorded(sample(2)))
    code, _, err = run(capsys, "replay", log)
    assert code == 2
    assert "so give --cost: the log holds" in err


def test_the_recorded_recipe_can_be_a_file(tmp_path, capsys):
    own = tmp_path / "mine.toml"
    own.write_text('title = "mine"\n[order]\npolicy = "slo_edf"\n')
    record, source = recorded(sample(), load_recipe(str(own)))
    log, cost = saved(tmp_path, record, source)
    words = ("--cost", cost, "--recorded-recipe", own, "--recipe", "vllm")
    document, _, _ = document_of(capsys, tmp_path, log, *words)
    assert document["replay"]["exact"]
    assert [one["recipe"] for one in document["results"]] == ["recorded mine", "vllm"]


def test_prefix_ids_of_a_real_engine_are_numbered_anew(tmp_path, capsys):
    """They are hashes, half of them below 0, which no id of a trace is."""
    record, source = recorded(sessions(open_loop=True))
    assert record.prefix is not None
    hashes = {}

    def hashed(id):
        low = np.int64(-1) ^ np.int64(id * 0x9E3779B97F4A7C1 % 2**62)
        return hashes.setdefault(id, int(low if id % 2 else -low))

    plain = make_replay(record, "plain", CLASSES).workload
    record.prefix = [tuple(map(hashed, row)) for row in record.prefix]
    assert min(hashes.values()) < 0 < max(hashes.values())
    assert len(set(hashes.values())) == len(hashes)
    again = make_replay(record, "hashed", CLASSES).workload
    ids = [id for row in again.prefix for id in row]
    assert sorted(set(ids)) == list(range(len(set(ids))))
    firsts = list(dict.fromkeys(ids))
    assert firsts == list(range(len(firsts))), "in the order of their first appearance"
    assert again.prefix == plain.prefix
    assert any(len(set(row) & set(other)) for row, other in pairwise(again.prefix))
    log, cost = saved(tmp_path, record, source)
    document, _, _ = document_of(capsys, tmp_path, log, "--cost", cost)
    assert document["replay"]["exact"]


def test_prefix_ids_beyond_the_full_blocks_of_a_prompt_are_left_out():
    record, _ = recorded(sessions(open_loop=True))
    full = [len(row) for row in make_replay(record, "plain", CLASSES).workload.prefix]
    record.prefix = [(*row, -7, -8, -9) for row in record.prefix]
    again = make_replay(record, "longer", CLASSES).workload
    bound = [prompt // record.block_tokens for prompt in again.prompt]
    assert all(len(row) <= most for row, most in zip(again.prefix, bound, strict=True))
    assert [len(row) for row in again.prefix] >= full
