"""The default pipeline: what it writes, counts, shows and hands out, and what is left when it fails."""

import random
import sys
import threading
import time

import numpy as np
import pytest

from lima2_tango.core.acquisition import XY, Acq, AcquisitionParams, BinningFactors, Flip, Image, Roi
from lima2_tango.core.errors import MemoryBudgetError, NotAvailableError, ParamError, ProcessingError, SavingError
from lima2_tango.core.frame import FrameSpec, PixelType
from lima2_tango.processing.legacy import Legacy
from lima2_tango.processing.pipelines.legacy import PLUGIN, LegacyParams
from lima2_tango.processing.rows import FRAME_IDX, ROI
from lima2_tango.testing.pipelines import SPEC, Rig, image

NO_FILES = {"saving": {"enabled": False}}
RECT = {"topleft": {"x": 2, "y": 1}, "dimensions": {"x": 4, "y": 3}}
ARC = {"center": {"x": 8.0, "y": 6.0}, "r1": 0.0, "r2": 3.0, "a1": 0.0, "a2": 360.0}
REGIONS = {
    "statistics": {"rect_rois": [RECT], "arc_rois": [ARC]},
    "profiles": {"rois": [RECT, RECT], "directions": ["vertical", "horizontal"]},
}


def params(**blocks):
    return LegacyParams.model_validate(blocks, strict=False)


def images(indices, spec=SPEC):
    return np.stack([image(spec, i) for i in indices])


def rows(pipeline, command, dtype=ROI):
    return np.frombuffer(pipeline.pop(command), dtype)


@pytest.fixture
def rigs():
    """Makes rigs, and looks after the test whether their pipelines gave everything back."""
    made = []

    def make(**options):
        made.append(Rig(**options))
        return made[-1]

    yield make
    for rig in made:
        rig.workers.close()
        assert rig.pool.lent == 0, "memory is still lent"
        assert [sink.outstanding for sink in rig.sinks] == [0] * len(rig.sinks)
        assert all(sink.closed for sink in rig.sinks)


@pytest.fixture
def build(rigs):
    """Makes pipelines on new rigs, and erases them after the test."""
    pipelines = []

    def make(rig=None, **blocks):
        rig = rig or rigs()
        pipelines.append(Legacy(params(**blocks), rig.setup))
        return pipelines[-1], rig

    yield make
    for pipeline in pipelines:
        pipeline.erase()


