"""First come, first served."""

from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.policies.order.fcfs import Config, Fcfs


def test_one_seat_serves_in_order_of_arrival():
    # Outputs 3, 1, 2 arrive at 0, 1, 2 with one seat: they end at 0+3, 3+1, 4+2.
    outcome = simulate(rows_of((0, 1, 3), (1, 1, 1), (2, 1, 2)), max_num_seqs=1)
    assert outcome.finish == [3, 4, 6]


def test_arrivals_at_the_same_moment_go_by_id():
    outcome = simulate(rows_of((0, 1, 2), (0, 1, 1), (0, 1, 1)), max_num_seqs=1)
    assert outcome.finish == [2, 3, 4]


def test_all_requests_have_the_same_key():
    order = Fcfs(Config(), services())
    assert order.key(a_request(0), 0) == order.key(a_request(1, 5.0, 99), 7) == ()


def test_a_dropped_request_returns_to_its_place_by_arrival():
    # 8 blocks of one token. Rows 0 and 1 (prompt 3) hold 3 + 3 after step 1, 4 + 4 after step 2;
    # at second 2 row 0 needs a ninth block, so row 1, seated last, is dropped.
    # Row 2 waits since second 1, but row 1 came before it and runs first once row 0 has gone.
    outcome = simulate(rows_of((0, 3, 5), (0, 3, 5), (1, 3, 1)), num_gpu_blocks=8, max_num_seqs=2)
    assert (2.0, 1, "waiting") in outcome.moves
    assert outcome.entered("prefill") == [0, 1, 1, 2]


def test_fails_when_a_long_answer_comes_before_short_ones():
    # 10 + 11 + 12 against 12 + 1 + 2 if the short ones went first: mean 11 against 5.
    rows = rows_of((0, 1, 10), (0, 1, 1), (0, 1, 1))
    stock = simulate(rows, max_num_seqs=1)
    shortest = simulate(
        rows,
        a_recipe(order="srpt_clairvoyant", compose="contest", victim="lowest_rank"),
        max_num_seqs=1,
    )
    assert stock.mean == 11
    assert shortest.mean == 5
