"""Which column of a file is which of ours: exact names, spellings that are read, and near ones.

A column is read under another name than ours where that name can mean one thing only: other case
and punctuation (`promptTokens`), an arrival or a pause that says its unit (`arrival_ms`), an
arrival of dates and times (`timestamp`), and common names of a session. Lengths are not: whether
`input_tokens` counts cached tokens depends on who wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from sojourn.errors import UserError

ARRIVAL: Final = "arrival_s"
SESSION: Final = "session_id"
PAUSE: Final = "tool_s"
IDS: Final = "prefix_block_hashes"
REQUIRED: Final = ("prompt_tokens", "output_tokens")
OPTIONAL: Final = (ARRIVAL, SESSION, "turn", PAUSE, "tenant", "model", "slo_class", IDS)

SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    ARRIVAL: (
        *("arrival", "arrivals", "arrivaltime", "arrivaltimestamp", "arrivaldatetime", "arrived"),
        *("arrivedat", "timestamp", "time", "ts", "datetime", "starttime", "starttimestamp"),
        *("startedat", "requesttime", "requesttimestamp", "requestedat", "requeststarttime"),
        *("createdat", "created", "createdtime", "creationtime", "receivedat", "receivedtime"),
        *("receivetime", "submittedat", "submittime", "sentat", "sendtime", "unixtime", "epoch"),
    ),
    "prompt_tokens": (
        *("prompttoken", "prompt", "promptlength", "inputtoken", "input", "inputlength", "in"),
        *("contexttoken", "context", "contextlength", "requesttoken", "prefilltoken", "tokenin"),
    ),
    "output_tokens": (
        *("outputtoken", "output", "outputlength", "completiontoken", "completion", "out"),
        *("completionlength", "generatedtoken", "generated", "generationtoken", "tokenout"),
        *("generationlength", "responsetoken", "response", "responselength", "answertoken"),
        *("answer", "answerlength", "decodetoken"),
    ),
    SESSION: (
        *("sessionid", "session", "sessionname", "conversationid", "conversation", "chatid"),
        *("threadid", "dialogueid", "dialogid"),
    ),
    "turn": ("turn", "turnid", "turnindex", "turnidx", "turnno", "round"),
    PAUSE: ("tool", "tooltime", "toolpause", "toolduration", "thinktime", "pause"),
    "tenant": (
        *("tenant", "tenantid", "user", "userid", "customer", "customerid", "team", "apikey"),
        *("organisation", "organization", "org", "orgid"),
    ),
    "model": ("model", "modelname", "modelid"),
    "slo_class": ("sloclass", "slo", "class", "requestclass", "priority", "tier"),
    IDS: ("prefixblockhashes", "hashids", "blockhashes", "blockids", "prefixhashes", "prefixids"),
}
"""What a name may mean, less its case, punctuation and unit."""

PER_SECOND: Final[Mapping[str, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 1e3),
    **dict.fromkeys(("us", "usec", "micros", "microseconds"), 1e6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds"), 1e9),
}
UNIT_NAMES: Final = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALIKE: Final = {"tokens": "token", "len": "length", "size": "length"}
_FILLING: Final = ("num", "number", "of", "count", "n")
_ARRIVES: Final = ("arrival", "arrived", "timestamp")
_NO_ARRIVAL: Final = ("end", "finish", "finished", "first", "last", "completion", "completed")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file that is one of ours.

    Attributes:
        name: What the file calls it.
        per_second: How many of its units make a second, for arrivals and pauses; None where an
            arrival does not say its unit, so that only dates and times can be read.
    """

    name: str
    per_second: float | None = 1.0


def own_columns(source: str, found: Sequence[str]) -> dict[str, Column]:
    """Return, for each of our columns that a table has, the table's column.

    Raises:
        UserError: If a length is missing, two columns may be the same one of ours, or a column
            plainly is an arrival and yet cannot be read as one.
    """
    refuse_twins(source, found)
    given = {name: Column(name) for name in (*REQUIRED, *OPTIONAL) if name in found}
    spelled: dict[str, list[Column]] = {}
    for name in found:
        ours, per_second = readable(name)
        if ours is not None and ours not in found:
            spelled.setdefault(ours, []).append(Column(name, per_second))
    for ours, several in spelled.items():
        if len(several) > 1:
            names = " and ".join(repr(one.name) for one in several)
            raise UserError(
                f"{source}: columns {names} may each be {ours}; rename or take out"
                " all but the one that is"
            )
        given[ours] = several[0]
    missing = [name for name in REQUIRED if name not in given]
    if missing:
        settled = [ours for ours, column in given.items() if column.per_second is not None]
        wanted = [*missing, *(name for name in OPTIONAL if name not in settled)]
        raise _missing(source, missing, found, wanted)
    if ARRIVAL not in given:
        _refuse_unread_arrival(source, found)
    return given


