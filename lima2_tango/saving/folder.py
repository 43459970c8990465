"""The folder of a series: made, tried out and measured at Prepare; and what a disk's errors mean."""

import errno
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import Compression, FileExistsPolicy, SavingParams
from lima2_tango.core.units import bytes_text

from .names import FileNames

HEADROOM = 1 << 20
"""Room for a file's structure beside its images [byte]."""

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another base_path",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another base_path",
    errno.EROFS: "the file system is mounted read-only; choose another base_path or have it mounted for writing",
    errno.EACCES: "this process may not write there; correct the permissions or choose another base_path",
    errno.EPERM: "this process may not write there; correct the permissions or choose another base_path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another base_path",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another base_path",
    errno.ENAMETOOLONG: "a name in the path is too long; choose shorter names",
    errno.ELOOP: "the path has symbolic links that go in circles; choose another base_path",
    errno.ENOENT: "the folder is gone; make it again",
    errno.EIO: "the disk or its server reports a hardware error; ask who runs it",
    errno.ESTALE: "the file server has lost the folder; have it mounted again",
    errno.EMFILE: "this process has too many files open; raise its limit (ulimit -n)",
    errno.EFBIG: "the file is larger than allowed here; lower nb_frames_per_file",
}


def remedy(error: OSError) -> str:
    """What is wrong with the disk, and what to do."""
    if error.errno in _REMEDIES:
        return _REMEDIES[error.errno]
    text = os.strerror(error.errno) if error.errno else (str(error).splitlines() or ["unknown error"])[0]
    return f"{text}; look at the disk"


@contextmanager
def translated(path: str, doing: str) -> Generator[None, None, None]:
    """Turn what the operating system or HDF5 raises into a SavingError that names the file."""
    try:
        yield
    except OSError as error:
        raise SavingError(f"{path}: {doing}: {remedy(error)}", file=path, errno=error.errno) from error
    except (RuntimeError, ValueError, KeyError) as error:  # what h5py makes of HDF5's other errors
        raise SavingError(f"{path}: {doing}: HDF5 says: {error}", file=path) from error


def check_folder(params: SavingParams, json_path: str) -> None:
    """Make `base_path` where it is missing and write a small file into it (permissions say little to root)."""
    folder = params.base_path
    path = f"{json_path}.base_path"
    if not os.path.isabs(folder):
        raise ParamError(path, folder, "it must be an absolute path, beginning with /")
    probe = os.path.join(folder, f".lima2_probe.{secrets.token_hex(4)}")
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, b"probe")
        finally:
            os.close(descriptor)
            os.unlink(probe)
    except OSError as error:
        raise ParamError(path, folder, f"no file can be written there: {remedy(error)}") from error


def check_space(params: SavingParams, spec: FrameSpec, json_path: str, exact_frames: int | None) -> None:
    """Refuse a disk that cannot take one frame, or not all `exact_frames` where their size is known."""
    known = exact_frames is not None and params.compression is Compression.NONE
    needed = (exact_frames or 1) * spec.nbytes + HEADROOM if known else spec.nbytes + HEADROOM
    status = os.statvfs(params.base_path)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        what = f"{exact_frames} frames take" if known else "one frame takes"
        raise ParamError(
            f"{json_path}.base_path",
            params.base_path,
            f"{what} {bytes_text(needed)} but only {bytes_text(free)} are free; free some space or choose another "
            f"base_path",
        )


def exists_already(path: str, params: SavingParams, json_path: str) -> ParamError:
    """The refusal of a file that is there already, with the way out as the library and the command line take it."""
    policy = f"{json_path}.file_exists_policy"
    reason = (
        f"{path} exists; choose another filename_prefix or base_path, or {policy.removeprefix('$.')}="
        f"{FileExistsPolicy.OVERWRITE}, which replaces it"
    )
    return ParamError(policy, str(params.file_exists_policy), reason)


def check_existing(params: SavingParams, names: FileNames, json_path: str) -> None:
    """Refuse what the policy does not allow to replace, and what no policy can (a folder of that name)."""
    for name in names.taken(os.listdir(params.base_path)):
        full = os.path.join(params.base_path, name)
        if params.file_exists_policy is FileExistsPolicy.ABORT:
            raise exists_already(full, params, json_path)
        if stat.S_ISDIR(os.lstat(full).st_mode):
            raise ParamError(
                f"{json_path}.filename_prefix", params.filename_prefix, f"{full} is a folder; choose another"
            )
