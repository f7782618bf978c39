"""Look-ahead: frames seen, estimated, emitted and waited for."""

import pytest
import torch
from conftest import CONFIG, SCHEDULES, make_inverter, schedules

from speechbrain_phaseinv.estimation import Estimates, Schedule


@schedules
def test_a_pass_goes_as_soon_as_its_frames_have_come(schedule):
    """Played through: a frame comes, and passes go while they can."""
    emitted = 0
    for come in range(12):
        newest = emitted + schedule.stride - 1 + schedule.lookahead
        while newest < come:
            emitted += schedule.stride
            newest += schedule.stride
        assert schedule.num_passes(come) == emitted // schedule.stride
        # The rest waits, and no pass is left in it.
        assert schedule.num_passes(come - emitted) == 0


@schedules
def test_estimates_are_of_frames_that_have_come_and_all_that_go_out(schedule):
    frames = schedule.frames(3, position=10)
    assert frames.shape == (3, len(schedule.offsets))
    assert frames.dtype == torch.int64
    for p, about in enumerate(frames.tolist()):
        first = 10 + p * schedule.stride
        last = first + schedule.stride - 1
        assert set(range(first, last + 1)) <= set(about)
        assert about == sorted(about) and about[-1] <= first + schedule.delay
        assert schedule.ahead == sum(x > last for x in about)


@schedules
def test_latency_is_the_window_s_and_the_frames_that_are_waited_for(schedule):
    expected = 512 - 128 + 128 * (schedule.stride - 1 + schedule.lookahead)
    assert schedule.latency(CONFIG) == expected


def test_a_look_ahead_frame_with_an_estimate_may_go_out_at_once():
    with_estimate = [x for x in SCHEDULES if x.estimates_lookahead]
    assert [x.offsets for x in with_estimate] == [(0, 1), (-1, 0, 1)]
    for schedule in with_estimate:
        other = schedule.without_lookahead()
        assert (other.delay, other.stride) == (0, 1)
        # The pass that saw a frame ahead is now the one that emits it.
        assert torch.equal(other.frames(4, position=1), schedule.frames(4))


@pytest.mark.parametrize(
    "stride, lookahead, offsets",
    [
        (0, 0, (0,)),
        (1, 2, (0,)),
        (1, -1, (0,)),
        (1, 0, (0, 1)),  # has not come
        (2, 0, (0,)),  # leaves one out
        (1, 0, (1,)),
        (1, 1, (-1, 1)),
        (1, 0, (0, -1)),
        (1, 0, (-3, -2, -1, 0)),
    ],
)
def test_impossible_schedules_are_refused(stride, lookahead, offsets):
    with pytest.raises(ValueError, match="consecutive offsets"):
        Schedule(stride, lookahead, offsets)


def test_an_inverter_takes_the_schedule_of_its_estimator():
    expected = {
        "gradient-0": Schedule(1, 0, (0,)),
        "gradient-1": Schedule(1, 1, (0,)),
        "paired": Schedule(2, 0, (0, 1)),
        "refined-1": Schedule(1, 1, (0, 1)),
        "refined-0": Schedule(1, 0, (-1, 0)),
        "refined-again": Schedule(2, 0, (-1, 0, 1)),
    }
    for kind, schedule in expected.items():
        inverter = make_inverter(kind, CONFIG)
        assert inverter.schedule == schedule
        assert inverter.lookahead == schedule.delay
        assert inverter.latency == schedule.latency(CONFIG)


def test_a_single_estimate_has_no_confidence_unless_there_is_one():
    time, frequency = torch.randn(2, 3, 4, 9)
    plain = Estimates.single(time, frequency)
    assert all(x.shape == (3, 4, 1, 9) for x in plain)
    assert not plain.time_confidence.any()
    assert not plain.frequency_confidence.any()
    ones = torch.ones_like(time)
    some = Estimates.single(time, frequency, confidence=ones)
    assert torch.equal(some.frequency[:, :, 0], frequency)
    assert some.frequency_confidence.all() and not some.time_confidence.any()
