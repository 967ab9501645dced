"""The published errors hold: the catalogue's factors against the measured tables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import OVERLAPPED, Roofline

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SOJOURN_MEASURED", ROOT.parent / "shared" / "data" / "measured"))

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(),
    reason="measured tables absent: set SOJOURN_MEASURED to their folder (see PROVENANCE.md there)",
)


def test_catalogue_factors_are_the_printed_ones() -> None:
    from benchmarks.cost_fidelity.fit_shares import from_aiconfigurator, from_llmservingsim

    for name, derive in (
        ("h100-sxm", from_aiconfigurator),
        ("h200", from_aiconfigurator),
        ("a100-80g", from_aiconfigurator),
        ("l40s", from_aiconfigurator),
        ("rtx-4090", from_llmservingsim),
    ):
        gpu = load_gpu(name)
        for key, value in derive(DATA, name)[0].items():
            assert getattr(gpu, key) == pytest.approx(value, rel=0.01, abs=1e-15), key


def test_decode_steps_match_the_served_ones_on_h200() -> None:
    from benchmarks.cost_fidelity.served import errors, points

    chosen = points(DATA, "meta-llama/Llama-3.1-70B", "h200_sxm")
    few = [point for point in chosen if point.users <= 8 and point.output <= 1024]
    found = errors(few, OVERLAPPED)
    assert len(few) >= 8
    assert median(abs(tpot) for _, tpot in found) < 0.08


def test_the_mixed_term_mends_the_sum_of_parts() -> None:
    from benchmarks.cost_fidelity import tables

    rows = tables.rtx_attention(DATA, tables.RTX["rtx-pro-6000"][0])
    cost = Roofline(load_model("llama-3.1-8b"), load_gpu("rtx-pro-6000"))
    mixed = (rows["chunk"] >= 512) & (rows["decodes"] >= 32) & (rows["kv"] >= 1024)
    errors = []
    for index in np.flatnonzero(mixed)[::5]:
        chunk, prior = int(rows["chunk"][index]), int(rows["prior"][index])
        decodes = int(rows["decodes"][index])
        context = decodes * int(rows["kv"][index])
        pairs = chunk * prior + chunk * (chunk + 1) // 2
        attention = cost.step(chunk, pairs, prior, 1, decodes, context)
        attention -= cost._dense[chunk + decodes] + cost._head[decodes + 1]
        errors.append(abs(attention / 32 / 1e12 / rows["seconds"][index] - 1))
    assert median(errors) < 0.25


def test_the_page_shows_the_table_of_the_command() -> None:
    page = (ROOT / "docs" / "reference" / "cost-model.md").read_text(encoding="utf-8")
    assert "python -m benchmarks.cost_fidelity" in page
    assert re.search(r"\| Llama-3.1-70B fp8, h200, TP 2 to 8 \| 30 \| \d", page)
