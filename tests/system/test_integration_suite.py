"""The conformance suite: the client's own integration tests, unmodified, against our server."""

import os
import re
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support import LEGACY, launched

from lima2_tango.cli.system import System
from lima2_tango.client import RunState, connect

RELEASE = "4.3.2"
NB_TESTS = 10
DOWNLOAD_S = 120
SUITE_S = 90
"""The suite takes about 10 s; on one busy core 15 s."""

LONGEST_LINE = 300
"""The database logs whole schemas; a report does without [character]."""


START_RAN_OUT = "from lima2 devices after 3 seconds"


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the client, downloaded once per session; it carries the tests, the wheel does not."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), f"lima2-client=={RELEASE}"], check=True, timeout=DOWNLOAD_S)
    (archive,) = folder.glob("lima2_client-*.tar.gz")
    return archive


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def outcome_of_suite(root: Path, running: System | None = None) -> tuple[dict[str, int], str]:
    """Run `tests/integration`; returns pytest's counts by outcome, and what people read of its output.

    It starts a system of its own, as it was written to, unless there is one that runs.
    """
    binaries = Path(sys.executable).parent
    environment = dict(os.environ, PATH=f"{binaries}:{os.environ['PATH']}", OMPI_ALLOW_RUN_AS_ROOT="1")
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment.pop("TANGO_HOST", None)
    plugin = []
    if running is not None:
        environment |= {"TANGO_HOST": running.tango_host, "PYTHONPATH": str(Path(__file__).parent)}
        plugin = ["-p", "running_system"]
    log = root / "suite.log"  # a file: a job that outlives the suite would hold a pipe open
    with log.open("w") as output:
        subprocess.run(
            [sys.executable, "-m", "pytest", "tests/integration", "-p", "no:cacheprovider", *plugin],
            cwd=root,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=SUITE_S,
            check=False,
        )
    end_leftovers(root)
    text = log.read_text()
    # Not always the last line: Tango's library may still say something when the process ends.
    (*_, summary) = ["", *re.findall(r"^=+ (\d.* in .*) =+$", text, re.MULTILINE)]
    readable = "\n".join(line for line in text.splitlines() if " DEBUG " not in line and len(line) < LONGEST_LINE)
    return {word: int(count) for count, word in re.findall(r"(\d+) (\w+)(?=,| in )", summary)}, readable


def end_leftovers(root: Path) -> None:
    """The suite's fixture leaves its job running where the start took too long: it would slow the next one down."""
    for process in psutil.process_iter(["cmdline"]):
        if f"{root}/lima2_logs" in (process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_the_clients_integration_tests_pass_unmodified(sdist: Path, tmp_path: Path) -> None:
    """Once more where its fixture's three seconds for the start ran out, which a loaded machine can need alone.

    The repetitions of `make test-long` allow no second try: they measure just that.
    """
    root = unpacked(sdist, tmp_path)
    outcome, text = outcome_of_suite(root)
    if START_RAN_OUT in text:
        outcome, text = outcome_of_suite(root)
    assert outcome == {"passed": NB_TESTS}, text


def test_they_pass_on_a_running_system_before_and_after_runs_that_its_control_drives(
    sdist: Path, tmp_path: Path
) -> None:
    root = unpacked(sdist, tmp_path / "client")
    with launched(tmp_path / "system", "simulator") as system:
        for number in range(3):
            outcome, text = outcome_of_suite(root, system)
            assert outcome == {"passed": NB_TESTS}, text
            with connect(system.control, system.tango_host) as client:
                saving = {"base_path": tmp_path / str(number)}
                client.replace(acq={}, proc={"class_name": LEGACY})
                record = client.acquire(nb_frames=20, expo_time=0.002, saving=saving).wait(20)
            assert (record.state, record.nb_frames_saved) == (RunState.DONE, 20)


@pytest.mark.long
@pytest.mark.timeout(20 * SUITE_S)
def test_the_clients_integration_tests_pass_20_times_in_a_row(sdist: Path, tmp_path: Path) -> None:
    root = unpacked(sdist, tmp_path)
    for repetition in range(1, 21):
        outcome, text = outcome_of_suite(root)
        assert outcome == {"passed": NB_TESTS}, f"repetition {repetition}:\n{text}"