class TestUnchangedFrames:
    @pytest.mark.parametrize("pixel_type", list(PixelType))
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_pixel_type_is_written_counted_and_shown(self, build, rigs, pixel_type, channels):
        spec = FrameSpec(channels, 12, 16, pixel_type.dtype)
        pipeline, rig = build(rigs(spec=spec), **REGIONS)
        rig.run(pipeline, range(10))
        assert rig.sink.index == list(range(10))
        np.testing.assert_array_equal(rig.sink.frames, images(range(10), spec))
        assert pipeline.infos == {"input_frame_info": spec, "processed_frame_info": spec}
        for label in ("input", "processed"):
            with pipeline.history(label).frame(7) as (number, data):
                assert number == 7
                np.testing.assert_array_equal(data, image(spec, 7))

    def test_counters_agree_with_files_and_rows(self, build):
        pipeline, rig = build(frame_idx_enabled=True, **REGIONS)
        rig.run(pipeline, range(1, 30, 2), receivers=2)
        count = 15
        assert pipeline.counters.read() == {
            "nb_frames_source": count,
            "nb_frames_input": count,
            "nb_frames_processed": count,
            "nb_frames_saved": count,
            "nb_frames_over_limit": 0,
        }
        assert rig.sink.nb_frames_saved == count
        assert pipeline.last_frames() == {"input_idx": 29, "processed_idx": 29}
        assert len(rows(pipeline, "popRoiStatistics")) == 2 * count
        assert len(rows(pipeline, "popRoiProfiles")) == (3 + 4) * count
        assert rows(pipeline, "popFrameIdx", FRAME_IDX)["frame_idx"].tolist() == list(range(1, 30, 2))

    def test_order_holds_whatever_the_work_takes(self, build):
        pipeline, rig = build(frame_idx_enabled=True, **REGIONS)
        durations = random.Random(2)
        rig.sink.before_encode = lambda block: time.sleep(durations.random() * 3e-3)
        rig.run(pipeline, range(120), per_block=2)
        assert rig.sink.index == list(range(120))
        assert rows(pipeline, "popFrameIdx", FRAME_IDX)["frame_idx"].tolist() == list(range(120))
        assert rows(pipeline, "popRoiStatistics")["frame_idx"].tolist() == list(np.repeat(range(120), 2))

    def test_rows_hold_the_statistics_of_their_frame(self, build, rigs):
        pipeline, rig = build(rigs(rank=3), **REGIONS)
        rig.run(pipeline, range(6))
        first = rows(pipeline, "popRoiStatistics")[::2]
        for index, row in enumerate(first):
            region = image(SPEC, index)[0, 1:4, 2:6].astype(float)
            expected = (index, 3, region.min(), region.max(), region.mean(), region.std(), region.sum())
            assert row.tolist() == pytest.approx(expected, rel=1e-6)
        profile = rows(pipeline, "popRoiProfiles")[:7]["sum"]
        region = image(SPEC, 0)[0, 1:4, 2:6].astype(float)
        assert profile.tolist() == [*region.sum(1), *region.sum(0)]

    def test_a_row_comes_never_before_its_frame_is_counted(self, build):
        pipeline, rig = build(frame_idx_enabled=True, **REGIONS)
        feeder = threading.Thread(target=rig.run, args=(pipeline, range(400)))
        feeder.start()
        taken = dict.fromkeys(PLUGIN.row_commands, 0)
        sizes = {"popRoiStatistics": 2 * 32, "popRoiProfiles": 7 * 32, "popFrameIdx": 8}
        alive = True
        while alive:
            alive = feeder.is_alive()
            for command, size in sizes.items():
                frames, rest = divmod(len(pipeline.pop(command)), size)
                taken[command] += frames
                assert rest == 0
                assert taken[command] <= pipeline.counters.read()["nb_frames_processed"]
        assert set(taken.values()) == {400}

    def test_frame_index_rows_come_only_when_asked_for(self, build):
        pipeline, rig = build()
        rig.run(pipeline, range(8))
        assert pipeline.pop("popFrameIdx") == b""

    def test_without_saving_nothing_is_opened(self, build):
        pipeline, rig = build(**NO_FILES)
        rig.run(pipeline, range(8))
        assert rig.sinks == []
        counts = pipeline.counters.read()
        assert (counts["nb_frames_processed"], counts["nb_frames_saved"]) == (8, 0)

    def test_evicted_frame_is_refused_and_the_newest_stays(self, build):
        buffers = {"nb_frames_buffer": 4, "nb_input_frames_buffer": 4}
        pipeline, rig = build(buffers=buffers)
        rig.run(pipeline, range(20))
        with pytest.raises(NotAvailableError, match="frame 3 is not held"), pipeline.history("processed").frame(3):
            pytest.fail("this frame was evicted")
        with pipeline.history("processed").frame(-1) as (number, _):
            assert number == 19

    def test_small_memory_slows_the_run_and_loses_nothing(self, build, rigs, tmp_path):
        """Blocks of 4 MiB that become 8 MiB: the least that is not refused."""
        spec = FrameSpec(1, 512, 512, np.dtype("u2"))
        np.save(tmp_path / "background.npy", np.zeros((512, 512)))
        background = {"enabled": True, "path": str(tmp_path / "background.npy")}
        pipeline, rig = build(rigs(spec=spec, budget=48 << 20, workers_count=4), background=background)
        rig.sink.before_encode = lambda block: time.sleep(random.random() * 2e-2)
        rig.run(pipeline, range(160), per_block=8)
        assert rig.sink.index == list(range(160))
        assert rig.pool.allocated <= rig.pool.budget

    def test_memory_for_fewer_than_four_blocks_is_refused(self, build, rigs, tmp_path):
        np.save(tmp_path / "dark.npy", np.zeros((12, 16)))
        background = {"enabled": True, "path": str(tmp_path / "dark.npy")}
        with pytest.raises(MemoryBudgetError, match="4 blocks of"):
            build(rigs(budget=32 << 20), background=background)

    def test_next_run_gets_the_memory_of_the_last(self, build, rigs):
        spec = FrameSpec(1, 256, 256, np.dtype("u2"))
        rig = rigs(spec=spec, budget=5 * 4 * spec.nbytes)
        for first in (0, 100, 200):
            pipeline, _ = build(rig, **NO_FILES)
            rig.run(pipeline, range(first, first + 40))
            with pipeline.history("processed").frame(-1) as (number, _):
                assert number == first + 39


