"""Who a request belongs to: the server's rules hold, whatever a client writes."""

import json
import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import UserError
from sojourn.vllm.identity import CLAIMS, SEAL, WARNINGS_MAX, Identity, identify, seal
from sojourn.vllm.metrics import METRICS
from sojourn.vllm.middleware import ALIASES, HEADERS, MILLISECOND_HEADERS, PATHS
from sojourn.vllm.rules import (
    KEYS,
    NAME_LENGTH_MAX,
    OBJECTIVES,
    PROXY_KEYS,
    TENANT_KEYS,
    ClassRule,
    Rules,
    digest,
)

KEY = b"k" * 32
CONFIG = {
    "classes": {
        "interactive": {"ttft_seconds": 0.5, "tpot_seconds": 0.05},
        "flexible": {"priority": 5, "ttft_seconds": 5, "ttft_seconds_min": 1},
        "batch": {"priority": 10},
    },
    "default_class": "batch",
    "default_tenant": "anonymous",
    "tenants": {
        "acme": {"class": "interactive", "key_sha256": [digest("secret")]},
        "beta": {"class": "flexible", "priority": 7},
        "bulk": {"class": "batch"},
    },
}
RULES = Rules.from_config(CONFIG)


def of(tenant=None, priority=0, slo_class="", session_id=None, **said):
    args = {f"sojourn_{name}": value for name, value in said.items()}
    if tenant is not None:
        args[SEAL] = seal(KEY, tenant, slo_class)
    return identify(args, priority, RULES, KEY, session_id)


def test_a_request_that_nobody_vouches_for_is_the_default_tenants():
    assert of() == Identity("anonymous", "batch", priority=10)


def test_a_sealed_tenant_gets_its_class_and_objectives():
    assert of("acme") == Identity("acme", "interactive", ttft_seconds=0.5, tpot_seconds=0.05)


def test_a_tenant_has_its_own_priority():
    assert of("beta").priority == 7


def test_a_sealed_tenant_without_a_row_has_the_defaults_rights():
    assert of("stranger") == Identity("stranger", "batch", priority=10)


def test_the_proxys_class_goes_before_the_tenants():
    assert of("bulk", slo_class="interactive") == Identity(
        "bulk", "interactive", ttft_seconds=0.5, tpot_seconds=0.05
    )


def test_an_unknown_class_of_the_proxy_is_a_warning():
    found = of("bulk", slo_class="interactif")
    assert found.slo_class == "batch"
    assert "did you mean 'interactive'" in found.warnings[0]


@pytest.mark.parametrize(
    "sealed",
    [
        seal(b"another key", "acme"),
        seal(KEY, "acme").replace("acme", "beta"),
        seal(KEY, "acme").replace("::", ":interactive:"),
        "acme",
        "é::acme",
        "",
        7,
        ["acme"],
        "x" * 100_000,
    ],
)
def test_a_seal_of_anothers_making_is_worth_nothing(sealed):
    found = identify({SEAL: sealed}, 0, RULES, KEY)
    assert (found.tenant, found.slo_class, found.priority) == ("anonymous", "batch", 10)
    assert found.warnings == ("sojourn_identity was not written by this server's middleware",)


def test_without_a_key_no_seal_is_believed():
    assert identify({SEAL: seal(b"", "acme")}, 0, RULES, b"").tenant == "anonymous"


def test_a_claimed_tenant_is_ignored():
    found = identify({"sojourn_tenant": "acme"}, 0, RULES, KEY)
    assert found.tenant == "anonymous"
    assert "cannot say which tenant" in found.warnings[0]


def test_a_lesser_class_may_be_asked_for():
    found = of("acme", **{"class": "flexible"})
    assert (found.slo_class, found.priority, found.ttft_seconds) == ("flexible", 5, 5)
    assert found.warnings == ()


def test_a_better_class_may_not():
    found = of("bulk", **{"class": "interactive"})
    assert (found.slo_class, found.priority, found.ttft_seconds) == ("batch", 10, None)
    assert found.warnings == ("sojourn_class 'interactive' is above the tenant's own, 'batch'",)


def test_a_lesser_class_does_not_better_the_tenants_priority():
    rules = Rules.from_config(
        {
            "classes": {"a": {}, "b": {"priority": 3}},
            "default_class": "b",
            "tenants": {"t": {"class": "a", "priority": 2}},
        }
    )
    args = {SEAL: seal(KEY, "t"), "sojourn_class": "b"}
    assert identify(args, 0, rules, KEY).priority == 3


