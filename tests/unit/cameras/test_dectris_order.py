"""Which messages of a stream are the run's, in which order, and which are missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.cameras.dectris._messages import Image, Message, SeriesEnd, SeriesStart
from lima2_tango.cameras.dectris._order import WINDOW, Arm, Missing, Sequencer


def image(number: int, series: int = 7, unique_id: str = "") -> Image:
    return Image(series, unique_id, number, (), 0.0, 0.0)


def start(series: int = 7) -> SeriesStart:
    return SeriesStart(series, "", ("threshold_1",), 0, (1, 1), np.dtype("u2"), {})


def taken(sequencer: Sequencer, messages: list[Message]) -> list[int | Missing]:
    found = [item for message in messages for item in sequencer.take(message)]
    return [item.number if isinstance(item, Image) else item for item in found]


def alone(nb_images: int = 100, arm: Arm | None = None) -> Sequencer:
    return Sequencer(arm or Arm(7), nb_images, share=False)


def test_images_in_order_pass_at_once() -> None:
    sequencer = alone(3)
    assert taken(sequencer, [start(), image(0), image(1)]) == [0, 1]
    assert not sequencer.complete
    assert taken(sequencer, [image(2), SeriesEnd(7, "")]) == [2]
    assert sequencer.complete
    assert sequencer.ended


def test_wrong_order_is_put_right() -> None:
    sequencer = alone()
    assert taken(sequencer, [image(1), image(3), image(0), image(2)]) == [0, 1, 2, 3]
    assert sequencer.seen.late == 2


def test_a_gap_is_a_loss_once_enough_came_behind_it() -> None:
    sequencer = alone()
    numbers = [*range(5), *range(7, 7 + WINDOW)]
    assert taken(sequencer, [image(n) for n in numbers]) == list(range(5))
    assert taken(sequencer, [image(7 + WINDOW)]) == [Missing(5, 7), *range(7, 8 + WINDOW)]


def test_the_end_of_the_series_ends_the_wait() -> None:
    sequencer = alone(10)
    assert taken(sequencer, [image(0), image(2), image(5), SeriesEnd(7, "")]) == [0, Missing(1, 2), 2, Missing(3, 5), 5]
    assert list(sequencer.missing_to(10)) == [Missing(6, 10)]
    assert sequencer.complete


def test_an_image_that_was_given_up_is_too_late() -> None:
    sequencer = alone()
    taken(sequencer, [image(n) for n in range(1, WINDOW + 2)])
    assert taken(sequencer, [image(0)]) == []
    assert sequencer.seen.late == 1


def test_copies_and_surplus_are_counted() -> None:
    sequencer = alone(2)
    assert taken(sequencer, [image(0), image(0), image(1), image(1), image(2)]) == [0, 1]
    assert (sequencer.seen.copies, sequencer.seen.surplus) == (2, 1)


@pytest.mark.parametrize(
    ("arm", "series", "unique_id", "ours"),
    [
        (Arm(7), 7, "", True),
        (Arm(7), 6, "", False),
        (Arm(7, "A"), 9, "A", True),  # its numbers are its own: the identifier counts
        (Arm(7, "A"), 7, "B", False),
        (Arm(7, "A"), 7, "", True),
        (Arm(-1, "A"), 7, "A", True),
    ],
)
def test_messages_of_another_arm_are_left_out(arm: Arm, series: int, unique_id: str, ours: bool) -> None:
    sequencer = alone(arm=arm)
    assert taken(sequencer, [image(0, series, unique_id)]) == ([0] if ours else [])
    assert sequencer.seen.foreign == ({} if ours else {series: 1})


def test_where_nobody_told_the_first_start_says_which_series_it_is() -> None:
    sequencer = alone(arm=Arm())
    assert taken(sequencer, [start(4), start(5), image(0, 5), image(1, 4), image(1, 5)]) == [0, 1]
    assert sequencer.seen.foreign == {4: 1}


def test_of_a_share_gaps_are_no_losses() -> None:
    sequencer = Sequencer(Arm(7), 100, share=True)
    assert taken(sequencer, [image(3), image(5), image(50), image(4), image(50)]) == [3, 5, 50]
    assert (sequencer.seen.late, sequencer.seen.copies) == (1, 1)
    assert list(sequencer.missing_to(100)) == []


@given(st.lists(st.integers(0, 40), max_size=60))
def test_whatever_comes_each_number_leaves_once_and_in_order(numbers: list[int]) -> None:
    sequencer = alone(30)
    found = taken(sequencer, [image(n) for n in numbers] + [SeriesEnd(7, "")])
    found += list(sequencer.missing_to(30))
    covered = [n for item in found for n in (range(item.first, item.end) if isinstance(item, Missing) else [item])]
    assert covered == list(range(30))
