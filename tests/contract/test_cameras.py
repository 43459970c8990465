"""Every camera that is found keeps the contract; one that is added in one file too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lima2_tango import cameras
from lima2_tango.core.plugins import available
from lima2_tango.testing.camera_rig import Rig, make_rig
from lima2_tango.testing.cameras import CameraContract

TINY = '''
"""A detector that counts."""

import numpy as np

from lima2_tango.cameras.base import ControlHalf, DetectorInfo, PacedReceiver, Plugin
from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.frame import Block, FrameSpec, Lease


class Control(ControlHalf):
    def info(self):
        return DetectorInfo("Tiny", "Tiny", "1", (1e-4, 1e-4), (4, 3))

    def prepare(self, params):
        self.capabilities.check(params.acq)
        self._acq, self._granted, self._on_trigger = params.acq, 0, None

    def start(self, on_trigger):
        self._on_trigger = on_trigger

    def trigger(self):
        self._granted += self._acq.nb_frames_per_trigger
        self._on_trigger(min(self._granted, self._acq.nb_frames))

    def stop(self):
        self._on_trigger = None


class Receiver(PacedReceiver):
    def prepare(self, params, rank, receivers, pool):
        return FrameSpec(1, 3, 4, np.dtype("u2"))

    def read(self, local, indices, times):
        data = np.broadcast_to(indices.astype("u2")[:, None, None, None], (len(indices), 1, 3, 4)).copy()
        yield Block(data, indices, local, times, Lease())


PLUGIN = Plugin("Tiny", AcquisitionParams, Control, Receiver)
'''


class TestEveryCamera(CameraContract):
    @pytest.fixture(params=sorted(available("cameras")))
    def rig(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
        rig = make_rig(request.param, tmp_path)
        yield rig
        rig.close()


class TestCameraAddedInOneFile(CameraContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        (tmp_path / "tiny.py").write_text(TINY)
        monkeypatch.setattr(cameras, "__path__", [*cameras.__path__, str(tmp_path)])
        assert "tiny" in available("cameras")
        rig = make_rig("tiny", tmp_path)
        yield rig
        rig.close()
