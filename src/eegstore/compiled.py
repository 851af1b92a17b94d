"""Copies and decodes many pieces of memory in one call without the interpreter (extra ``fast``).

numpy's indexing, and a call of C for each piece, ask for the interpreter again and again, so that
threads wait for each other. Here a job, a function and its numbers, is shared by a crew of threads
that never ask for it. To wake one takes as long as to copy a third of a batch, so whoever has
helped looks for the next job for a moment before it sleeps.
"""

from __future__ import annotations

import platform
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils

BYTES: Final = ir.IntType(8).as_pointer()
WORD: Final = ir.IntType(64)
PAGE_BYTES: Final = 4096
intrinsic: Any = extending.intrinsic
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
# ``STATE`` of the crew itself, which is before its helpers, is whether some thread has it.
STATE, CALL, JOB, SEMAPHORE = range(4)
ASLEEP, AWAKE, ASKED, BUSY = range(4)
FREE, HAD = range(2)
LINE_WORDS: Final = 16  # two lines of a cache, which processors fetch together
LINE_BYTES: Final = LINE_WORDS * 8
LOOKS: Final = 8192  # of a helper for another job: some 200 us
LOOKS_BEFORE_OTHERS: Final = 1000  # while a thread waits that another needs its processor
# What a processor does while it waits; others do without.
PAUSE: Final = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}
_let_others = types.ExternalFunction("sched_yield", types.int32())
_sem_init = types.ExternalFunction("sem_init", types.int32(types.int64, types.int32, types.int32))
_sem_post = types.ExternalFunction("sem_post", types.int32(types.int64))
_sem_wait = types.ExternalFunction("sem_wait", types.int32(types.int64))
ROWS_READ: Final = types.Array(types.int64, 1, "C", readonly=True)
PLACES_READ: Final = types.Array(types.int64, 1, "C")
FILLED: Final = types.Array(types.uint8, 2, "C")


