"""Copies that go past the caches, for what is read much later, and by another core. Imported when a run first needs it.

A store into the cache first reads the line that it overwrites. Past the cache it does not: a third less traffic for a
copy, and the caches keep what others work on. Such stores are not ordered with later ones before a fence (Intel 64
manual, volume 1, section 10.4.6.2).
"""

import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic as _intrinsic

LINE = 64
"""Bytes of one step."""
_HALF = 32

intrinsic: Any = _intrinsic
"""Its own types do not know that the first argument is never given."""
cgutils: Any = _cgutils
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_I8, _HALF)
_IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}


@njit(nogil=True)
def copy_past(target: int, source: int, nbytes: int) -> None:
    """Copy between addresses that do not overlap; `fence` before anybody is told."""
    head = min(nbytes, -target % LINE)
    steps = (nbytes - head) // LINE
    done = head + steps * LINE
    _copy(target, source, head)
    _stream(target + head, source + head, steps)
    _copy(target + done, source + done, nbytes - done)


@intrinsic
def _stream(_: Any, target: Any, source: Any, steps: Any) -> Any:
    """So many lines, to an address that is a multiple of `LINE`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, out_of, count = arguments
        marked = builder.module.add_metadata([_I32(1)])
        with cgutils.for_range(builder, count) as loop:
            step = builder.mul(loop.index, _I64(LINE))
            places = [builder.add(step, _I64(offset)) for offset in range(0, LINE, _HALF)]
            pointers = [builder.inttoptr(builder.add(out_of, place), _BYTES.as_pointer()) for place in places]
            values = [builder.load(pointer, align=1) for pointer in pointers]
            for value, place in zip(values, places, strict=True):
                pointer = builder.inttoptr(builder.add(into, place), _BYTES.as_pointer())
                builder.store(value, pointer, align=_HALF).set_metadata("nontemporal", marked)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def _copy(_: Any, target: Any, source: Any, nbytes: Any) -> Any:
    """As memcpy does."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, out_of, count = arguments
        pointer = _I8.as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(into, pointer), builder.inttoptr(out_of, pointer), count, 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def fence(_: Any) -> Any:
    """What was stored before, past the caches too, others see before what is stored after."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        if _IS_X86:
            made = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, made, "llvm.x86.sse.sfence"), [])
        return context.get_dummy_value()

    return types.void(), generate
