"""Units as people read them."""


def bytes_text(count: float) -> str:
    """`12.3 MB`: powers of ten, as disks and networks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def microseconds_text(count: int) -> str:
    """`12.3 ms` from microseconds."""
    for limit, unit in ((1000, "us"), (1_000_000, "ms")):
        if abs(count) < limit:
            return f"{count * 1000 / limit:.4g} {unit}"
    return f"{count / 1e6:.4g} s"
