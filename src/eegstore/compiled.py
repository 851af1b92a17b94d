"""Copies and decodes many pieces of memory in one call without the interpreter (extra ``fast``).

numpy's indexing, and a call of C for each piece, ask for the interpreter again and again, so that
threads wait for each other. Here a job, a function and its numbers, is shared by a crew of threads
that never ask for it. To wake one takes as long as to copy a third of a batch, so whoever has
helped looks for the next job for a moment before it sleeps.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from eegstore.steps import (
    address,
    at,
    called,
    claimed,
    copy,
    decoded,
    pause,
    prefetch,
    put,
    swapped,
)

# Digest of ``steps``. What numba keeps on disk goes by this file's bytes alone: with this, a change
# of those makes the code anew.
MADE_OF: Final = "e5d12cfc4933b064"
# Of two threads that copy random rows of 14 KB each waits for memory: in steps between which lines
# to come are asked for, they copy them in 0.68 of the time that C's ``memcpy`` takes.
STEP_BYTES: Final = 128
LINE_BYTES: Final = 64
AHEAD_BYTES: Final = 1024
types: Any = numba.types
njit: Any = numba.njit
cfunc: Any = numba.cfunc

# The numbers of every job. `FAILED` is the position of an item that could not be done, or -1.
CLAIMED, N_ITEMS, TOGETHER, FAILED, OUT = range(5)
# Of a copy besides; the others are addresses of int64 arrays and their lengths.
ROWS, PLACES, N_ROWS, CHUNK_ROWS, ROW_BYTES, STARTS, N_STARTS, PIECE_BYTES = range(5, 13)
# Of decoding.
FUNCTION, CHUNKS, CHUNK_PLACES, N_CHUNKS, TARGETS, N_BYTES = range(5, 11)
NUMBERS: Final = 13
PART_BYTES: Final = 1 << 18  # of a job; worth another thread
TOGETHER_BYTES: Final = 1 << 16  # that a thread takes at once

# What a thread that helps is about, what it is asked to do, and the semaphore that it sleeps at;
# ``STATE`` of the crew itself, which is before its helpers, is whether some thread has it,
# ``ALONE`` how many jobs more are done without help, since others keep the processors busy, and
# ``LATE`` by how many jobs in time it is forgotten that helpers were late: the longer that takes,
# the more jobs are done alone after they are late again.
STATE, CALL, JOB, SEMAPHORE = range(4)
ALONE, LATE = 1, 2
ASLEEP, AWAKE, ASKED, BUSY = range(4)
FREE, HAD = range(2)
HELPER_WORDS: Final = 16  # two lines of a cache, which processors fetch together
HELPER_BYTES: Final = HELPER_WORDS * 8
LOOKS: Final = 8192  # of a helper for another job: some 200 us
LOOKS_BEFORE_OTHERS: Final = 1 << 14  # for a helper, which by then has lost its processor
LEAST_LATE, MOST_LATE, LATE_BY_ALONE = 64, 1024, 16
_let_others = types.ExternalFunction("sched_yield", types.int32())
_sem_init = types.ExternalFunction("sem_init", types.int32(types.int64, types.int32, types.int32))
_sem_post = types.ExternalFunction("sem_post", types.int32(types.int64))
_sem_wait = types.ExternalFunction("sem_wait", types.int32(types.int64))
ROWS_READ: Final = types.Array(types.int64, 1, "C", readonly=True)
PLACES_READ: Final = types.Array(types.int64, 1, "C")
BYTES_FILLED: Final = types.Array(types.uint8, 1, "C")
CHUNKS_FILLED: Final = types.Array(types.uint8, 2, "C")


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _copy_piece(target: Any, piece: Any, n_bytes: Any, following: Any) -> None:
    """Copy a piece, and have what comes after it on its way."""
    n_done, most_ahead = 0, min(AHEAD_BYTES, n_bytes)
    while n_done + STEP_BYTES <= n_bytes:
        ahead = n_done + most_ahead
        coming = piece + ahead if ahead < n_bytes else following + ahead - n_bytes
        for line in range(0, STEP_BYTES, LINE_BYTES):
            prefetch(coming + line)
        copy(target + n_done, piece + n_done, STEP_BYTES)
        n_done += STEP_BYTES
    prefetch(following)  # where a piece is shorter than a step
    copy(target + n_done, piece + n_done, n_bytes - n_done)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _place(job: Any, position: Any) -> Any:
    """Address of a row; 0 where there is none, or its chunk is not in memory."""
    row, chunk_rows = at(at(job, ROWS), position), at(job, CHUNK_ROWS)
    if row < 0 or row >= at(job, N_ROWS):
        return 0
    place = at(at(job, PLACES), row // chunk_rows)
    return 0 if place == 0 else place + row % chunk_rows * at(job, ROW_BYTES)


@cfunc("void(int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _copy_rows(job: Any) -> None:
    n_rows, n_together = at(job, N_ITEMS), at(job, TOGETHER)
    starts, n_starts, n_bytes = at(job, STARTS), at(job, N_STARTS), at(job, PIECE_BYTES)
    while True:
        first = claimed(job, n_together)
        if first >= n_rows:
            return
        for position in range(first, min(first + n_together, n_rows)):
            row = _place(job, position)
            if row == 0:
                put(job, FAILED, position)
                return
            after = _place(job, position + 1) if position + 1 < n_rows else row
            target = at(job, OUT) + position * n_starts * n_bytes
            for number in range(n_starts):
                is_last = number + 1 == n_starts
                following = after + at(starts, 0) if is_last else row + at(starts, number + 1)
                _copy_piece(target, row + at(starts, number), n_bytes, following)
                target += n_bytes


@cfunc("void(int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _decode_chunks(job: Any) -> None:
    n_chunks, n_together = at(job, N_ITEMS), at(job, TOGETHER)
    function, n_bytes = at(job, FUNCTION), at(job, N_BYTES)
    while True:
        first = claimed(job, n_together)
        if first >= n_chunks:
            return
        for position in range(first, min(first + n_together, n_chunks)):
            chunk, source = at(at(job, CHUNKS), position), 0
            if 0 <= chunk < at(job, N_CHUNKS):
                source = at(at(job, CHUNK_PLACES), chunk)
            target = at(job, OUT) + at(at(job, TARGETS), position) * n_bytes
            if source == 0 or decoded(function, source, target, n_bytes) != n_bytes:
                put(job, FAILED, position)
                return


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _ask(helper: Any, call: Any, job: Any) -> None:
    put(helper, CALL, call)
    put(helper, JOB, job)
    if not swapped(helper, AWAKE, ASKED):
        put(helper, STATE, ASKED)
        _sem_post(helper + SEMAPHORE * 8)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _finish(helper: Any) -> Any:
    """Wait for a helper that has begun, call off one that has not; whether it was late."""
    look = 0
    if not swapped(helper, ASKED, AWAKE):
        while at(helper, STATE) == BUSY:
            look += 1
            pause()
            if look > LOOKS_BEFORE_OTHERS:
                _let_others()
    return look > LOOKS_BEFORE_OTHERS


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _do_together(crew: Any, n_asked: Any, call: Any, job: Any) -> None:
    for number in range(1, n_asked + 1):
        _ask(crew + number * HELPER_BYTES, call, job)
    called(call, job)
    n_late = 0
    for number in range(1, n_asked + 1):
        n_late += _finish(crew + number * HELPER_BYTES)
    late = at(crew, LATE)
    if n_late:
        late = min(max(LEAST_LATE, 2 * late), MOST_LATE)
        put(crew, ALONE, late // LATE_BY_ALONE)
    put(crew, LATE, max(0, late - 1))


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _do(crew: Any, n_helpers: Any, call: Any, job: Any, item_bytes: Any) -> None:
    """Do a job with as many helpers as it is worth; alone where another thread has them."""
    n_bytes = at(job, N_ITEMS) * item_bytes
    put(job, CLAIMED, 0)
    put(job, TOGETHER, max(1, TOGETHER_BYTES // max(1, item_bytes)))
    put(job, FAILED, -1)
    n_asked = max(0, min(n_helpers, n_bytes // PART_BYTES - 1))
    if n_asked == 0 or not swapped(crew, FREE, HAD):
        called(call, job)
        return
    alone = at(crew, ALONE)
    if alone:
        put(crew, ALONE, alone - 1)
        called(call, job)
    else:
        _do_together(crew, n_asked, call, job)
    put(crew, STATE, FREE)


@njit([types.void(PLACES_READ, types.int64)], nogil=True, cache=True)  # type: ignore[untyped-decorator]
def help_out(crew: Any, number: Any) -> None:
    """Help with jobs as long as the process lives, from a thread of its own.

    Parameters
    ----------
    crew
        int64, (helper or crew, ``HELPER_WORDS``), laid end to end: zeros at first.
    number
        Of the helper, from 1.
    """
    helper = address(crew) + number * HELPER_BYTES
    while True:
        while _sem_wait(helper + SEMAPHORE * 8) != 0:  # a signal ends the wait too
            continue
        look = 0
        while look < LOOKS:
            look += 1
            pause()
            if at(helper, STATE) == ASKED and swapped(helper, ASKED, BUSY):
                called(at(helper, CALL), at(helper, JOB))
                put(helper, STATE, AWAKE)
                look = 0
            if look == LOOKS and not swapped(helper, AWAKE, ASLEEP):
                look = 0


@njit([types.int64(PLACES_READ, types.int64)], nogil=True, cache=True)  # type: ignore[untyped-decorator]
def assemble(crew: Any, n_helpers: Any) -> Any:
    """Make the semaphores of a crew, before its helpers start; how many the system gives."""
    for number in range(1, n_helpers + 1):
        if _sem_init(address(crew) + number * HELPER_BYTES + SEMAPHORE * 8, 0, 0) != 0:
            return number - 1
    return n_helpers


@njit(  # type: ignore[untyped-decorator]
    [
        types.int64(
            PLACES_READ, types.int64, types.int64, ROWS_READ, PLACES_READ, types.int64,
            types.int64, types.int64, ROWS_READ, types.int64, BYTES_FILLED,
        )
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def copy_rows(
    crew: Any,
    n_helpers: Any,
    call: Any,
    rows: Any,
    places: Any,
    n_rows: Any,
    chunk_rows: Any,
    row_bytes: Any,
    starts: Any,
    piece_bytes: Any,
    out: Any,
) -> Any:
    """Copy pieces of rows, whose chunks are in memory.

    Parameters
    ----------
    crew, n_helpers, call
        Who helps; the address of ``COPY``.
    rows
        int64, (row,).
    places
        int64, (chunk,): addresses of the chunks; 0 where one is not in memory.
    n_rows, chunk_rows, row_bytes
        Rows in all chunks, rows of a chunk, bytes of a row.
    starts, piece_bytes
        int64, (piece,): bytes from a row's first at which its pieces start; bytes of each.
    out
        uint8: the pieces of each row come one behind the other from its first byte on.

    Returns
    -------
    The position of a row that is none, or whose chunk is not in memory; or -1.
    """
    job = np.empty(NUMBERS, np.int64)
    job[N_ITEMS], job[OUT], job[N_ROWS] = len(rows), address(out), n_rows
    job[ROWS], job[PLACES], job[STARTS] = address(rows), address(places), address(starts)
    job[CHUNK_ROWS], job[ROW_BYTES] = chunk_rows, row_bytes
    job[N_STARTS], job[PIECE_BYTES] = len(starts), piece_bytes
    _do(address(crew), n_helpers, call, address(job), len(starts) * piece_bytes)
    return job[FAILED]


@njit(  # type: ignore[untyped-decorator]
    [
        types.int64(
            PLACES_READ, types.int64, types.int64, types.int64, ROWS_READ, PLACES_READ, ROWS_READ,
            CHUNKS_FILLED,
        )
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def decode_chunks(
    crew: Any,
    n_helpers: Any,
    call: Any,
    function: Any,
    chunks: Any,
    places: Any,
    targets: Any,
    out: Any,
) -> Any:
    """Decode chunks by a function such as Blosc's.

    Parameters
    ----------
    crew, n_helpers, call
        Who helps; the address of ``DECODE``.
    function
        Address of ``blosc_decompress_ctx``.
    chunks
        int64, (chunk,): their numbers.
    places
        int64: addresses of encoded chunks by number; 0 where one is not known.
    targets
        int64, (chunk,): into which rows of ``out``.
    out
        uint8, (row, byte): a decoded chunk a row.

    Returns
    -------
    The position of a chunk whose place is not known, or that is not of so many bytes; or -1.
    """
    job = np.empty(NUMBERS, np.int64)
    job[N_ITEMS], job[OUT], job[N_BYTES] = len(chunks), address(out), out.shape[1]
    job[FUNCTION], job[CHUNKS], job[TARGETS] = function, address(chunks), address(targets)
    job[CHUNK_PLACES], job[N_CHUNKS] = address(places), len(places)
    _do(address(crew), n_helpers, call, address(job), out.shape[1])
    return job[FAILED]


@njit(  # type: ignore[untyped-decorator]
    [types.boolean(ROWS_READ, ROWS_READ, PLACES_READ)], nogil=True, cache=True
)
def pick(values: Any, numbers: Any, found: Any) -> Any:
    """Fill ``found`` with ``values[numbers]``, int64 all; whether they are of 0 to its last."""
    for position in range(len(numbers)):
        number = numbers[position]
        if number < 0 or number >= len(values):
            return False
        found[position] = values[number]
    return True


COPY: Final[int] = _copy_rows.address
DECODE: Final[int] = _decode_chunks.address
