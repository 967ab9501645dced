"""Prices, links and cold starts of the catalogue, against the excerpts that they come from."""

from __future__ import annotations

import pytest

from sojourn.catalog import gpu_names, load_model
from sojourn.catalog.cluster import (
    gpu_price,
    link_names,
    load_link,
    price_sources,
    start_seconds,
)
from sojourn.errors import UserError


def test_a_price_is_the_median_of_the_clouds():
    # 0.69, 1.99, 2.99, 4.40, 4.76, 4.78 and 10.00 dollars.
    assert gpu_price("h100-sxm") == 4.40
    assert gpu_price("l4") == 1.00


def test_spot_is_cheaper_by_the_advisors_saving():
    assert gpu_price("h100-sxm", "spot") == pytest.approx(4.40 * 0.48)
    assert gpu_price("a100-80g", "spot") == pytest.approx(2.73 * 0.35)


def test_what_has_no_row_has_no_price():
    assert gpu_price("rtx-4090") is None
    assert gpu_price("l40s", "spot") is None, "a saving on nothing"
    assert gpu_price("mine") is None


def test_prices_are_of_gpus_of_the_catalogue_and_say_where_they_are_from():
    priced = [name for name in gpu_names() if gpu_price(name) is not None]
    assert priced == ["l4", "a100-80g", "h100-sxm"]
    assert "2025-03-07" in price_sources("h100-sxm")["on_demand"]
    assert "spotinfo" in price_sources("h100-sxm")["spot_saving"]


def test_a_link_is_as_fast_as_the_slower_end():
    ends = [("h100-sxm", 2), ("a100-80g", 1)]
    assert load_link("nvlink", ends, "a link").bytes_per_second == 300e9
    assert load_link("rdma", ends, "a link").bytes_per_second == 50e9
    assert load_link("rdma", [("h100-sxm", 4)], "a link").bytes_per_second == 200e9
    assert load_link("ethernet", [("h100-sxm", 8)], "a link").bytes_per_second == 12.5e9


@pytest.mark.parametrize("name", link_names())
def test_every_kind_of_link_has_a_source(name):
    link = load_link(name, [("h100-sxm", 1)], "a link")
    assert link.source
    assert 0 < link.latency_seconds < 1e-3


def test_a_gpu_without_the_port_is_refused():
    with pytest.raises(UserError, match="a link is nvlink, whose rate on l4 is unknown"):
        load_link("nvlink", [("l4", 1)], "a link")
    with pytest.raises(UserError, match="unknown kind of a link 'nvlin': did you mean 'nvlink'"):
        load_link("nvlin", [("l4", 1)], "a link")


def test_cold_starts_are_in_proportion_to_bytes_and_near_what_was_measured():
    small, large = load_model("llama-3.1-8b").weights_bytes, load_model("qwen3-32b").weights_bytes
    assert start_seconds(small) == pytest.approx(4.51 + 0.83, rel=0.02)
    assert start_seconds(large) == pytest.approx(20.01 + 1.96, rel=0.02)
    assert start_seconds(2 * small) == pytest.approx(2 * start_seconds(small))
