"""How often values occur."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


@kernel()
def count_values(
    frames: NDArray[Any], edges: NDArray[Any], counted: NDArray[Any], size: int, out: NDArray[Any]
) -> None:
    """Fill `out` [n, bin] with how many of the first `size` pixels lie in edges[b] <= value < edges[b + 1].

    The last bin has its upper edge, too; NaN lies nowhere. `edges` are equally wide apart up to rounding. Only pixels
    with `counted` count; all where it is empty.
    """
    bins = edges.size - 1
    low, high = edges[0], edges[bins]
    scale = bins / (high - low)
    for k in range(len(out)):
        found = out[k]
        found[:] = 0
        for i in range(size):
            value = float(frames[k, i])
            if (value >= low) & (value <= high) and (not counted.size or counted[i]):
                b = min(int((value - low) * scale), bins - 1)
                if value < edges[b]:
                    b -= 1
                elif b < bins - 1 and value >= edges[b + 1]:
                    b += 1
                found[b] += 1
