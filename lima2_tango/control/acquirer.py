"""The rank that acquires for all: a camera without a pipeline, beside the control or beside a receiver."""

import logging
from collections.abc import Callable
from contextlib import closing
from threading import Thread
from typing import Any

from lima2_tango.cameras.base import Plugin, ReceiverHalf
from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import AgreementError, StateError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.modules import whole
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series, Topology
from lima2_tango.transport.messages import Go
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.reach import Reach
from lima2_tango.transport.roster import Roster
from lima2_tango.transport.scatter import Dealer
from lima2_tango.transport.topology import make_topology

from .settings import Settings

log = logging.getLogger(__name__)

CAMERA_TIMEOUT = 15.0
"""A run that was reset takes no longer than this to end [s]."""
REMEMBERED = 4
"""Runs of which it is known who got which frame."""

Failed = Callable[[str, Exception], None]
"""Told the uuid of a run and what went wrong."""


class Acquirer:
    """Makes all frames of a run and deals them to its receivers."""

    def __init__(self, plugin: Plugin, settings: Settings, roster: Roster, participant: Participant) -> None:
        self._camera: ReceiverHalf[Any] = plugin.receiver()
        self._camera.locate(settings.detector)
        self._settings = settings
        self._participant = participant
        self._roster = roster
        self._reach = Reach(lambda: roster.fabric)
        self._pool: Pool | None = None
        self._thread: Thread | None = None
        self._dealt: dict[str, Topology] = {}

    def prepare(self, params: AcquisitionParams, pool: Pool | None = None) -> None:
        """Check, and have the camera ready; raises Lima2Error. What was prepared before is given up.

        `pool` is the process's, where it has one.
        """
        self._wait_for_camera()
        self._pool = pool or self._pool or Pool(self._settings.budget(self._roster.processes_on_this_host()))
        self._params = params
        self._spec: FrameSpec = self._camera.prepare(params, 0, 1, self._pool)

    def start(self, uuid: str, failed: Failed) -> None:
        """Take part in the run that is started now."""
        self._wait_for_camera()
        self._participant.prepared(uuid)
        self._thread = Thread(target=self._main, args=(uuid, failed), name=f"lima2-acquire-{uuid[:8]}", daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """What was prepared is not started; without effect on a run that is on."""
        if self._thread is None or not self._thread.is_alive():
            self._camera.abandon()

    def dealt(self, uuid: str) -> Topology | None:
        """Who got which frame of one of the last runs; None where that is not known here."""
        return self._dealt.get(uuid)

    def close(self) -> None:
        """The process goes down: give the camera back."""
        self._participant.cut_here()
        if self._thread is not None:
            self._thread.join(0.2)
        self._camera.close()

    def _wait_for_camera(self) -> None:
        if self._thread is not None:
            self._thread.join(CAMERA_TIMEOUT)
            if self._thread.is_alive():
                raise StateError(
                    f"the acquisition of the last run has not ended within {CAMERA_TIMEOUT:.0f} s: restart this server"
                )

    def _main(self, uuid: str, failed: Failed) -> None:
        failure: Exception | None = None
        try:
            self._acquire(uuid)
        except Exception as error:  # noqa: BLE001 - boundary: the acquisition's loop turns everything into FAULT
            failure = error
            log.error("the acquisition of %s failed: %s", uuid, error)  # noqa: TRY400
            failed(uuid, error)
        self._camera.abandon()
        self._participant.done(uuid, 0, "" if failure is None else f"acquisition: {failure}")

    def _acquire(self, uuid: str) -> None:
        params = self._params
        go = self._participant.agree(uuid, sharing=str(params.sharing))
        if go is None:  # stopped before it began
            return
        topology = make_topology(params.dispatch, go.receivers, go.seed, params.sharing)
        self._remember(uuid, topology)
        series = Series(params.acq, topology.acquired(0), 0)
        series.tag = go.tag
        self._participant.attach(series)
        dealer = self._dealer(go, topology, series)
        try:
            with closing(self._camera.blocks(series)) as items:
                for item in items:
                    if isinstance(item, Block):
                        dealer.hand_over(item)
        except Exception as error:
            dealer.end(f"the rank that acquires for all failed: {error}")
            raise
        dealer.end(series.orphaned)
        if series.orphaned:
            raise AgreementError(series.orphaned)

    def _dealer(self, go: Go, topology: Topology, series: Series) -> Dealer:
        layout = whole(self._spec)
        return Dealer(self._reach.outlets(go, 0, layout, 0, self._spec), topology.deal, layout, 0, series)

    def _remember(self, uuid: str, topology: Topology) -> None:
        for old in list(self._dealt)[: 1 - REMEMBERED]:
            del self._dealt[old]
        self._dealt[uuid] = topology
