"""The doors' common rules: lengths, magnitudes, whole numbers."""

import numpy as np
import pytest
import torch

from speechbrain_phaseinv import SpectrogramInverter, StftConfig
from speechbrain_phaseinv.checks import (
    check_integer,
    check_lengths,
    check_magnitude,
)

CONFIG = StftConfig(16000, n_fft=32, hop_length=8)
FRAMES = [300, 1, 128]
MAGNITUDE = torch.ones(3, 300, 17)

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_lengths_may_be_a_list_an_array_or_a_tensor(kind):
    lengths = check_lengths(kind(FRAMES), MAGNITUDE)
    assert lengths.dtype == torch.int64 and lengths.tolist() == FRAMES


@pytest.mark.parametrize("dtype", INTEGERS)
def test_lengths_of_any_integer_type_count_the_same(dtype):
    frames = [100, 1, 120]
    array = np.array(frames, dtype=dtype)
    for lengths in (array, torch.tensor(frames, dtype=getattr(torch, dtype))):
        checked = check_lengths(lengths, MAGNITUDE)
        assert checked.dtype == torch.int64 and checked.tolist() == frames


def test_small_integers_give_the_same_samples():
    # The number of samples, 8 * 99, does not fit into int8.
    inverter = SpectrogramInverter(CONFIG, estimator="gradient")
    magnitude = torch.rand(2, 120, 17)
    expected = inverter(magnitude, torch.tensor([100, 120]))
    for dtype in (torch.int8, torch.uint8, torch.int16):
        lengths = torch.tensor([100, 120], dtype=dtype)
        assert torch.equal(inverter(magnitude, lengths), expected)


@pytest.mark.parametrize(
    "lengths, message",
    [
        ([301, 1, 1], r"must lie in \[0, 300\]"),
        ([1, -1, 1], r"must lie in \[0, 300\]"),
        ([1, 2], "3 integer lengths"),
        (3, "3 integer lengths"),
        ([1.0, 2.0, 3.0], "3 integer lengths"),
        (torch.ones(3), "3 integer lengths"),
        ([True, True, True], "3 integer lengths"),
        (torch.ones(3, dtype=torch.bool), "3 integer lengths"),
        (["1", "2", "3"], "integer lengths"),
        (torch.ones(3, dtype=torch.cfloat), "3 integer lengths"),
    ],
)
def test_what_are_no_lengths_is_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        check_lengths(lengths, MAGNITUDE)


def test_an_empty_batch_has_no_lengths():
    assert check_lengths([], MAGNITUDE[:0]).dtype == torch.int64


def test_lengths_do_not_follow_the_default_device():
    with torch.device("meta"):
        assert check_lengths(FRAMES, MAGNITUDE).tolist() == FRAMES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_all_but_zero_is_zero(dtype):
    limits = torch.finfo(dtype)
    quietest = limits.tiny / limits.eps
    x = [0, limits.tiny / 4, quietest / 2, 2 * quietest, 1]
    x = torch.tensor([[x]], dtype=dtype, requires_grad=True)
    checked = check_magnitude(x, StftConfig(16000, 8))
    expected = torch.where(x > quietest, x, 0)
    assert torch.equal(checked, expected)
    checked.sum().backward()
    assert x.grad.flatten().tolist() == [0, 0, 0, 1, 1]


def test_zeros_alone_make_no_copy():
    x = torch.tensor([[[0.0, 1.0, 0.0, 2.0, 3.0]]])
    assert check_magnitude(x, StftConfig(16000, 8)) is x


@pytest.mark.parametrize(
    "bad, error, message",
    [
        (np.ones((1, 3, 17)), TypeError, "torch.Tensor, got ndarray"),
        (torch.ones(1, 3, 17, dtype=torch.cfloat), TypeError, "complex"),
        (torch.ones(1, 17, 3), ValueError, "look swapped"),
        (torch.ones(3, 17), ValueError, "batch axis"),
        (torch.ones(1, 3, 80), ValueError, "mel spectrogram"),
        (-torch.ones(1, 3, 17), ValueError, "log-magnitude"),
        (torch.full((1, 3, 17), torch.nan), ValueError, "finite"),
        (torch.full((1, 3, 17), 1e35), ValueError, "at most"),
    ],
)
def test_what_are_no_magnitudes_is_refused(bad, error, message):
    with pytest.raises(error, match=message):
        check_magnitude(bad, CONFIG)


def test_whole_numbers_are_checked_by_their_range():
    assert check_integer("count", np.int8(3)) == 3
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        check_integer("count", -1)
    with pytest.raises(ValueError, match="count must be positive, got 0"):
        check_integer("count", 0, 1)
    with pytest.raises(ValueError, match=r"count must lie in \[2, 9\], got 10"):
        check_integer("count", 10, 2, 9)
    with pytest.raises(TypeError, match="count must be an integer, got 1.5"):
        check_integer("count", 1.5)


@pytest.mark.parametrize("rate", [1, 8000, 2_000_000, 10_000_000])
@pytest.mark.parametrize("n_fft", [2, 400, 2**17])
def test_transforms_that_people_use_are_within_the_limits(rate, n_fft):
    assert StftConfig(rate, n_fft).num_bins == n_fft // 2 + 1


@pytest.mark.parametrize(
    "rate, n_fft, message",
    [
        (16000, 100_000_000, "n_fft must be at most"),
        (3_000_000_000, 512, "sample_rate must be at most"),
        (2**32 - 1, 512, "sample_rate must be at most"),
    ],
)
def test_transforms_that_would_fill_the_memory_are_refused(
    rate, n_fft, message
):
    with pytest.raises(ValueError, match=message):
        StftConfig(rate, n_fft)