class TestImageOperations:
    def test_binning_flip_and_region_come_in_this_order(self, build, rigs):
        img = Image(
            binning=BinningFactors(x=2, y=3),
            flip=Flip.LEFT_RIGHT,
            roi=Roi(topleft=XY(x=1, y=1), dimensions=XY(x=5, y=2)),
        )
        pipeline, rig = build(rigs(acquisition=AcquisitionParams(img=img)))
        rig.run(pipeline, range(9))
        raw = images(range(9)).astype("u4")
        binned = raw.reshape(9, 1, 4, 3, 8, 2).sum((3, 5))[..., ::-1]
        np.testing.assert_array_equal(rig.sink.frames, binned[..., 1:3, 1:6])
        assert pipeline.infos["input_frame_info"] == SPEC
        assert pipeline.infos["processed_frame_info"] == FrameSpec(1, 2, 5, np.dtype("u4"))
        with pipeline.history("input").frame(4) as (_, data):
            np.testing.assert_array_equal(data, image(SPEC, 4))

    def test_region_outside_of_the_image_is_refused(self, build, rigs):
        img = Image(roi=Roi(topleft=XY(x=10, y=0), dimensions=XY(x=7, y=2)))
        with pytest.raises(ParamError, match=r"\$\.img\.roi"):
            build(rigs(acquisition=AcquisitionParams(img=img)))


class TestCorrection:
    def files(self, folder, **arrays):
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        return {name: {"enabled": True, "path": str(folder / f"{name}.npy")} for name in arrays}

    def test_background_flatfield_and_mask_apply_in_this_order(self, build, tmp_path):
        mask = np.ones((12, 16), "u1")
        mask[1, 2] = 0
        flat = np.full((12, 16), 2.0)
        blocks = self.files(tmp_path, background=np.full((12, 16), 3.0), flatfield=flat, mask=mask)
        pipeline, rig = build(**blocks, **REGIONS)
        rig.run(pipeline, range(8))
        expected = (images(range(8)) - np.float32(3)) / 2 * mask
        np.testing.assert_allclose(rig.sink.frames, expected)
        assert pipeline.infos["processed_frame_info"].dtype == np.float32
        region = expected[0, 0, 1:4, 2:6].ravel()[1:]
        assert rows(pipeline, "popRoiStatistics")["avg"][0] == pytest.approx(region.mean())

    @pytest.mark.parametrize("name", ["mask", "flatfield", "background"])
    @pytest.mark.parametrize("path", ["", "/nowhere/image.npy"])
    def test_enabled_without_a_file_is_refused_with_its_path(self, build, name, path):
        with pytest.raises(ParamError, match=rf"^\$\.{name}\.path = "):
            build(**{name: {"enabled": True, "path": path}})

    def test_disabled_image_needs_no_file(self, build):
        build(mask={"enabled": False, "path": "/nowhere/image.npy"})


