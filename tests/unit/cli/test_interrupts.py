"""Ctrl-C and SIGTERM in long work."""

import signal
import sys
import weakref
from collections.abc import Callable

import llvmlite.binding as llvm
import pytest

from lima2_tango.cli.interrupts import heard


class Thing:
    """Something that a weak reference can be of."""


def lose(number: signal.Signals) -> None:
    """The signal comes while a weak reference is called back: Python drops what its handler raises."""
    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert watched() is None


def compile_and(do: Callable[[], None]) -> None:
    """LLVM compiles something, and calls Python back meanwhile."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly("define i32 @one() {\nret i32 1\n}")
    engine = llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine())
    called = []

    def look_for_object(_module: llvm.ModuleRef) -> None:
        called.append(do())

    engine.set_object_cache(None, look_for_object)
    engine.finalize_object()
    assert called


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["SIGINT", "SIGTERM"]
)
class TestSignals:
    def test_one_is_heard_at_once(self, number: signal.Signals, raised: type[BaseException]) -> None:
        with pytest.raises(raised), heard():
            signal.raise_signal(number)

    def test_one_that_python_drops_is_heard_at_the_next_look(
        self, number: signal.Signals, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dropped: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda what: dropped.append(what.exc_type))
        with heard() as check:
            lose(number)
            assert dropped == [raised]
            with pytest.raises(raised):
                check()

    def test_one_that_comes_while_a_kernel_is_compiled_waits_for_the_next_look(
        self, number: signal.Signals, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dropped: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda what: dropped.append(what.exc_type))
        with heard() as check:
            compile_and(lambda: signal.raise_signal(number))
            assert not dropped
            with pytest.raises(raised):
                check()

    def test_the_handlers_of_before_are_back_afterwards(
        self, number: signal.Signals, raised: type[BaseException]
    ) -> None:
        before = signal.getsignal(number)
        with pytest.raises(raised), heard():
            signal.raise_signal(number)
        assert signal.getsignal(number) is before


def test_without_a_signal_work_goes_on() -> None:
    with heard() as check:
        check()


def test_an_interrupt_that_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heard() as check:
            signal.raise_signal(signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)
