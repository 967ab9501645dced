"""From Arrow columns, whatever their type, to the checked NumPy columns of a trace."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sojourn.errors import UserError
from sojourn.trace.checks import FloatArray, IntArray, Place
from sojourn.trace.model import UNNAMED

ONE_SHORT_NOTICE = (
    "{} had fewer block ids than whole blocks: the missing ones count as never shared"
)

IDS_MAX = 2**63 - 1

TIME_LIKE = "2023-11-16 18:17:03.97"


def whole_numbers(
    place: Place, name: str, column: pa.ChunkedArray, *, missing: int | None = None
) -> IntArray:
    """Return a column as int64; a null becomes `missing`, or is refused when that is None.

    Raises:
        UserError: Naming the first value that is not a whole number.
    """
    allowed = "it must be a whole number"
    numbers = _numbers(place, name, column, allowed)
    if missing is None and numbers.null_count:
        row = int(np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))[0])
        raise place.fail(row, f"{name} is empty; {allowed}")
    if pa.types.is_integer(numbers.type):
        return np.asarray(numbers.fill_null(missing if missing is not None else 0), dtype=np.int64)
    floats = np.asarray(numbers.fill_null(0.0 if missing is None else float(missing)))
    bad = np.flatnonzero(~(np.isfinite(floats) & (floats == np.floor(floats))))
    if len(bad):
        value = floats[bad[0]]
        raise place.fail(
            int(bad[0]), f"{name} is {'NaN' if np.isnan(value) else f'{value:g}'}; {allowed}"
        )
    return np.asarray(np.clip(floats, -(2.0**62), 2.0**62), dtype=np.int64)


def seconds(place: Place, name: str, column: pa.ChunkedArray, unit: str = "seconds") -> FloatArray:
    """Return a column of times as float64, in its own unit; a null becomes NaN.

    Raises:
        UserError: Naming the first value that is not a number.
    """
    numbers = _numbers(place, name, column, f"it must be a number of {unit}")
    return np.asarray(pc.cast(numbers, pa.float64()).fill_null(np.nan), dtype=np.float64)


def datetimes(
    place: Place, name: str, column: pa.ChunkedArray, *, may_lack: bool = False
) -> FloatArray:
    """Return a column of dates and times as seconds since the earliest, exact to a nanosecond.

    Times without a zone are taken as they stand. A null becomes NaN if `may_lack`.

    Raises:
        UserError: Naming the first value that is no date and time, or is empty and must not be.
    """
    if not pa.types.is_timestamp(column.type):
        column = _parsed(place, name, column)
    absent = np.asarray(column.is_null().to_numpy(), dtype=bool)
    if absent.any() and not may_lack:
        raise place.fail(int(absent.argmax()), f"{name} is empty; it must be a date and time")
    known = column.drop_null()
    try:
        ticks = known.cast(pa.timestamp("ns", known.type.tz)).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        raise UserError(
            f"{place.source}: column {name} has times outside the years 1678 to 2261"
        ) from None
    since = np.full(len(column), np.nan)
    if len(ticks):
        since[~absent] = (ticks - ticks.min()) / 1e9
    return since


def _parsed(place: Place, name: str, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    for zone in (None, "UTC"):
        try:
            return pc.cast(texts, pa.timestamp("ns", zone))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    first = str(texts.drop_null()[0])
    first_zone = "UTC" if first.endswith("Z") or first[-6:-5] in ("+", "-") else None
    for row, text in enumerate(texts):
        try:
            pc.cast(text, pa.timestamp("ns", first_zone))
        except pa.ArrowInvalid:
            raise place.fail(
                row, f"{name} is {str(text)!r}; it must be a date and time like {TIME_LIKE}"
            ) from None
    raise UserError(f"{place.source}: column {name} holds something that is no time")


def names(
    place: Place, name: str, column: pa.ChunkedArray, *, absent: str | None
) -> tuple[IntArray, tuple[str, ...]]:
    """Return a column of names as an index and the names it points to.

    Nulls and empty names become `absent`, or index -1 when that is None.

    Raises:
        UserError: If the column holds something other than plain values.
    """
    if pa.types.is_nested(column.type):
        raise UserError(f"{place.source}: column {name} holds {column.type}; it must hold names")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        texts = pc.cast(column, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"{place.source}: column {name} holds {column.type} that is no UTF-8 text;"
            " it must hold names"
        ) from None
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)
    if absent is not None:
        texts = texts.fill_null(absent)
    coded = pa.chunked_array(texts).combine_chunks().dictionary_encode()
    index = np.asarray(coded.indices.fill_null(-1), dtype=np.int64)
    return index, tuple(coded.dictionary.to_pylist())


def tenant_like(
    place: Place, name: str, table: pa.Table
) -> tuple[IntArray | None, tuple[str, ...]]:
    """Return an optional column of names where requests without one get `UNNAMED`."""
    if name not in table.column_names:
        return None, (UNNAMED,)
    return names(place, name, table[name], absent=UNNAMED)


def prefixes(
    place: Place, name: str, column: pa.ChunkedArray, prompt_tokens: IntArray, block_tokens: int
) -> tuple[IntArray | None, IntArray | None, tuple[str, ...]]:
    """Return offsets and ids of a column of lists, and notices; (None, None) if all are null.

    A source that counts tokens of the chat format in the prompt but not in the ids can be one
    block short, and a null means that the source knows nothing of this prompt: such prompts get
    ids of their own, which nothing else shares, so that every prompt has its blocks.

    Raises:
        UserError: If the lists hold no whole numbers.
    """
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list and not pa.types.is_null(kind):
        raise UserError(
            f"{place.source}: column {name} holds {kind}; it must hold lists of whole numbers"
        )
    if column.null_count == len(column):
        return None, None, ()
    if not (pa.types.is_integer(kind.value_type) or pa.types.is_null(kind.value_type)):
        raise UserError(
            f"{place.source}: column {name} holds lists of {kind.value_type};"
            " block ids must be whole numbers"
        )
    try:
        lists = pa.chunked_array(column.cast(pa.large_list(pa.int64()))).combine_chunks()
    except pa.ArrowInvalid:
        raise UserError(
            f"{place.source}: column {name} has an id of 2**63 or more; ids must be below"
        ) from None
    values = lists.flatten()
    counts = np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)
    if values.null_count:
        at = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]
        row = int(np.searchsorted(np.cumsum(counts), at, side="right"))
        raise place.fail(row, f"{name} has an empty id in it; block ids must be whole numbers")
    ids = np.asarray(values, dtype=np.int64)
    absent = lists.is_null().to_numpy(zero_copy_only=False)
    return _fill_short(ids, counts, absent, prompt_tokens, block_tokens)


def _fill_short(
    ids: IntArray,
    counts: IntArray,
    absent: NDArray[np.bool_],
    prompt_tokens: IntArray,
    block_tokens: int,
) -> tuple[IntArray, IntArray, tuple[str, ...]]:
    lack = np.zeros_like(counts)
    if block_tokens > 0:
        lack = prompt_tokens // block_tokens - counts
        # A list that lacks more than one block is broken, not differently counted: the check
        # of the finished columns will refuse it.
        lack = np.where(absent | ((lack == 1) & (counts > 0)), np.maximum(lack, 0), 0)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts + lack)])
    if not lack.any():
        return offsets, ids, ()
    first_new = int(ids.max()) + 1 if len(ids) else 0
    if first_new + int(lack.sum()) > IDS_MAX:
        # Ids that are 64-bit hashes leave no room above them.
        distinct, ids = np.unique(ids, return_inverse=True)
        first_new = len(distinct)
    row_of_end = np.repeat(np.cumsum(counts), lack)
    filled = np.insert(ids, row_of_end, first_new + np.arange(int(lack.sum())))
    rows = int(np.count_nonzero(lack))
    who = "1 prompt" if rows == 1 else f"{rows} prompts"
    return offsets, filled, (ONE_SHORT_NOTICE.format(who),)


def _numbers(place: Place, name: str, column: pa.ChunkedArray, allowed: str) -> pa.Array:
    """Return the column as one array of int64 or float64, keeping nulls."""
    whole = pa.chunked_array(column).combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    kind = whole.type
    if pa.types.is_signed_integer(kind) or (pa.types.is_integer(kind) and kind.bit_width < 64):
        return whole.cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return whole.cast(pa.float64(), safe=False)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            return pc.cast(pc.utf8_trim_whitespace(whole), pa.float64())
        except pa.ArrowInvalid:
            raise _not_a_number(place, name, whole, allowed) from None
    raise UserError(f"{place.source}: column {name} holds {kind}; {allowed}")


def _not_a_number(place: Place, name: str, texts: pa.Array, allowed: str) -> UserError:
    for row, text in enumerate(texts.to_pylist()):
        if text is None:
            continue
        try:
            float(text)
        except ValueError:
            return place.fail(row, f"{name} is {text!r}; {allowed}")
    return UserError(f"{place.source}: column {name} holds something that is no number; {allowed}")