@intrinsic  # type: ignore[untyped-decorator]
def _at(_context: Any, address: Any, number: Any) -> Any:
    """A number of an int64 array; seen by other threads in the order of the program."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.gep(_words(builder, arguments[0]), [arguments[1]])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _set(_context: Any, address: Any, number: Any, value: Any) -> Any:
    """Set a number of an int64 array, after all that was written before."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.gep(_words(builder, arguments[0]), [arguments[1]])
        builder.store_atomic(arguments[2], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _swapped(_context: Any, address: Any, before: Any, after: Any) -> Any:
    """Whether a number was so, and has been changed."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = _words(builder, arguments[0])
        found = builder.cmpxchg(place, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _claimed(_context: Any, job: Any, n_items: Any) -> Any:
    """The first of so many items that no other thread has."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _words(builder, arguments[0]), arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


def _words(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, WORD.as_pointer())


def _declared(builder: Any, name: str, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(ir.VoidType(), arguments)
    return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]


@intrinsic  # type: ignore[untyped-decorator]
def _copy(_context: Any, target: Any, source: Any, n_bytes: Any) -> Any:
    """C's ``memcpy``, of addresses."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        to, by, length = arguments
        places = builder.inttoptr(to, BYTES), builder.inttoptr(by, BYTES)
        cgutils.raw_memcpy(  # type: ignore[no-untyped-call]
            builder, *places, length, 1
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_context: Any, address: Any) -> Any:
    """Ask for the line of an address, and for its page's place, without waiting for them."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        function = _declared(builder, "llvm.prefetch.p0i8", [BYTES, number, number, number])
        place = builder.inttoptr(arguments[0], BYTES)
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _called(_context: Any, function: Any, job: Any) -> Any:
    """A job's function of this address."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [WORD])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _decoded(_context: Any, function: Any, source: Any, target: Any, n_bytes: Any) -> Any:
    """Bytes that C's function of this address made of (source, target, bytes, threads)."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(number, [BYTES, BYTES, WORD, number])
        called = builder.inttoptr(arguments[0], kind.as_pointer())
        places = [builder.inttoptr(place, BYTES) for place in arguments[1:3]]
        return builder.call(called, [*places, arguments[3], number(1)])

    return types.int32(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _pause(_context: Any) -> Any:
    """Leave the processor to a thread that shares it, for some ten nanoseconds."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        if name := PAUSE.get(platform.machine()):
            builder.call(_declared(builder, name, []), [])
        return context.get_dummy_value()

    return types.void(), generate


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _ask_for(row: Any, starts: Any, n_starts: Any, piece_bytes: Any) -> None:
    """Have the head of each page of a row's pieces on its way."""
    for number in range(n_starts):
        first = row + _at(starts, number)
        stop = first + piece_bytes
        while first < stop:
            _prefetch(first)
            first = (first | (PAGE_BYTES - 1)) + 1


@intrinsic  # type: ignore[untyped-decorator]
def _address(_context: Any, array: Any) -> Any:
    """Of an array's first byte."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(values.data, WORD)

    return types.int64(array), generate


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _place(job: Any, position: Any) -> Any:
    """Address of a row; 0 where there is none, or its chunk is not in memory."""
    row, chunk_rows = _at(_at(job, ROWS), position), _at(job, CHUNK_ROWS)
    if row < 0 or row >= _at(job, N_ROWS):
        return 0
    place = _at(_at(job, PLACES), row // chunk_rows)
    return 0 if place == 0 else place + row % chunk_rows * _at(job, ROW_BYTES)


@cfunc("void(int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _copy_rows(job: Any) -> None:
    n_rows, n_together = _at(job, N_ITEMS), _at(job, TOGETHER)
    starts, n_starts, n_bytes = _at(job, STARTS), _at(job, N_STARTS), _at(job, PIECE_BYTES)
    while True:
        first = _claimed(job, n_together)
        if first >= n_rows:
            return
        for position in range(first, min(first + n_together, n_rows)):
            row = _place(job, position)
            if row == 0:
                _set(job, FAILED, position)
                return
            if position + 1 < n_rows:
                _ask_for(_place(job, position + 1), starts, n_starts, n_bytes)
            target = _at(job, OUT) + position * n_starts * n_bytes
            for number in range(n_starts):
                _copy(target + number * n_bytes, row + _at(starts, number), n_bytes)


@cfunc("void(int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _decode_chunks(job: Any) -> None:
    n_chunks, n_together = _at(job, N_ITEMS), _at(job, TOGETHER)
    function, n_bytes = _at(job, FUNCTION), _at(job, N_BYTES)
    while True:
        first = _claimed(job, n_together)
        if first >= n_chunks:
            return
        for position in range(first, min(first + n_together, n_chunks)):
            chunk, source = _at(_at(job, CHUNKS), position), 0
            if 0 <= chunk < _at(job, N_CHUNKS):
                source = _at(_at(job, CHUNK_PLACES), chunk)
            target = _at(job, OUT) + _at(_at(job, TARGETS), position) * n_bytes
            if source == 0 or _decoded(function, source, target, n_bytes) != n_bytes:
                _set(job, FAILED, position)
                return


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _ask(helper: Any, call: Any, job: Any) -> None:
    _set(helper, CALL, call)
    _set(helper, JOB, job)
    if not _swapped(helper, AWAKE, ASKED):
        _set(helper, STATE, ASKED)
        _sem_post(helper + SEMAPHORE * 8)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _finish(helper: Any) -> None:
    """Wait for a helper that has begun, and call off one that has not."""
    if not _swapped(helper, ASKED, AWAKE):
        look = 0
        while _at(helper, STATE) == BUSY:
            look += 1
            _pause()
            if look > LOOKS_BEFORE_OTHERS:
                _let_others()


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _do(crew: Any, n_helpers: Any, call: Any, job: Any, item_bytes: Any) -> None:
    """Do a job with as many helpers as it is worth; alone where another thread has them."""
    n_bytes = _at(job, N_ITEMS) * item_bytes
    _set(job, CLAIMED, 0)
    _set(job, TOGETHER, max(1, TOGETHER_BYTES // max(1, item_bytes)))
    _set(job, FAILED, -1)
    n_asked = max(0, min(n_helpers, n_bytes // PART_BYTES - 1))
    if n_asked == 0 or not _swapped(crew, FREE, HAD):
        _called(call, job)
        return
    for number in range(1, n_asked + 1):
        _ask(crew + number * LINE_BYTES, call, job)
    _called(call, job)
    for number in range(1, n_asked + 1):
        _finish(crew + number * LINE_BYTES)
    _set(crew, STATE, FREE)


@njit([types.void(PLACES_READ, types.int64)], nogil=True, cache=True)  # type: ignore[untyped-decorator]
def help_out(crew: Any, number: Any) -> None:
    """Help with jobs as long as the process lives, from a thread of its own.

    Parameters
    ----------
    crew
        int64, (line of a helper or the crew, ``LINE_WORDS``), laid end to end: zeros at first.
    number
        Of the helper, from 1.
    """
    helper = _address(crew) + number * LINE_BYTES
    while True:
        _sem_wait(helper + SEMAPHORE * 8)
        look = 0
        while look < LOOKS:
            look += 1
            _pause()
            if _at(helper, STATE) == ASKED and _swapped(helper, ASKED, BUSY):
                _called(_at(helper, CALL), _at(helper, JOB))
                _set(helper, STATE, AWAKE)
                look = 0
            if look == LOOKS and not _swapped(helper, AWAKE, ASLEEP):
                look = 0


@njit([types.void(PLACES_READ, types.int64)], nogil=True, cache=True)  # type: ignore[untyped-decorator]
def assemble(crew: Any, n_helpers: Any) -> None:
    """Make the semaphores of a crew, before its helpers start."""
    for number in range(1, n_helpers + 1):
        _sem_init(_address(crew) + number * LINE_BYTES + SEMAPHORE * 8, 0, 0)


@njit(  # type: ignore[untyped-decorator]
    [
        types.int64(
            PLACES_READ, types.int64, types.int64, ROWS_READ, PLACES_READ, types.int64,
            types.int64, types.int64, ROWS_READ, types.int64, FILLED,
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
        uint8, (row, byte): the pieces of each row.

    Returns
    -------
    The position of a row that is none, or whose chunk is not in memory; or -1.
    """
    job = np.empty(NUMBERS, np.int64)
    job[N_ITEMS], job[OUT], job[N_ROWS] = len(rows), _address(out), n_rows
    job[ROWS], job[PLACES], job[STARTS] = _address(rows), _address(places), _address(starts)
    job[CHUNK_ROWS], job[ROW_BYTES] = chunk_rows, row_bytes
    job[N_STARTS], job[PIECE_BYTES] = len(starts), piece_bytes
    _do(_address(crew), n_helpers, call, _address(job), out.shape[1])
    return job[FAILED]


@njit(  # type: ignore[untyped-decorator]
    [
        types.int64(
            PLACES_READ, types.int64, types.int64, types.int64, ROWS_READ, PLACES_READ, ROWS_READ,
            FILLED,
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
    job[N_ITEMS], job[OUT], job[N_BYTES] = len(chunks), _address(out), out.shape[1]
    job[FUNCTION], job[CHUNKS], job[TARGETS] = function, _address(chunks), _address(targets)
    job[CHUNK_PLACES], job[N_CHUNKS] = _address(places), len(places)
    _do(_address(crew), n_helpers, call, _address(job), out.shape[1])
    return job[FAILED]


COPY: Final[int] = _copy_rows.address
DECODE: Final[int] = _decode_chunks.address
