"""The pipeline that fails on request fails there and nowhere else."""

import pytest

from lima2_tango.core.errors import ParamError, ProcessingError
from lima2_tango.processing.pipelines.failing import Failing, FailingParams
from lima2_tango.testing.pipelines import Rig


@pytest.fixture
def rig():
    with Rig() as rig:
        yield rig
        assert rig.pool.lent == 0


def test_default_runs_clean(rig):
    pipeline = Failing(FailingParams(), rig.setup)
    assert not pipeline.fails_activation
    rig.run(pipeline, range(20))
    assert pipeline.counters.read() == {"nb_frames_source": 20}
    assert (rig.sinks, pipeline.histories, pipeline.rows) == ([], {}, {})


def test_prepare_fails_on_request(rig):
    with pytest.raises(ProcessingError, match="failed_on_prepare"):
        Failing(FailingParams(failed_on_prepare=True), rig.setup)


def test_activation_fails_on_request(rig):
    assert Failing(FailingParams(failed_on_activate=True), rig.setup).fails_activation


@pytest.mark.parametrize(("indices", "before"), [(range(20), 10), (range(0, 40, 2), 5), (range(10, 30), 0)])
def test_the_frame_asked_for_fails_and_those_before_it_count(rig, indices, before):
    pipeline = Failing(FailingParams(failed_frame_idx=10), rig.setup)
    told = []
    pipeline.on_failure = lambda: told.append(True)
    with pytest.raises(ProcessingError, match="frame 10 ") as caught:
        rig.run(pipeline, indices)
    assert caught.value.info == {"frame_idx": 10}
    assert pipeline.counters.read() == {"nb_frames_source": before}
    with pytest.raises(ProcessingError, match="frame 10 "):
        pipeline.finish()
    assert told == [True]


def test_a_receiver_without_the_frame_runs_clean(rig):
    pipeline = Failing(FailingParams(failed_frame_idx=10), rig.setup)
    rig.run(pipeline, range(1, 21, 2))
    assert pipeline.counters.read() == {"nb_frames_source": 10}


@pytest.mark.parametrize("text", ['{"failed_frame_idx": -1}', '{"failed_frame_idx": 1.5}', '{"saving": {}}'])
def test_other_parameters_are_refused(text):
    with pytest.raises(ParamError, match=r"^\$\."):
        FailingParams.parse(text)
