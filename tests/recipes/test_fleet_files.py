"""Fleet files: what they say is taken over, and what they cannot say is one clear sentence."""

from __future__ import annotations

import pytest
from fleet_files import MIXED, SPLIT

from sojourn.errors import UserError
from sojourn.recipes.fleet import UNBOUNDED, load_fleet


@pytest.fixture
def read(tmp_path):
    def write(text):
        path = tmp_path / "fleet.toml"
        path.write_text(text)
        return load_fleet(path)

    return write


def test_a_file_is_taken_over_in_full(read):
    plan = read(SPLIT)
    prefill, decode = plan.groups
    assert (prefill.name, prefill.role, prefill.count, prefill.gpu) == (
        *("prefill", "prefill"),
        *(1, "h100-sxm"),
    )
    assert (decode.max_num_seqs, decode.market, decode.recipe) == (64, "spot", None)
    assert (decode.least, decode.most) == (1, UNBOUNDED)
    assert plan.is_split
    (link,) = plan.links
    assert link.between == ("decode", "prefill"), "in alphabetical order, whichever way written"
    assert (link.kind, link.total_gb_per_second, link.bandwidth_gb_per_second) == (
        *("ethernet", 20.0),
        None,
    )
    assert (plan.period_seconds, plan.age_seconds) == (0.1, 0.05)
    assert (plan.policy, plan.attempts) == ("retry", 2)
    assert (plan.most_stages, plan.last_blocks) == (4, 8)
    crash, cut = plan.faults
    assert (crash.kind, crash.at_seconds, crash.group, crash.for_seconds) == (
        *("crash", 20.0),
        *("decode", 5.0),
    )
    assert cut.between == ("decode", "prefill")
    assert plan.slots["route"][0] == "least_load"
    assert plan.slots["route"][1].waiting_weight == 2
    assert set(plan.slots) == {"route"}


def test_a_small_file_has_defaults(read):
    plan = read(MIXED)
    (group,) = plan.groups
    assert (group.name, group.role, group.count, group.least) == ("replica", "mixed", 2, 1)
    assert not plan.is_split
    assert (plan.policy, plan.attempts, plan.slots) == ("resume", 3, {})


def test_a_file_without_a_name_is_called_after_its_path(read):
    assert read("[[replicas]]\ncount = 1\n").name == "fleet"


