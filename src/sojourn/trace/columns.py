"""From Arrow columns, whatever their type, to the checked NumPy columns of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

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


def require_columns(source: str, found: Sequence[str], required: Sequence[str]) -> None:
    """Check that a table has the columns a format needs.

    Raises:
        UserError: Naming those that are missing, those found, and the nearest name; or a name
            that two columns have.
    """
    twice = next((name for name in found if list(found).count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: two columns are called {twice!r}; names must differ")
    missing = [name for name in required if name not in found]
    if not missing:
        return
    near = get_close_matches(missing[0], list(found), n=1, cutoff=0.5)
    hint = f" (is {near[0]!r} meant to be {missing[0]!r}?)" if near else ""
    word = "column" if len(missing) == 1 else "columns"
    raise UserError(
        f"{source}: missing {word} {', '.join(missing)}; found: {', '.join(found) or 'none'}{hint}"
    )


def unread_notice(found: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return a notice naming the columns that a trace has no place for."""
    rest = [name for name in found if name not in known]
    return (f"columns not read: {', '.join(rest)}",) if rest else ()


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


def seconds(place: Place, name: str, column: pa.ChunkedArray) -> FloatArray:
    """Return a column of times as float64; a null becomes NaN.

    Raises:
        UserError: Naming the first value that is not a number.
    """
    numbers = _numbers(place, name, column, "it must be a number of seconds")
    return np.asarray(pc.cast(numbers, pa.float64()).fill_null(np.nan), dtype=np.float64)


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
