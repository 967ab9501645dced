from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from sojourn.errors import UserError
from sojourn.trace import (
    GenerateSpec,
    SessionSpec,
    TenantSpec,
    build_trace,
    describe_trace,
    generate_trace,
    load_spec,
    read_trace,
    write_trace,
)
from sojourn.trace.arrivals import arrival_times, parse_arrivals, parse_burst, weibull_shape
from sojourn.trace.lengths import Constant, parse_law
from sojourn.trace.spec import spec_of_mapping
from sojourn.trace.streams import stream

SPEC = """
requests = 400
seed = 3
[[tenants]]
name = "chat"
rate = 3
arrivals = "gamma:cv=2"
burst = "on=10,off=50,factor=5"
lengths_from = "sample"
sessions = { turns = "geometric:mean=3", gap = "lognormal:mean=20,p50=8", system_tokens = 100 }
[[tenants]]
name = "batch"
rate = 1
prompt = "lognormal:p50=700,sigma=1,cap=4000"
output = 40
model = "big"
slo_class = "slow"
"""


def one(rate=4.0, requests=20_000, **more):
    return generate_trace(GenerateSpec((TenantSpec("a", rate, **more),), requests=requests))


def test_same_spec_same_bytes_under_any_hash_seed(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    code = (
        "import sys; from sojourn.trace import generate_trace, load_spec, write_trace;"
        "write_trace(generate_trace(load_spec('spec.toml')), sys.argv[1])"
    )
    sums = set()
    for seed in ("0", "7"):
        name = f"{seed}.parquet"
        subprocess.run(
            [sys.executable, "-c", code, name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        sums.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(sums) == 1
    here = generate_trace(load_spec(tmp_path / "spec.toml"))
    assert read_trace(tmp_path / "0.parquet").equals(here)


def test_the_seed_changes_everything_and_one_law_only_itself():
    base = one(requests=200)
    other = generate_trace(GenerateSpec((TenantSpec("a", 4.0),), requests=200, seed=1))
    assert not np.any(base.arrival_seconds == other.arrival_seconds)
    assert not np.array_equal(base.prompt_tokens, other.prompt_tokens)
    fixed = one(requests=200, output=Constant(5))
    assert np.array_equal(base.arrival_seconds, fixed.arrival_seconds)
    assert np.array_equal(base.prompt_tokens, fixed.prompt_tokens)
    assert set(fixed.output_tokens.tolist()) == {5}


def test_fewer_requests_are_a_prefix_of_more():
    assert one(requests=2_000).head(100).equals(one(requests=100))


@pytest.mark.parametrize(
    ("law", "cv"),
    [
        ("poisson", 1.0),
        ("even", 0.0),
        ("gamma:cv=3", 3.0),
        ("gamma:cv=0.5", 0.5),
        ("weibull:cv=2", 2.0),
        ("weibull:shape=0.5", math.sqrt(5)),  # (24 - 2^2) / 2^2
    ],
)
def test_rate_and_burstiness_are_those_asked_for(law, cv):
    stats = describe_trace(one(requests=40_000, arrivals=parse_arrivals(law)))
    assert stats["rate_rps"] == pytest.approx(4.0, rel=0.05)
    assert stats["cv_iat"] == pytest.approx(cv, rel=0.06, abs=1e-6)


def test_weibull_shape_inverts_its_formula():
    for shape in (0.3, 0.8, 1.0, 2.5):
        first, second = math.gamma(1 + 1 / shape), math.gamma(1 + 2 / shape)
        assert weibull_shape(math.sqrt(second / first**2 - 1)) == pytest.approx(shape, rel=1e-6)


def test_a_burst_keeps_the_mean_and_has_its_factor():
    burst = parse_burst("on=10,off=50,factor=5")
    law = parse_arrivals("poisson")
    times = arrival_times(law, 20.0, 6_000.0, stream(0, "x"), burst, 0.0)
    assert len(times) / 6_000 == pytest.approx(20.0, rel=0.02)
    on = times % 60 < 10
    assert (on.sum() / 10) / ((~on).sum() / 50) == pytest.approx(5.0, rel=0.05)
    # Evenly spaced in expected arrivals, so the first on period holds exactly its integral.
    even = arrival_times(parse_arrivals("even"), 1.0, 60.0, stream(0, "x"), burst, 0.0)
    assert int((even < 10 + 1e-9).sum()) == int(10 * 5 * 60 / (5 * 10 + 50))
    shifted = arrival_times(law, 20.0, 6_000.0, stream(0, "x"), burst, 30.0)
    assert np.mean((shifted + 30) % 60 < 10) == pytest.approx(on.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("law", "mean", "middle"),
    [
        ("lognormal:mean=1200,p50=700", 1200, 700),
        ("lognormal:p50=700,sigma=0.5", 700 * math.exp(0.125), 700),
        ("uniform:low=10,high=500", 255, 255),
        ("exponential:mean=20", 20, 20 * math.log(2)),
        ("geometric:mean=5", 5, 4),
        ("37", 37, 37),
    ],
)
def test_laws_have_their_moments(law, mean, middle):
    parsed = parse_law(law, "x")
    drawn = parsed.draw(200_000, stream(0, "law"))
    assert parsed.mean == pytest.approx(mean)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert np.median(drawn) == pytest.approx(middle, rel=0.03)
    assert (
        parse_law("lognormal:mean=90,sigma=2,cap=100", "x").draw(999, stream(0, "c")).max() == 100
    )


def test_joint_lengths_keep_pairs_and_marginal_ones_do_not(tmp_path):
    count = np.arange(1, 400)
    write_trace(
        build_trace(name="p", prompt_tokens=count, output_tokens=count * 2), tmp_path / "p.parquet"
    )
    source = str(tmp_path / "p.parquet")
    joint = one(requests=500, lengths_from=source)
    assert np.array_equal(joint.output_tokens, joint.prompt_tokens * 2)
    apart = one(requests=5000, lengths_from=source, pairing="marginal")
    assert abs(np.corrcoef(apart.prompt_tokens, apart.output_tokens)[0, 1]) < 0.05
    assert set(apart.output_tokens.tolist()) <= set((count * 2).tolist())


def test_sessions_grow_and_share_exactly_what_was_said_before():
    sessions = SessionSpec(
        turns=parse_law("uniform:low=1,high=5", "t"), append=Constant(30), system_tokens=40
    )
    trace = one(requests=300, prompt=Constant(21), output=Constant(9), sessions=sessions)
    size = trace.block_tokens
    assert set(trace.prompt_tokens[trace.turn == 0].tolist()) == {61}
    for row in np.flatnonzero(trace.turn > 0):
        before = row - 1
        assert trace.session[before] == trace.session[row]
        assert trace.prompt_tokens[row] == trace.prompt_tokens[before] + 9 + 30
        assert trace.prefix(row)[: len(trace.prefix(before))].tolist() == (
            trace.prefix(before).tolist()
        )
        assert np.isnan(trace.arrival_seconds[row])
        assert trace.tool_seconds[row] > 0
    assert np.isnan(trace.tool_seconds[trace.turn == 0]).all()
    firsts = [trace.prefix(row).tolist() for row in np.flatnonzero(trace.turn == 0)]
    assert len({tuple(ids[: 40 // size]) for ids in firsts}) == 1
    assert len({ids[40 // size] for ids in firsts}) == len(firsts)


def test_tenants_share_system_blocks_within_but_not_between():
    sessions = SessionSpec(turns=Constant(1), system_tokens=64)
    tenants = tuple(TenantSpec(name, 4.0, sessions=sessions) for name in ("a", "b"))
    trace = generate_trace(GenerateSpec((*tenants, TenantSpec("c", 4.0)), requests=90))
    first = {
        name: {tuple(trace.prefix(row)[:4].tolist()) for row in np.flatnonzero(trace.tenant == k)}
        for k, name in enumerate(trace.tenants)
    }
    assert (len(first["a"]), len(first["b"])) == (1, 1)
    a, b, lone = (set().union(*map(set, first[name])) for name in "abc")
    assert not a & b
    assert not (a | b) & lone
    assert len(first["c"]) > 10


def test_session_rate_is_in_requests_and_contexts_are_bounded():
    sessions = SessionSpec(turns=parse_law("geometric:mean=5", "t"), context_tokens_max=3_000)
    spec = GenerateSpec((TenantSpec("a", 10.0, sessions=sessions),), duration_seconds=2_000)
    trace = generate_trace(spec)
    cut = int(trace.notices[0].split()[0])
    assert (len(trace) + cut) / 2_000 == pytest.approx(10.0, rel=0.08)
    assert int((trace.prompt_tokens + trace.output_tokens).max()) <= 3_000
    assert cut > 0


def test_tenants_carry_their_model_and_class(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    trace = generate_trace(load_spec(tmp_path / "spec.toml"))
    assert (trace.name, len(trace)) == ("spec", 400)
    batch = trace.tenant == trace.tenants.index("batch")
    assert 50 < batch.sum() < 200
    assert set(trace.model[batch].tolist()) == {trace.models.index("big")}
    assert set(trace.slo_class[batch].tolist()) == {trace.slo_classes.index("slow")}
    assert set(trace.session[batch].tolist()) == {-1}
    assert set(trace.output_tokens[batch].tolist()) == {40}
    assert set(trace.models) == {"default", "big"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("requests = 5", "give either tenants or servegen, and not both"),
        ("sed = 1", "unknown key of the spec 'sed': did you mean 'seed'?"),
        ("[[tenants]]\nname='a'\nrat=1", "unknown key of tenant 1 'rat': did you mean 'rate'?"),
        ("[[tenants]]\nname='a'", "tenant 1: it needs a name and a rate"),
        ("[[tenants]]\nname='a'\nrate=0", "tenant 'a': rate is 0; it must be above 0"),
        ("[[tenants]]\nname='a'\nrate='x'", "tenant 1: rate is 'x'; it must be a number"),
        ("[[tenants]]\nname='a'\nrate=1", "say how much to generate"),
        ("tenants = 3", "the spec: tenants is 3; it must be an array of tables"),
        ("tenants = [3]", "tenant 1: it must be a table"),
        ("[[tenants]]\nname='a'\nrate=1\nprompt='gauss:mean=3'", "unknown law for tenant 'a': pr"),
        (
            "[[tenants]]\nname='a'\nrate=1\nprompt='lognormal:mean=3,p5=1'",
            "unknown key of tenant 'a': prompt (lognormal) 'p5': did you mean 'p50'?",
        ),
        ("[[tenants]]\nname='a'\nrate=1\noutput='lognormal:p50=3,sigma=99'", "sigma is 99; it"),
        ("[[tenants]]\nname='a'\nrate=1\noutput=-1", "output: value is -1; it must be from 0"),
        ("[[tenants]]\nname='a'\nrate=1\noutput='uniform:high'", "'high' is not key=number"),
        ("[[tenants]]\nname='a'\nrate=1\narrivals='gama:cv=2'", "did you mean 'gamma'?"),
        ("[[tenants]]\nname='a'\nrate=1\narrivals='gamma'", "gamma needs one of cv and shape"),
        ("[[tenants]]\nname='a'\nrate=1\nburst='on=1,off=2'", "burst: factor is missing; write"),
        (
            "[[tenants]]\nname='a'\nrate=1\nlengths_from='sample'\noutput=3",
            "tenant 'a': give lengths_from or prompt and output, and not both",
        ),
        (
            "[[tenants]]\nname='a'\nrate=1\nsessions={turns=3, gaps=1}",
            "unknown key of sessions of tenant 'a' 'gaps': did you mean 'gap'?",
        ),
        ("seed = ", "not valid TOML"),
        ("[servegen]\nmodel='x'", "servegen: it needs windows, quantiles and model"),
    ],
)
def test_a_bad_spec_is_one_sentence_naming_the_file(tmp_path, text, sentence):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_spec(path)
    assert str(path) in str(error.value)
    assert sentence in str(error.value)


def test_too_much_or_nothing_is_refused():
    tenant = {"name": "a", "rate": 1e9}
    with pytest.raises(UserError, match="asks for more than 20000000 requests"):
        generate_trace(spec_of_mapping({"duration_seconds": 60, "tenants": [tenant]}))
    with pytest.raises(UserError, match="gives no request at all"):
        generate_trace(
            spec_of_mapping({"duration_seconds": 1e-9, "tenants": [{"name": "a", "rate": 1}]})
        )
    with pytest.raises(UserError, match="tenant 'a' is there twice"):
        spec_of_mapping({"requests": 1, "tenants": [{"name": "a", "rate": 1}] * 2})
