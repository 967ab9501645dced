"""Our `vllm` recipe makes the plans of vLLM's own scheduler class, step by step.

`vllm_sweep.py` runs the same comparison over as many seeds and limits as one has time for.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from types import ModuleType

import pytest
from plan_families import FAMILIES, cases, make_case, odd_cases
from plan_rows import Comparison

from sojourn.engine.blocks import BlockPool
from sojourn.policies.victim.last_in import LastIn

pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vllm is not installed here; its CPU build is enough to compare plans",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's and PyTorch's own, not ours
]

SEEDS = range(3)
EVERY = 53
"""Of the 540 combinations of seeds and limits of a family, one in so many is run here."""

PREEMPTING = ("decode-heavy", "mixed", "preempting", "few-prompts", "shared-bursts", "ties")
SHARING = ("chains", "few-prompts", "shared-bursts", "ties")


@pytest.fixture(scope="module")
def vllm_stub() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("vllm_stub")


@pytest.mark.parametrize("family", FAMILIES)
def test_plans_equal_vllm(vllm_stub, family):
    total = Comparison()
    for case in chain(cases(family, SEEDS, EVERY), odd_cases(family, range(4))):
        one = vllm_stub.compare(case)
        assert not one.differences, f"{case.name}: {one.told}"
        total.add(one)
    assert total.preempted or family not in PREEMPTING, "a family that no longer preempts"
    assert total.cached or family not in SHARING, "a family that no longer shares"


def first_in(self, pressure, wants, now, victim=LastIn.victim):
    seated = list(pressure.seated_last_first())
    last = victim(self, pressure, wants, now)
    return last._replace(request=seated[-1]) if last else None


def find_nothing(self, request):
    return 0, [], 0


def beginning_before_end(self, request, tokens, again, release=BlockPool.release):
    lease = self.leases.get(request.id)
    if lease is not None:
        lease.runs.reverse()
    release(self, request, tokens, again)


def spare_block(self, request, tokens, reserve, admit=BlockPool.admit):
    return admit(self, request, tokens, reserve + 1)


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (LastIn, "victim", first_in),
        (BlockPool, "find", find_nothing),
        (BlockPool, "release", beginning_before_end),
        (BlockPool, "admit", spare_block),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_comparison_notices(vllm_stub, monkeypatch, owner, name, wrong):
    monkeypatch.setattr(owner, name, wrong)
    drawn = [
        make_case("few-prompts", seed, (16, 16, 128), memory, caching=True)
        for seed in range(2)
        for memory in ("tight", "minimal")
    ]
    assert any(vllm_stub.compare(case).differences for case in drawn)