BAD = [
    ("", "has no replicas: write a [[replicas]] table"),
    ("replica = 3\n" + MIXED, "unknown key in … : did you mean 'replicas'?"),
    ("replicas = 3\n", "replicas is 3; it must be tables, each under [[replicas]]"),
    ("name = 3\n[[replicas]]\n", "name is 3; it must be a text"),
    (MIXED + "cuont = 3\n", "unknown key cuont in … replicas 1 … did you mean 'count'?"),
    (MIXED + 'gpu = "h100-smx"\n', "replicas 1: unknown GPU 'h100-smx': did you mean 'h100-sxm'?"),
    (MIXED + 'role = "decoder"\n', "unknown role in … did you mean 'decode'?"),
    (MIXED + "tensor_parallel = 2.0\n", "tensor_parallel is 2.0; it must be a whole number"),
    (MIXED + "tensor_parallel = true\n", "tensor_parallel is True; it must be a whole number"),
    (MIXED + "tensor_parallel = 16\n", "tensor_parallel is 16; it must be from 1 to 8"),
    (MIXED + "gpu_memory_utilization = 1.5\n", "it must be from 0.01 to 1"),
    (MIXED + "gpu_memory_utilization = nan\n", "it must be a number"),
    (MIXED + "least = 3\n", "count is 2; it must be between least, 3, and most, 1000000"),
    (MIXED + "most = 1\n", "count is 2; it must be between least, 1, and most, 1"),
    (MIXED + 'market = "sport"\n', "unknown market in … did you mean 'spot'?"),
    (MIXED + 'market = "spot"\nprice_per_hour = 2\n', "market has no effect; give one of them"),
    (MIXED + "start_seconds = -1\n", "start_seconds is -1; it must be from 0 to"),
    (MIXED + "start_seconds = 1e-15\n", "it must be 0, or at least 1e-12"),
    (MIXED + "[[replicas]]\n", "two groups of replicas are called 'replica'; rename one"),
    (MIXED + '[[replicas]]\nname = "d"\nrole = "decode"\n', "decode replicas and no prefill"),
    ('[[replicas]]\nrole = "prefill"\n', "prefill replicas and no decode replicas; add a group"),
    ("[[replicas]]\ncount = 0\nleast = 0\n", "no replica takes arrivals at the start"),
    (MIXED + '[[links]]\nkind = "rdma"\n', "between is None; it must name two groups"),
    (MIXED + '[[links]]\nbetween = ["replica"]\n', "it must name two groups, such as"),
    (
        MIXED + '[[links]]\nbetween = ["replica", "decode"]\n',
        "unknown group in … links 1: between 'decode': allowed: replica",
    ),
    (
        MIXED + '[[links]]\nbetween = ["replica", "replica"]\nkind = "nvlnk"\n',
        "unknown kind in … links 1 'nvlnk': did you mean 'nvlink'?",
    ),
    (
        MIXED + '[[links]]\nbetween = ["replica", "replica"]\nbandwidth = 3\n',
        "unknown key bandwidth in … did you mean 'bandwidth_gb_per_second'?",
    ),
    (
        MIXED + '[[links]]\nbetween = ["replica", "replica"]\n' * 2,
        "there is a link between replica and replica already",
    ),
    (MIXED + "[reports]\nperiod = 1\n", "reports.period in … did you mean 'period_seconds'?"),
    (MIXED + "[reports]\nage_seconds = 1\n", "age_seconds needs reports.period_seconds"),
    (MIXED + "[[reports]]\n", "reports is [{}]; it must be a table, [reports]"),
    (MIXED + '[lost]\npolicy = "resumed"\n', "unknown lost.policy in … did you mean 'resume'?"),
    (MIXED + "[lost]\nattempts = -1\n", "lost.attempts is -1; it must be from 0 to 1000"),
    (MIXED + "[migration]\nmost_stages = 0\n", "migration.most_stages is 0; it must be from 1"),
    (MIXED + "[[faults]]\nat_seconds = 3\n", "unknown kind in … faults 1 'None'"),
    (MIXED + '[[faults]]\nkind = "crsh"\n', "faults 1 'crsh': did you mean 'crash'?"),
    (MIXED + '[[faults]]\nkind = "crash"\n', "at_seconds is missing; say when the crash happens"),
    (
        MIXED + '[[faults]]\nkind = "crash"\nat_seconds = 1\nnotice_seconds = 9\n',
        "unknown key of a crash fault in … 'notice_seconds'",
    ),
    (
        MIXED + '[[faults]]\nkind = "crash"\nat_seconds = 1\nreplica = 2\n',
        "replica is 2; the fleet begins with 2, 0 to 1",
    ),
    (
        MIXED + '[[faults]]\nkind = "crash"\nat_seconds = 1\nreplica = 1\ngroup = "replica"\n',
        "give replica, or the group to draw one from, not both",
    ),
    (
        MIXED + '[[faults]]\nkind = "spot"\nat_seconds = 1\ngroup = "replicas"\n',
        "unknown group in … 'replicas': did you mean 'replica'?",
    ),
    (MIXED + '[[faults]]\nkind = "slow"\nat_seconds = 1\n', "factor must be given, above 1"),
    (MIXED + '[[faults]]\nkind = "cut"\nat_seconds = 1\n', "between is None"),
    (MIXED + '[route]\npolicy = "least"\n', "unknown route policy in … did you mean 'least_load'"),
    (MIXED + "[route]\nwaiting = 3\n", "unknown parameter route.waiting in"),
    (MIXED + '[place]\npolicy = "least_loaded"\n', "all replicas are mixed; give roles"),
    (MIXED + "[roles]\nprefill_share = 0.5\n", "unknown key in … 'roles'"),
    ("[[replicas]\n", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_what_cannot_be_is_refused_in_one_sentence(read, text, sentence):
    with pytest.raises(UserError) as refusal:
        read(text)
    said = str(refusal.value)
    assert all(part in said for part in sentence.split(" … ")), said
    assert "\n" not in said
    assert "fleet.toml" in said


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"cannot read 'nope\.toml'"):
        load_fleet("nope.toml")
