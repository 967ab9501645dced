"""The order of the rows near saturation, on a part of the published setting."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.replications import settings
from benchmarks.replications.experiment import draw, measure, setup

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
SETTINGS = settings.read(ROOT / "benchmarks" / "replications" / "fastserve.toml")
LONG = next(work for work in SETTINGS.workloads if work.name == "long")

needs_lengths = pytest.mark.skipif(
    not (DATA / LONG.lengths).is_file(), reason="the lengths are not part of the repository"
)


@needs_lengths
def test_fastserve_beats_the_old_engine_and_more_seats_beat_both():
    workload = draw(replace(LONG, requests=600), DATA, seed=1)
    latency = {
        name: measure(workload, setup(SETTINGS, SETTINGS.row(name)), rate=2.2).per_token
        for name in ("v0", "ideal", "stock256")
    }
    assert latency["stock256"] < latency["ideal"] < latency["v0"]


def test_every_claim_names_a_row_a_workload_and_a_rate_that_are_run():
    works = {work.name: work for work in SETTINGS.workloads}
    for claim in SETTINGS.claims:
        assert claim.rate in works[claim.workload].rates
        assert SETTINGS.row(claim.lower) != SETTINGS.row(claim.higher)
