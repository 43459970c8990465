"""The page on saving reads a master file and data files as they are written."""

from pathlib import Path

import numpy as np
import pytest
from pages import DOCS, blocks

from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.master import master_path, write_master
from lima2_tango.saving.writer import SeriesWriter
from lima2_tango.testing.sinks import METADATA, SPEC, make_block, pixels


def test_frames_are_read_from_the_master_file_and_found_in_the_data_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saving, frames = SavingParams(base_path=str(tmp_path)), [np.arange(rank, 20, 2) for rank in range(2)]
    for rank, index in enumerate(frames):
        own = saving.model_copy(update={"filename_rank": rank})
        writer = SeriesWriter(own, SPEC, "$.saving", rank, METADATA, None)
        block = make_block(SPEC, 0, len(index), stride=2, offset=rank)
        if rank == 1:
            block.missing = np.where(block.index == 3, 0b110, 0).astype(np.uint64)
        writer.append(writer.encode(block))
        writer.close()
    write_master(master_path(saving), saving, "dense", SPEC, frames, METADATA)
    monkeypatch.chdir(tmp_path)
    for text in blocks(DOCS / "how-to/save-data.md"):
        if text.kind == "python":
            exec(text.body, {})
    shown = f"{(20, *SPEC.shape)} {pixels(SPEC, 7).sum()}"
    rows = [f"lima2_{rank}_00000.h5 frames {rank} to {18 + rank}" for rank in range(2)]
    assert capsys.readouterr().out.splitlines() == [shown, "frame 3 lacks modules [1, 2]", *rows]