def test_an_unknown_class_is_a_warning_that_names_the_nearest():
    found = of("acme", **{"class": "batsh"})
    assert found.slo_class == "interactive"
    assert "did you mean 'batch'" in found.warnings[0]


def test_the_clients_priority_is_added():
    assert of("beta", priority=4).priority == 11
    assert of("beta", priority=2**62).priority == 7 + 2**31


@pytest.mark.parametrize("priority", [-1, -(2**63), True, 1.5, "3", [1]])
def test_a_priority_that_does_not_lower_is_a_warning(priority):
    found = of("beta", priority=priority)
    assert found.priority == 7
    assert len(found.warnings) == 1


def test_a_looser_objective_is_in_force():
    assert of("acme", ttft_seconds=2).ttft_seconds == 2


def test_a_tighter_objective_is_not():
    found = of("acme", ttft_seconds=0.1, tpot_seconds=0.01, e2e_seconds=9)
    assert (found.ttft_seconds, found.tpot_seconds, found.e2e_seconds) == (0.5, 0.05, None)
    assert len(found.warnings) == 3
    assert "tighter than class 'interactive' allows" in found.warnings[0]


def test_a_class_may_let_its_clients_tighten_to_a_least_value():
    assert of("beta", ttft_seconds=2).ttft_seconds == 2
    found = of("beta", ttft_seconds=0.2)
    assert found.ttft_seconds == 1
    assert len(found.warnings) == 1


def test_program_and_turns_are_the_clients_own():
    found = of("acme", program="p-1", turn=3, last_turn=1)
    assert (found.program, found.turn, found.last_turn) == ("p-1", 3, True)


def test_vllms_session_is_the_program_of_a_request_that_names_none():
    assert of(session_id="s").program == "s"
    assert of(session_id="s", program="p").program == "p"
    assert of(session_id="x" * 200).program is None
    assert len(of(session_id="x" * 200).warnings) == 1


MALFORMED = [
    ("class", "x" * 1000),
    ("class", "a:b"),
    ("class", 3),
    ("program", ""),
    ("program", " padded "),
    ("program", "line\nbreak"),
    ("program", "x" * (NAME_LENGTH_MAX + 1)),
    ("turn", -1),
    ("turn", 1.0),
    ("turn", True),
    ("turn", 10**40),
    ("last_turn", "yes"),
    ("last_turn", 2),
    ("ttft_seconds", math.nan),
    ("ttft_seconds", math.inf),
    ("ttft_seconds", 0),
    ("ttft_seconds", -1),
    ("ttft_seconds", "0.5"),
    ("ttft_seconds", 10**400),
    ("ttft_seconds", [0.5]),
    ("tpot_seconds", {"nested": [1]}),
    ("e2e_seconds", None),
    ("clas", "batch"),
]


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_malformed_value_is_ignored_with_one_short_warning(name, value):
    found = of("acme", **{name: value})
    assert found.warnings != ()
    assert Identity(**{**fields(found), "warnings": ()}) == of("acme")
    assert len(found.warnings) == 1
    assert len(found.warnings[0]) < 400


def fields(identity):
    return {name: getattr(identity, name) for name in Identity.__slots__}


def test_a_misspelt_name_is_told_the_nearest():
    assert "did you mean 'sojourn_class'" in of(clas="batch").warnings[0]


def test_warnings_are_bounded():
    args = {f"sojourn_x{number}": number for number in range(1000)}
    assert len(identify(args, -1, RULES, KEY).warnings) == WARNINGS_MAX


def test_the_values_of_other_plugins_are_left_alone():
    assert identify({"other": {"deep": 1}, 5: 6}, 0, RULES, KEY).warnings == ()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*CLAIMS, SEAL, "sojourn_", "other"]) | st.text()


@given(
    args=st.dictionaries(names, anything) | anything,
    priority=anything,
    session_id=anything,
    tenant=st.sampled_from([None, *CONFIG["tenants"]]),
)
def test_nothing_that_a_client_writes_raises_or_betters_its_standing(
    args, priority, session_id, tenant
):
    if isinstance(args, dict) and tenant is not None:
        args = {**args, SEAL: seal(KEY, tenant)}
    found = identify(args, priority, RULES, KEY, session_id)
    is_sealed = tenant is not None and isinstance(args, dict)
    granted = RULES.tenants[tenant] if is_sealed else RULES.default
    assert found.tenant == granted.name
    assert found.priority >= granted.priority
    for objective in OBJECTIVES:
        value = getattr(found, objective)
        assert value is None or value >= granted.slo_class.tightest(objective)
    assert len(found.warnings) <= WARNINGS_MAX
    json.dumps(found.warnings)


