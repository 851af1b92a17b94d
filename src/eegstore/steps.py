"""Steps that numba has no words for: atomic ones, prefetching, and calls of an address."""

from __future__ import annotations

import platform
from typing import Any, Final

import numba
from llvmlite import ir
from numba import extending
from numba.core import cgutils

BYTES: Final = ir.IntType(8).as_pointer()
WORD: Final = ir.IntType(64)
intrinsic: Any = extending.intrinsic
types: Any = numba.types
# What a processor does while it waits; others do without.
PAUSE: Final = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}


@intrinsic  # type: ignore[untyped-decorator]
def at(_context: Any, address: Any, number: Any) -> Any:
    """A number of an int64 array; seen by other threads in the order of the program."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.gep(_words(builder, arguments[0]), [arguments[1]])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def put(_context: Any, address: Any, number: Any, value: Any) -> Any:
    """Set a number of an int64 array, after all that was written before."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.gep(_words(builder, arguments[0]), [arguments[1]])
        builder.store_atomic(arguments[2], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def swapped(_context: Any, address: Any, before: Any, after: Any) -> Any:
    """Whether a number was so, and has been changed."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = _words(builder, arguments[0])
        found = builder.cmpxchg(place, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def claimed(_context: Any, job: Any, n_items: Any) -> Any:
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
def copy(_context: Any, target: Any, source: Any, n_bytes: Any) -> Any:
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
def prefetch(_context: Any, address: Any) -> Any:
    """Ask for the line of an address, and for its page's place, without waiting for them."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        function = _declared(builder, "llvm.prefetch.p0i8", [BYTES, number, number, number])
        place = builder.inttoptr(arguments[0], BYTES)
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def called(_context: Any, function: Any, job: Any) -> Any:
    """A job's function of this address."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [WORD])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def decoded(_context: Any, function: Any, source: Any, target: Any, n_bytes: Any) -> Any:
    """Bytes that C's function of this address made of (source, target, bytes, threads)."""

    def generate(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(number, [BYTES, BYTES, WORD, number])
        called = builder.inttoptr(arguments[0], kind.as_pointer())
        places = [builder.inttoptr(place, BYTES) for place in arguments[1:3]]
        return builder.call(called, [*places, arguments[3], number(1)])

    return types.int32(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def pause(_context: Any) -> Any:
    """Leave the processor to a thread that shares it, for some ten nanoseconds."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        if name := PAUSE.get(platform.machine()):
            builder.call(_declared(builder, name, []), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def address(_context: Any, array: Any) -> Any:
    """Of an array's first byte."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(values.data, WORD)

    return types.int64(array), generate
