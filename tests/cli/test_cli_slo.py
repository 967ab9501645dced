from __future__ import annotations

import pytest

from sojourn.cli.slo import DEFAULT, default_classes, parse_slo_classes
from sojourn.errors import UserError
from sojourn.steplog.record import SloClass


def test_classes_are_read():
    found = parse_slo_classes(["chat:share=0.7,ttft=0.5,tpot=0.05", "batch: share=0.3, e2e=60"])
    assert found == (
        SloClass("chat", 0.7, 0.5, 0.05, None),
        SloClass("batch", 0.3, None, None, 60.0),
    )


def test_shares_left_out_divide_the_rest_equally():
    shares = [one.share for one in parse_slo_classes(["a:share=0.5,ttft=1", "b:ttft=2", "c:e2e=9"])]
    assert shares == [0.5, 0.25, 0.25]
    assert parse_slo_classes(["a:ttft=1"]) == (SloClass("a", 1.0, 1.0),)


def test_without_classes_the_default_holds_for_each_that_the_trace_names():
    assert default_classes(()) == parse_slo_classes([DEFAULT])
    assert [one.name for one in default_classes(("x", "y"))] == ["x", "y"]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["chat"], "is malformed: write name:key=value,..., such as --slo-class interactive:"),
        (["chat:"], "is malformed"),
        ([":ttft=1"], "is malformed"),
        (["chat:ttft"], "is malformed at 'ttft'"),
        (["chat:ttft=1,"], "is malformed at ''"),
        (["chat:tttf=1"], "did you mean 'ttft'?"),
        (["chat:ttft=soon"], "ttft is 'soon'; it must be a number above zero, in seconds"),
        (["chat:ttft=0"], "ttft is '0'; it must be a number above zero"),
        (["chat:ttft=-1"], "ttft is '-1'; it must be a number above zero"),
        (["chat:ttft=inf"], "ttft is 'inf'; it must be a number above zero"),
        (["chat:ttft=1,ttft=2"], "gives ttft twice"),
        (["chat:share=0,ttft=1"], "share is '0'; it must be a number above zero, in a share"),
        (["chat:share=70,ttft=1"], "share is 70; it must be at most 1"),
        (["chat:share=1"], "sets no bound: give ttft, tpot or e2e"),
        (["chat:ttft=1", "chat:ttft=2"], "'chat' is given twice"),
        (["a:share=0.5,ttft=1"], "add up to 0.5; they must add up to 1"),
        (["a:share=0.8,ttft=1", "b:share=0.7,ttft=1"], "add up to 1.5; they must add up to 1"),
        (["a:share=1,ttft=1", "b:ttft=1"], "leave nothing for 'b'"),
    ],
)
def test_wrong_classes_are_refused_with_a_sentence(texts, sentence):
    with pytest.raises(UserError) as error:
        parse_slo_classes(texts)
    assert sentence in str(error.value)