def require_columns(source: str, found: Sequence[str], required: Sequence[str]) -> None:
    """Check that a table has the columns a format needs, under their exact names.

    Raises:
        UserError: Naming those that are missing, those found, and what these may be meant as; or
            a name that two columns have.
    """
    refuse_twins(source, found)
    missing = [name for name in required if name not in found]
    if missing:
        raise _missing(source, missing, [*found], missing)


def refuse_twins(source: str, found: Sequence[str]) -> None:
    """Check that no two columns have the same name.

    Raises:
        UserError: Naming one that two have.
    """
    twice = next((name for name in found if list(found).count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: two columns are called {twice!r}; names must differ")


def reading_notices(found: Sequence[str], given: Mapping[str, Column]) -> tuple[str, ...]:
    """Return notices on columns read under another name, absent arrivals, and columns not read."""
    said = []
    for ours, column in given.items():
        if column.name != ours:
            unit = "dates and times" if column.per_second is None else ""
            if ours in (ARRIVAL, PAUSE) and column.per_second is not None:
                unit = UNIT_NAMES[column.per_second]
            said.append(f"column {column.name} read as {ours}" + (f", in {unit}" if unit else ""))
    if ARRIVAL not in given:
        said.append(f"no column {ARRIVAL}: the trace does not say when requests arrived")
    read = {column.name for column in given.values()}
    rest = [name for name in found if name not in read]
    if rest:
        meant = meanings(rest, [name for name in OPTIONAL if name not in given])
        shown = [f"{name} (meant to be {meant[name]}?)" if name in meant else name for name in rest]
        said.append(f"columns not read: {', '.join(shown)}")
    return tuple(said)


def readable(name: str) -> tuple[str | None, float | None]:
    """Return which of our columns a name can only mean, and its units in a second."""
    ours, per_second = meaning(name)
    if ours == ARRIVAL:
        return ours, per_second
    if ours == PAUSE:
        return (ours, per_second) if per_second is not None else (None, None)
    if ours == SESSION or (ours is not None and _key(_words(name)) == _key(_words(ours))):
        return ours, 1.0
    return None, None


def meaning(name: str) -> tuple[str | None, float | None]:
    """Return which of our columns a name may mean, and its units in a second where it says them."""
    words = _words(name)
    for ours, spellings in SPELLINGS.items():
        is_time = ours in (ARRIVAL, PAUSE)
        if is_time and len(words) > 1 and words[-1] in PER_SECOND:
            if _key(words[:-1]) in spellings:
                return ours, PER_SECOND[words[-1]]
        elif _key(words) in spellings:
            return ours, None
    return None, None


def meanings(found: Iterable[str], wanted: Sequence[str]) -> dict[str, str]:
    """Return which wanted column each found one may be meant as; each is meant once."""
    meant: dict[str, str] = {}
    left = list(wanted)
    names = [name for name in found if name not in wanted]
    for name in names:
        ours = meaning(name)[0]
        same = [one for one in left if ours is not None and meaning(one)[0] == ours]
        if same:
            meant[name] = same[0]
            left.remove(same[0])
    for name in names:
        # A name that means another of our columns is no slip of the pen for this one.
        if name in meant or meaning(name)[0] is not None:
            continue
        keys = {_key(_words(one)): one for one in left}
        near = get_close_matches(_key(_words(name)), keys, n=1, cutoff=0.65)
        if near:
            meant[name] = keys[near[0]]
            left.remove(keys[near[0]])
    return meant


def missing_hint(found: Iterable[str], wanted: Sequence[str]) -> str:
    """Return what found names may be meant as, in brackets; nothing where none is near."""
    meant = meanings(found, wanted)
    asked = ", ".join(f"{name!r} meant to be {ours!r}" for name, ours in meant.items())
    return f" (is {asked}?)" if asked else ""


def _missing(
    source: str, missing: Sequence[str], found: Sequence[str], wanted: Sequence[str]
) -> UserError:
    word = "column" if len(missing) == 1 else "columns"
    return UserError(
        f"{source}: missing {word} {', '.join(missing)}; found: {', '.join(found) or 'none'}"
        f"{missing_hint(found, wanted)}"
    )


def _refuse_unread_arrival(source: str, found: Sequence[str]) -> None:
    for name in found:
        words = _words(name)
        base = _key(words[:-1] if len(words) > 1 and words[-1] in PER_SECOND else words)
        near = get_close_matches(base, ("arrival", "arrivaltime", "timestamp"), n=1, cutoff=0.8)
        if (near or set(words) & set(_ARRIVES)) and not set(words) & set(_NO_ARRIVAL):
            raise UserError(
                f"{source}: no column {ARRIVAL}, and {name!r} is not read; rename it to"
                f" {ARRIVAL} (seconds) or arrival_ms, or take it out if it is no arrival"
            )


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _key(words: Sequence[str]) -> str:
    return "".join(_ALIKE.get(word, word) for word in words if word not in _FILLING)