class TestAccumulation:
    @pytest.mark.parametrize("receivers", [1, 2, 3])
    @pytest.mark.parametrize("depth", [1, 3, 5])
    def test_sums_are_numbered_round_robin_over_the_receivers(self, build, rigs, receivers, depth):
        for rank in range(receivers):
            pipeline, rig = build(rigs(rank=rank), accumulation={"enabled": True, "nb_frames": depth}, **REGIONS)
            own = list(range(rank, 31 * receivers, receivers))
            rig.run(pipeline, own, receivers)
            sums = 31 // depth
            numbers = [m * receivers + rank for m in range(sums)]
            raw = images(own[: sums * depth]).astype("u4")
            assert rig.sink.index == numbers
            np.testing.assert_array_equal(rig.sink.frames, raw.reshape(sums, depth, *SPEC.shape).sum(1))
            assert rows(pipeline, "popRoiStatistics")["frame_idx"].tolist() == list(np.repeat(numbers, 2))
            assert pipeline.last_frames() == {"input_idx": own[-1], "processed_idx": numbers[-1]}

    @pytest.mark.parametrize("pixel_type", list(PixelType))
    def test_sums_have_32_bits_or_the_float_type(self, build, rigs, pixel_type):
        spec = FrameSpec(1, 12, 16, pixel_type.dtype)
        pipeline, rig = build(rigs(spec=spec), accumulation={"enabled": True, "nb_frames": 4})
        rig.run(pipeline, range(8))
        wanted = pixel_type.dtype if pixel_type.dtype.kind == "f" else np.dtype(f"{pixel_type.dtype.kind}4")
        assert pipeline.infos["processed_frame_info"].dtype == wanted == rig.sink.frames[0].dtype
        np.testing.assert_array_equal(rig.sink.frames[1], images(range(4, 8), spec).astype(wanted).sum(0))

    @pytest.mark.parametrize("frames", [0, 1, 4, 5, 9])
    def test_a_stop_drops_the_remainder_and_counts_it_as_source_only(self, build, frames):
        pipeline, rig = build(accumulation={"enabled": True, "nb_frames": 5}, frame_idx_enabled=True)
        rig.run(pipeline, range(frames), per_block=3)
        counts = pipeline.counters.read()
        assert (counts["nb_frames_source"], counts["nb_frames_input"]) == (frames, frames)
        assert counts["nb_frames_processed"] == counts["nb_frames_saved"] == len(rig.sink.frames) == frames // 5
        assert rows(pipeline, "popFrameIdx", FRAME_IDX)["frame_idx"].tolist() == list(range(frames))

    def test_a_sum_that_cannot_be_written_stops_the_run(self, build, rigs):
        pipeline, rig = build(rigs(fail_saving_at=2), accumulation={"enabled": True, "nb_frames": 3}, **REGIONS)
        with pytest.raises(SavingError, match="no space left"):
            rig.run(pipeline, range(30))
        counts = pipeline.counters.read()
        assert counts["nb_frames_processed"] == counts["nb_frames_saved"] == 2
        assert len(rows(pipeline, "popRoiStatistics")) == 2 * 2


class TestPlaceholders:
    @pytest.mark.parametrize("name", [None, "background"])
    def test_lost_frame_is_zeros_in_files_and_rows_and_keeps_its_place(self, build, tmp_path, name):
        np.save(tmp_path / "background.npy", np.full((12, 16), 3.0))
        blocks = {name: {"enabled": True, "path": str(tmp_path / "background.npy")}} if name else {}
        pipeline, rig = build(**blocks, **REGIONS)
        rig.run(pipeline, range(8), lost=[2, 5])
        assert rig.sink.index == list(range(8))
        assert [bool(frame.any()) for frame in rig.sink.frames] == [i not in {2, 5} for i in range(8)]
        sums = rows(pipeline, "popRoiStatistics")[::2]
        assert (sums["frame_idx"].tolist(), sums["sum"][[2, 5]].tolist()) == (list(range(8)), [0, 0])
        assert pipeline.counters.read()["nb_frames_processed"] == 8

    def test_lost_frame_adds_nothing_to_its_sum(self, build):
        pipeline, rig = build(accumulation={"enabled": True, "nb_frames": 4})
        rig.run(pipeline, range(8), lost=[2])
        np.testing.assert_array_equal(rig.sink.frames[0], images([0, 1, 3]).astype("u4").sum(0))


