"""A folder, a series writer in it, and file systems that are small or read-only."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.writer import SeriesWriter
from lima2_tango.testing.sinks import METADATA, SPEC

NOBODY = 65534


@pytest.fixture
def open_series(tmp_path):
    """Open a writer in the test's folder; keywords are saving parameters."""

    def open_one(*, spec=SPEC, expected=None, exact=False, rank=0, metadata=METADATA, **changes):
        params = SavingParams(**{"base_path": str(tmp_path), "nb_frames_per_file": 5, "filename_rank": rank} | changes)
        return SeriesWriter(params, spec, "$.saving", rank, metadata, expected, exact)

    return open_one


@pytest.fixture
def mount(tmp_path):
    """Mount a tmpfs with these options; needs root and the right to mount."""
    mounted = []

    def mount_one(options):
        folder = tmp_path / f"mount{len(mounted)}"
        folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("mounting a tmpfs needs root")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount_one
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def unprivileged():
    """A context in which even root's tests have no more rights than anybody."""

    @contextmanager
    def as_nobody():
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(user)

    return as_nobody
