"""The pipeline of the how-to page is one, and does what the page says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pages import DOCS, blocks

from lima2_tango.processing.drawing import Drawing
from lima2_tango.processing.plugin import PipelinePlugin
from lima2_tango.testing.pipelines import SPEC, PipelineContract, Rig, image

NODE, TEST, PLUGIN, GRAPH = (
    block.body for block in blocks(DOCS / "how-to/write-a-pipeline.md") if block.kind == "python"
)
FILES = {"saturation": NODE, "limited": PLUGIN, "limited_graph": GRAPH, "test_saturation": TEST}


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The files of the page, where they can be imported."""
    folder = tmp_path_factory.mktemp("page")
    for name, body in FILES.items():
        (folder / f"{name}.py").write_text(body, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for name in FILES:
        sys.modules.pop(name, None)


def of_page(name: str) -> ModuleType:
    return __import__(name)


class TestThePipelineOfThePage(PipelineContract):
    @pytest.fixture
    def plugin(self) -> PipelinePlugin:
        plugin: PipelinePlugin = of_page("limited").PLUGIN
        return plugin

    def test_sums_limited_frames_and_counts_their_values(self, plugin: PipelinePlugin, rig: Rig) -> None:
        params = plugin.params.parse('{"top": 40, "accumulation": {"enabled": true, "nb_frames": 5}, "bins": 8}')
        pipeline = plugin.build(params, rig.setup)
        rig.run(pipeline, range(12))
        frames = np.minimum(np.stack([image(SPEC, i) for i in range(10)]), 40).astype("u4")
        sums = frames.reshape(2, 5, *SPEC.shape).sum(1)
        assert np.array_equal(rig.sinks[0].frames, sums)
        counts: list[Any] = [np.histogram(each, 8, (0, 200))[0] for each in sums]
        assert np.array_equal(np.array(rig.sinks[1].frames)[:, 0, 0], counts)
        pipeline.erase()

    def test_is_drawn(self, plugin: PipelinePlugin) -> None:
        assert "values above the top become the top ($.top)" in Drawing.declared(plugin).tree()


def test_the_test_of_the_page_passes() -> None:
    folder = Path(of_page("saturation").__file__ or "").parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
    ]
    done = subprocess.run(
        [*command, "test_saturation.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