class TestFailure:
    @pytest.mark.parametrize("bad", [0, 13, 39])
    def test_frames_before_the_failed_block_stay_and_nothing_leaks(self, build, bad):
        pipeline, rig = build(frame_idx_enabled=True, **REGIONS)
        told = threading.Event()
        pipeline.on_failure = told.set

        def break_at(block):
            time.sleep(1e-3)
            if bad in block.index:
                raise ValueError("odd pixel")

        rig.sink.before_encode = break_at
        with pytest.raises(ProcessingError, match=rf"^frames {bad // 4 * 4} to .*odd pixel"):
            rig.run(pipeline, range(40))
        pipeline.abort(ProcessingError("as the receiver does"))
        kept = bad // 4 * 4
        assert told.is_set()
        assert rig.sink.index == list(range(kept))
        assert pipeline.counters.read()["nb_frames_saved"] == kept
        assert rows(pipeline, "popFrameIdx", FRAME_IDX)["frame_idx"].tolist() == list(range(kept))
        assert rig.sink.closed

    @pytest.mark.parametrize("written", [0, 12, 14])
    def test_full_disk_stops_the_run_and_counts_what_the_file_has(self, build, rigs, written):
        pipeline, rig = build(rigs(fail_saving_at=written), frame_idx_enabled=True, **REGIONS)
        with pytest.raises(SavingError, match="no space left") as caught:
            rig.run(pipeline, range(40))
        assert caught.value.info["frame_idx"] == written // 4 * 4
        assert rig.sink.index == list(range(written))
        counts = pipeline.counters.read()
        assert counts["nb_frames_source"] == counts["nb_frames_processed"] == counts["nb_frames_saved"] == written
        assert rows(pipeline, "popFrameIdx", FRAME_IDX)["frame_idx"].tolist() == list(range(written))
        assert len(rows(pipeline, "popRoiProfiles")) == 7 * written
        assert pipeline.last_frames()["processed_idx"] == written - 1

    def test_abort_in_full_flight_closes_the_files_with_what_they_have(self, build):
        pipeline, rig = build()
        feeding = threading.Event()

        def slow(block):
            feeding.set()
            time.sleep(2e-3)

        rig.sink.before_encode = slow
        refused = []

        def feed():
            try:
                rig.run(pipeline, range(2000))
            except ProcessingError as error:
                refused.append(str(error))

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert feeding.wait(10)
        pipeline.abort(ProcessingError("the beam went down"))
        feeder.join(10)
        assert refused == ["the beam went down"]
        assert rig.sink.closed
        assert rig.sink.index == list(range(pipeline.counters.read()["nb_frames_saved"]))

    def test_erase_of_a_run_that_goes_on_ends_it(self, build):
        pipeline, rig = build(**REGIONS)
        pipeline.activate(1)
        rig.feed(pipeline, range(20))
        pipeline.erase()
        assert (rig.pool.lent, rig.sink.closed) == (0, 1)
        with pytest.raises(ProcessingError, match="was erased"):
            rig.feed(pipeline, range(20, 24))

    def test_refused_file_leaves_nothing_behind(self, rigs):
        rig = rigs()
        with pytest.raises(ParamError, match=r"\$\.saving\.base_path"):
            Legacy(params(saving={"base_path": "/refused"}), rig.setup)
        assert rig.pool._evictors == []

    @pytest.mark.parametrize(
        ("blocks", "path"),
        [
            ({"statistics": {"rect_rois": [{"topleft": {"x": 15, "y": 0}, "dimensions": {"x": 2, "y": 1}}]}},
             "$.statistics.rect_rois[0]"),
            ({"profiles": {"rois": [RECT], "directions": []}}, "$.profiles.directions"),
        ],
    )  # fmt: skip
    def test_region_that_cannot_work_is_refused_at_prepare(self, build, blocks, path):
        with pytest.raises(ParamError) as caught:
            build(**blocks)
        assert caught.value.path == path

    @pytest.mark.parametrize(
        "text",
        [
            '{"accumulation": {"nb_frames": 0}}',
            '{"fifo": {"nb_fifo_frames": 0}}',
            '{"class_name": "LimaProcessingSmx"}',
            '{"max_countrate_protection": {"pixel_capacity_override": [{"x": 1}]}}',
        ],
    )
    def test_parameters_out_of_range_are_refused(self, text):
        with pytest.raises(ParamError, match=r"^\$\."):
            LegacyParams.parse(text)


