"""The hidden files of a data file under way: the part that is written, and the room to complete it on a full disk.

Beside `name.h5` there are, while it is written, `.name.h5.<token>.part` (HDF5, nobody finds it under its final name)
and `.name.h5.<token>.reserve` (empty blocks). The reserve is given up just before the part is completed, so
that its structure fits a disk that the images have filled. It is locked as long as its writer lives: one that can be
locked is what a killed process left, and goes, with its part.
"""

import errno
import fcntl
import os
import re
import secrets
from contextlib import suppress

from lima2_tango.core.errors import SavingError

TRIES = 10
_RESERVE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.reserve", re.DOTALL)
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Reserve:
    """Room on the disk and the claim to a hidden name; `part` is the path of the file under way."""

    def __init__(self, final: str) -> None:
        """Claim a hidden name beside `final`; raises OSError."""
        folder, name = os.path.split(final)
        for _ in range(TRIES):
            stem = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
            self._path, self.part = f"{stem}.reserve", f"{stem}.part"
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            if self._locked():
                return
            os.close(self._descriptor)
        raise SavingError(f"{final}: another process takes away our hidden files ({self._path}); look who writes here")

    def hold(self, nbytes: int) -> None:
        """Keep at least `nbytes` free for us; raises OSError (ENOSPC) where the disk does not have them."""
        os.posix_fallocate(self._descriptor, 0, nbytes)

    def give_up(self) -> None:
        """The room is free for the part's structure from now on."""
        os.ftruncate(self._descriptor, 0)

    def remove(self) -> None:
        """The part has its final name, or is given up."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        os.close(self._descriptor)

    def _locked(self) -> bool:
        """Lock the file; False where somebody took it for a leftover in the moment before."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system: nobody can lock it, so nobody takes it for a leftover
            return True
        return os.fstat(self._descriptor).st_nlink > 0


def remove_leftovers(final: str) -> None:
    """Remove what killed writers of this file left beside it; raises OSError."""
    folder, name = os.path.split(final)
    for found in os.listdir(folder):
        match = _RESERVE.fullmatch(found)
        if match and match["name"] == name:
            _remove_if_dead(os.path.join(folder, found))


def _remove_if_dead(path: str) -> None:
    with suppress(FileNotFoundError):  # its writer, or another cleaner, was faster
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                os.unlink(path.removesuffix("reserve") + "part")
            os.unlink(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno in {errno.EROFS, errno.EACCES, errno.EIO}:
                raise
            return  # locked: its writer lives, or no locks here: nobody can tell
        finally:
            os.close(descriptor)


def publish(part: str, final: str, replace: bool) -> None:
    """Give the complete part its final name, at once; raises FileExistsError where that is taken and not `replace`."""
    if replace:
        os.replace(part, final)
        return
    try:
        os.link(part, final)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(part, final)
        return
    os.unlink(part)
