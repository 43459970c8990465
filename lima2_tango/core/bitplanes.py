"""Bitshuffle's blocks, made with the widest vectors of this processor and compressed where they lie, in the cache.

A shuffled block holds bit 0 of byte 0 of all its pixels, then bit 1, ...: one row of bits after the other. Libraries
that come as wheels are built for the oldest processors and do this with 16 bytes at a time; here the compiler takes
what it finds (32 at a time with AVX2), which leaves LZ4 as the larger part. The output is byte for byte the library's.

The format: K. Masui et al., "A compression scheme for radio data in high performance computing", Astronomy and
Computing 12 (2015) 181.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

BLOCK_BYTES = 8192
"""Bitshuffle's own choice: a block and its transpose stay in the first-level cache."""
BLOCK_BOUND = BLOCK_BYTES + BLOCK_BYTES // 255 + 16
"""Bytes of a block that LZ4 could not compress."""
LZ4_STATE_BYTES = 16416
"""What LZ4 works with; `LZ4_sizeofState` tells."""
LANES = 32
"""Pixels that are shuffled at once."""
_ALIGN = 64

intrinsic: Any = _intrinsic
"""Its own types do not know that the first argument is never given."""
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_I8, LANES)


@njit(nogil=True, cache=True, error_model="numpy")
def compress_blocks(lz4: int, source: int, target: int, blocks: int, itemsize: int) -> int:
    """Shuffle and compress whole blocks from one address to another; returns the bytes made, -1 where LZ4 failed.

    `lz4` is the address of `LZ4_compress_fast_extState`; pixels have 1, 2, 4 or 8 bytes (`itemsize`); `target` has room
    for 4 + `BLOCK_BOUND` bytes a block. Each block comes behind its compressed length (4 bytes, big-endian).
    """
    state, shuffled = _scratch(LZ4_STATE_BYTES), _scratch(BLOCK_BYTES)
    at = target
    for _ in range(blocks):
        if itemsize == 1:
            _shuffle(source, shuffled, 1)
        elif itemsize == 2:
            _shuffle(source, shuffled, 2)
        elif itemsize == 4:
            _shuffle(source, shuffled, 4)
        else:
            _shuffle(source, shuffled, 8)
        length = _compress(lz4, state, shuffled, at + 4)
        if length <= 0:
            return -1
        _store_big_endian(at, length)
        at += 4 + length
        source += BLOCK_BYTES
    return at - target


@intrinsic
def _scratch(_: Any, nbytes: Any) -> Any:
    """Address of so many bytes (a constant) on the stack."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():  # not cgutils.alloca_once, which fills it byte by byte: seconds to compile
            memory = builder.alloca(ir.ArrayType(_I8, nbytes.literal_value))
        memory.align = _ALIGN
        return builder.ptrtoint(memory, _I64)

    return (types.intp(nbytes), generate) if isinstance(nbytes, types.IntegerLiteral) else None


@intrinsic
def _shuffle(_: Any, source: Any, target: Any, itemsize: Any) -> Any:
    """Write the rows of bits of one block of pixels of `itemsize` bytes (a constant)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, rows, _ = arguments
        size = itemsize.literal_value
        pixels = BLOCK_BYTES // size
        with cgutils.for_range(builder, _I64(pixels // LANES)) as loop:
            group = builder.add(first, builder.mul(loop.index, _I64(LANES * size)))
            column = builder.add(rows, builder.mul(loop.index, _I64(LANES // 8)))
            vectors = [_load(builder, builder.add(group, _I64(LANES * k))) for k in range(size)]
            for number, byte in enumerate(_by_byte(builder, vectors)):
                _store_rows(builder, byte, column, 8 * number, pixels // 8)
        return context.get_dummy_value()

    wanted = isinstance(itemsize, types.IntegerLiteral)
    return (types.void(types.intp, types.intp, itemsize), generate) if wanted else None


def _load(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _BYTES.as_pointer()), align=1)


def _by_byte(builder: Any, vectors: list[Any]) -> list[Any]:
    """Vectors of pixels one behind the other -> one vector of all bytes 0, one of all bytes 1, ..."""
    if len(vectors) == 1:
        return vectors
    halves = []
    for odd in (0, 1):
        picked = ir.Constant(ir.VectorType(_I32, LANES), [2 * k + odd for k in range(LANES)])
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        halves.append(_by_byte(builder, [builder.shuffle_vector(a, b, picked) for a, b in pairs]))
    return [vector for pair in zip(*halves, strict=True) for vector in pair]


def _store_rows(builder: Any, byte: Any, column: Any, first_row: int, row_bytes: int) -> None:
    """The bits of `LANES` bytes: the highest of each is its sign, the others are shifted there one by one."""
    for bit in range(7, -1, -1):
        signs = builder.bitcast(builder.icmp_signed("<", byte, ir.Constant(_BYTES, None)), _I32)
        place = builder.add(column, _I64((first_row + bit) * row_bytes))
        builder.store(signs, builder.inttoptr(place, _I32.as_pointer()), align=1)
        byte = builder.add(byte, byte)


@intrinsic
def _compress(_: Any, function: Any, state: Any, source: Any, target: Any) -> Any:
    """LZ4 of one shuffled block; the function is called by its address, so that the compiled code can be cached."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, *buffers = arguments
        pointer = _I8.as_pointer()
        made = ir.FunctionType(_I32, [pointer, pointer, pointer, _I32, _I32, _I32])
        call = [builder.inttoptr(buffer, pointer) for buffer in buffers]
        call += [_I32(BLOCK_BYTES), _I32(BLOCK_BOUND), _I32(1)]
        return builder.call(builder.inttoptr(address, made.as_pointer()), call)

    return types.int32(types.intp, types.intp, types.intp, types.intp), generate


@intrinsic
def _store_big_endian(_: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, number = arguments
        swapped = builder.bswap(builder.trunc(number, _I32) if number.type != _I32 else number)
        builder.store(swapped, builder.inttoptr(place, _I32.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.int32), generate
