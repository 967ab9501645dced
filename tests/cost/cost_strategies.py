"""Hypothesis strategies: step times of every kind, and the arguments of a step."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

from sojourn.catalog import gpu_names, load_gpu, load_model, model_names
from sojourn.cost import OVERLAPPED, SYNCHRONOUS, Coefficients, Fitted, LinearStep, Roofline


@cache
def roofline(model: str, gpu: str, tensor_parallel: int, synchronous: bool, fp8: bool) -> Roofline:
    facts = load_model(model)
    if fp8:
        facts = replace(facts, weight_bytes=1, kv_bytes=1)
    host = SYNCHRONOUS if synchronous else OVERLAPPED
    return Roofline(facts, load_gpu(gpu), tensor_parallel, host)


rooflines = st.builds(
    roofline,
    st.sampled_from(model_names()),
    st.sampled_from(gpu_names()),
    st.sampled_from((1, 2, 4)),
    st.booleans(),
    st.booleans(),
)

coefficients = st.builds(
    Coefficients,
    fixed=st.floats(1e-6, 1e-1),
    prefill_token=st.floats(0, 1e-3),
    pair=st.floats(0, 1e-6),
    prior_token=st.floats(0, 1e-5),
    prompt=st.floats(0, 1e-3),
    decode=st.floats(0, 1e-3),
    context_token=st.floats(0, 1e-6),
    mixed_context_token=st.floats(0, 1e-6),
    mixed_token_decode=st.floats(0, 1e-6),
)

costs: st.SearchStrategy[LinearStep] = st.one_of(rooflines, st.builds(Fitted, coefficients))


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, int, int, int, int, int]:
    """The arguments of `StepTime.step`: chunks with their pairs and priors, beside decodes."""
    chunks = draw(
        st.lists(st.tuples(st.integers(1, 2048), st.integers(0, 20_000)), min_size=0, max_size=4)
    )
    decodes = draw(st.integers(0 if chunks else 1, 512))
    context = draw(st.integers(decodes, 1_000_000)) if decodes else 0
    tokens = sum(size for size, _ in chunks)
    pairs = sum(size * prior + size * (size + 1) // 2 for size, prior in chunks)
    prior = sum(prior for _, prior in chunks)
    return tokens, pairs, prior, len(chunks), decodes, context
