"""One thread delivers messages, in order, and looks at deadlines."""

from threading import Event, current_thread

import pytest

from lima2_tango.testing.worlds import memory_job
from lima2_tango.transport.channel import CHANNEL_THREAD, Channel, WorldOfOne
from lima2_tango.transport.messages import Grant, RollCall

BOUND = 5.0


@pytest.fixture
def job():
    channels = memory_job(2)
    yield channels
    for channel in channels:
        assert channel.close()


class Inbox:
    """Keeps what arrives."""

    def __init__(self, channel, expected):
        self.messages, self.threads, self.complete = [], set(), Event()
        self._expected = expected
        channel.subscribe(self._take)

    def _take(self, source, message):
        self.messages.append((source, message))
        self.threads.add(current_thread().name)
        if len(self.messages) == self._expected:
            self.complete.set()


def test_messages_arrive_in_order_with_their_sender(job):
    inbox = Inbox(job[1], 100)
    for channel in job:
        channel.open()
    for limit in range(100):
        job[0].send(1, Grant("u", limit))
    assert inbox.complete.wait(BOUND)
    assert inbox.messages == [(0, Grant("u", limit)) for limit in range(100)]


def test_one_thread_delivers_everything(job):
    inbox = Inbox(job[0], 20)
    for channel in job:
        channel.open()
    for number in range(10):
        job[number % 2].send(0, RollCall(str(number)))
        job[0].send(0, RollCall(str(number)))
    assert inbox.complete.wait(BOUND)
    assert inbox.threads == {CHANNEL_THREAD}


def test_a_process_hears_itself():
    channel = Channel(WorldOfOne())
    inbox = Inbox(channel, 1)
    channel.open()
    channel.send(0, RollCall("me"))
    assert inbox.complete.wait(BOUND)
    assert channel.close()


def test_a_handler_may_send():
    channel = Channel(WorldOfOne())
    inbox = Inbox(channel, 2)

    def answer(source, message):
        if isinstance(message, RollCall):
            channel.send(source, Grant(message.run, 1))

    channel.subscribe(answer)
    channel.open()
    channel.send(0, RollCall("u"))
    assert inbox.complete.wait(BOUND)
    assert [type(message).__name__ for _, message in inbox.messages] == ["RollCall", "Grant"]
    assert channel.close()


@pytest.mark.parametrize("active", [False, True])
def test_deadlines_are_looked_at_while_nothing_arrives(active):
    channel, ticks, enough = Channel(WorldOfOne()), [], Event()

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            enough.set()

    channel.subscribe(lambda source, message: None, tick)
    channel.keep_awake(channel, active)
    channel.open()
    assert enough.wait(BOUND)
    assert channel.close()


def test_what_was_sent_before_the_channel_opened_is_not_lost(job):
    inbox = Inbox(job[1], 1)
    job[0].send(1, RollCall("early"))
    for channel in job:
        channel.open()
    assert inbox.complete.wait(BOUND)


def test_a_rank_that_there_is_not_is_an_error():
    with pytest.raises(ValueError, match="no rank 3"):
        WorldOfOne().send(3, b"")


def test_a_channel_that_was_never_opened_can_be_closed():
    assert Channel(WorldOfOne()).close()


def test_what_a_handler_raises_is_logged_and_the_others_still_hear(job, caplog):
    def broken(source, message):
        raise ValueError("cannot count to three")

    job[1].subscribe(broken)
    inbox = Inbox(job[1], 2)
    for channel in job:
        channel.open()
    job[0].send(1, RollCall("a"))
    job[0].send(1, RollCall("b"))
    assert inbox.complete.wait(BOUND)
    assert [message.run for _, message in inbox.messages] == ["a", "b"]
    assert "MPI rank 1 could not act on RollCall(run='a') of rank 0" in caplog.text
    assert "cannot count to three" in caplog.text


def test_a_deadline_that_cannot_be_looked_at_is_logged_once(job, caplog):
    looked = Event()
    times = []

    def broken():
        times.append(1)
        if len(times) > 3:
            looked.set()
        raise ValueError("no clock")

    job[0].subscribe(lambda source, message: None, broken)
    job[0].open()
    assert looked.wait(BOUND)
    assert caplog.text.count("MPI rank 0 could not look after its run") == 1


def test_bytes_that_are_no_message_are_logged_and_the_next_is_heard(job, caplog):
    inbox = Inbox(job[1], 1)
    job[0].world.send(1, b"\x00\x01 nonsense")
    for channel in job:
        channel.open()
    job[0].send(1, RollCall("a"))
    assert inbox.complete.wait(BOUND)
    assert "MPI rank 1 got 11 bytes from rank 0 that are no message" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_channel_that_ends_by_an_error_says_so(caplog):
    channel = memory_job(1)[0]

    def gone():
        raise OSError("the network is down")

    channel.world.poll = gone
    channel.open()
    channel._thread.join(BOUND)
    assert not channel._thread.is_alive()
    assert "MPI rank 0 neither sends nor hears messages any more" in caplog.text