REFUSED = {
    "unknown key in identity 'tenant'": {"tenant": {}},
    "must be a table": {"classes": ["a"]},
    "did you mean 'ttft_seconds'": {"classes": {"a": {"ttft_second": 1}}},
    "identity.classes.a.ttft_seconds is nan": {"classes": {"a": {"ttft_seconds": math.nan}}},
    "identity.classes.a.ttft_seconds is 0": {"classes": {"a": {"ttft_seconds": 0}}},
    "identity.classes.a.priority is 1.5": {"classes": {"a": {"priority": 1.5}}},
    "ttft_seconds_min is 2; it must be at most": {
        "classes": {"a": {"ttft_seconds": 1, "ttft_seconds_min": 2}}
    },
    "has a colon": {"classes": {"a:b": {}}},
    "identity.default_class is missing": {"classes": {"a": {}, "b": {}}},
    "unknown class in identity.default_class 'c'": {"classes": {"a": {}}, "default_class": "c"},
    "identity.default_tenant is ''": {"default_tenant": ""},
    "identity.tenants.t has no class": {"tenants": {"t": {}}},
    "unknown class in identity.tenants.t.class": {"tenants": {"t": {"class": ["default"]}}},
    "64 hex digits": {"tenants": {"t": {"class": "default", "key_sha256": "sk-oops"}}},
    "a key of tenant 't' too": {
        "tenants": {
            "t": {"class": "default", "key_sha256": digest("k")},
            "u": {"class": "default", "key_sha256": digest("k")},
        }
    },
    "give key_sha256 or addresses": {"proxy": {}},
    "networks such as 10.0.0.0/8": {"proxy": {"addresses": ["everywhere"]}},
    "identity.proxy.tenant_header is 7": {"proxy": {"addresses": ["::1"], "tenant_header": 7}},
    "stands above tenant 't'": {
        "classes": {"a": {}, "b": {"priority": 1}},
        "default_class": "a",
        "tenants": {"t": {"class": "b"}},
    },
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_rules_that_cannot_be_are_refused_in_a_sentence(sentence):
    with pytest.raises(UserError) as caught:
        Rules.from_config(REFUSED[sentence])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "sk-oops" not in str(caught.value)


def test_a_default_with_a_tighter_objective_than_a_tenants_is_refused():
    config = {
        "classes": {"a": {"priority": 9, "ttft_seconds_min": 0.1}, "b": {"priority": 9}},
        "default_class": "a",
        "tenants": {"t": {"class": "b"}},
    }
    with pytest.raises(UserError, match="would gain by not saying who they are"):
        Rules.from_config(config)


def test_no_rules_are_one_class_and_one_tenant():
    rules = Rules.from_config({})
    assert rules == Rules()
    assert identify(None, 0, rules) == Identity("default", "default")
    assert not rules.vouches


@pytest.mark.parametrize(
    ("key", "address", "is_proxy"),
    [
        ("gate", None, True),
        ("other", None, False),
        (None, "10.1.2.3", True),
        (None, "11.1.2.3", False),
        (None, "::1", True),
        (None, "::ffff:10.1.2.3", True),
        (None, "::ffff:11.1.2.3", False),
        (None, "not an address", False),
        (None, None, False),
    ],
)
def test_the_proxy_is_known_by_its_key_or_its_address(key, address, is_proxy):
    proxy = Rules.from_config(
        {"proxy": {"key_sha256": digest("gate"), "addresses": ["10.0.0.0/8", "::1"]}}
    ).proxy
    assert proxy.is_peer(digest(key) if key else None, address) is is_proxy


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "identify-requests.md"


def test_the_page_names_everything_that_can_be_said():
    text = PAGE.read_text(encoding="utf-8")
    names = [
        *(name for name in CLAIMS if name != "sojourn_tenant"),
        *HEADERS,
        *MILLISECOND_HEADERS,
        *ALIASES,
        *ALIASES.values(),
        *PATHS - {"/v1/chat/completions/batch"},
        *KEYS,
        *TENANT_KEYS,
        *PROXY_KEYS,
        *ClassRule.__slots__[1:],
        *(f"sojourn:{name}" for name in METRICS),
    ]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_pages_map_is_one():
    text = PAGE.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    rules = Rules.from_config(tomllib.loads(text)["identity"])
    assert rules.keys == {digest("sk-acme"): "acme", digest("sk-nightly"): "nightly"}