class TestProtection:
    """An exposure of 0.1 s: 98 counts are 980 counts/s, which frames 48 and 49 of every 50 exceed over 960."""

    ACQUISITION = AcquisitionParams(acq=Acq(expo_time=100_000))

    def limit(self, **more):
        return {"max_countrate_protection": {"enabled": True, "max_countrate": 960, **more}}

    def test_pixel_over_its_limit_stops_the_run_with_frame_and_rate(self, build, rigs):
        pipeline, rig = build(rigs(acquisition=self.ACQUISITION), **self.limit())
        with pytest.raises(ProcessingError, match=r"frame 48, pixel \(1, 3\) .* counts 970 /s") as caught:
            rig.run(pipeline, range(60))
        assert caught.value.info == {"frame_idx": 48}
        assert rig.sink.index == list(range(48))

    def test_without_abort_frames_over_the_limit_are_counted(self, build, rigs):
        pipeline, rig = build(rigs(acquisition=self.ACQUISITION), **self.limit(abort_on_protection=False))
        rig.run(pipeline, range(100), lost=[98])
        counts = pipeline.counters.read()
        assert (counts["nb_frames_over_limit"], counts["nb_frames_saved"]) == (3, 100)

    def test_override_gives_pixels_their_own_limit(self, build, rigs):
        everywhere = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 16, "y": 12}, "max_countrate": 1000}
        pipeline, rig = build(rigs(acquisition=self.ACQUISITION), **self.limit(pixel_capacity_override=[everywhere]))
        rig.run(pipeline, range(60))
        assert pipeline.counters.read()["nb_frames_saved"] == 60

    def command(self, rigs, code, *args):
        rig = rigs(acquisition=self.ACQUISITION, allowed_commands=(sys.executable,))
        return rig, {"command": sys.executable, "args": ["-c", code, *map(str, args)]}

    def test_command_runs_once_beside_the_data_and_without_a_shell(self, build, rigs, tmp_path):
        code = "import sys, pathlib; open(sys.argv[1], 'a').write(sys.argv[2] + chr(10))"
        rig, command = self.command(rigs, code, tmp_path / "calls", "$HOME; beam off")
        pipeline, _ = build(rig, **self.limit(abort_on_protection=False, **command))
        rig.run(pipeline, range(100))
        assert (tmp_path / "calls").read_text() == "$HOME; beam off\n"
        assert len(rig.sink.frames) == 100

    def test_failed_command_is_reported_when_the_run_goes_on(self, build, rigs):
        rig, command = self.command(rigs, "raise SystemExit('shutter stuck')")
        pipeline, _ = build(rig, **self.limit(abort_on_protection=False, **command))
        with pytest.raises(ProcessingError, match="ended with exit status 1, saying: shutter stuck"):
            rig.run(pipeline, range(60))
        assert len(rig.sink.frames) == 60

    def test_failed_command_is_reported_beside_the_protection_that_called_it(self, build, rigs):
        rig, command = self.command(rigs, "raise SystemExit('shutter stuck')")
        pipeline, _ = build(rig, **self.limit(**command))
        with pytest.raises(ProcessingError, match="frame 48") as caught:
            rig.run(pipeline, range(60))
        assert "shutter stuck" in caught.value.info["also"]

    @pytest.mark.parametrize("allowed", [(), ("/usr/bin/true",)])
    def test_command_that_the_site_does_not_allow_is_refused(self, build, rigs, allowed):
        with pytest.raises(ParamError, match=r"^\$\.max_countrate_protection\.command.*allowed_commands"):
            build(rigs(allowed_commands=allowed), **self.limit(command="/usr/bin/reboot"))

    def test_command_that_does_not_exist_is_refused(self, build, rigs):
        with pytest.raises(ParamError, match="there is no such program"):
            build(rigs(allowed_commands=("/nowhere/close",)), **self.limit(command="/nowhere/close"))

    def test_command_without_protection_is_never_looked_at(self, build):
        build(max_countrate_protection={"enabled": False, "command": "/usr/bin/reboot"})
