"""Copies and decodes many pieces of memory in one call without the interpreter (extra ``fast``).

numpy's indexing, and a call of C for each piece, ask for the interpreter again and again, so that
threads wait for each other.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

# The next pieces' pages are looked up while one is copied.
PAGE_BYTES: Final = 4096
AHEAD: Final = 2
BYTES: Final = ir.IntType(8).as_pointer()
intrinsic: Any = extending.intrinsic
njit: Any = numba.njit


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

    return types.void(types.uint64, types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _byte_at(_context: Any, address: Any) -> Any:
    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], BYTES))

    return types.uint8(types.uint64), generate


@njit("uint8(uint64, int64[::1], uint64, uint64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy_pieces(source: Any, starts: Any, target: Any, n_bytes: Any) -> Any:
    """Copy pieces, which start at bytes from a source, to a target, one behind the other.

    Parameters
    ----------
    source, target
        Addresses.
    starts
        int64, (piece,): in bytes.
    n_bytes
        Of a piece.
    """
    seen = np.uint8(0)
    for piece in range(len(starts)):
        if piece + AHEAD < len(starts):
            coming = source + np.uint64(starts[piece + AHEAD])
            for at in range(0, n_bytes, PAGE_BYTES):
                seen |= _byte_at(coming + np.uint64(at))
        _copy(target + np.uint64(piece) * n_bytes, source + np.uint64(starts[piece]), n_bytes)
    return seen


@intrinsic  # type: ignore[untyped-decorator]
def _called(_context: Any, function: Any, source: Any, target: Any, n_bytes: Any) -> Any:
    """C's function of this address: (source, target, bytes, threads) to bytes."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(number, [BYTES, BYTES, ir.IntType(64), number])
        called = builder.inttoptr(arguments[0], kind.as_pointer())
        places = [builder.inttoptr(place, BYTES) for place in arguments[1:3]]
        return builder.call(called, [*places, arguments[3], number(1)])

    return types.int32(types.uint64, types.uint64, types.uint64, types.uint64), generate


@njit("int64(uint64, int64[::1], int64[::1], uint64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decode_pieces(function: Any, sources: Any, targets: Any, n_bytes: Any) -> Any:
    """Decode pieces by a function such as Blosc's; which one is not of so many bytes, or -1.

    Parameters
    ----------
    function
        Address of ``blosc_decompress_ctx``.
    sources, targets
        Addresses, int64 (piece,).
    n_bytes
        Of a decoded piece.
    """
    for piece in range(len(sources)):
        source, target = np.uint64(sources[piece]), np.uint64(targets[piece])
        if _called(function, source, target, n_bytes) != n_bytes:
            return piece
    return -1
