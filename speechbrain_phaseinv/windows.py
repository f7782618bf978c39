"""Windows by name, and the constants that a stream asks for at every frame."""

from functools import lru_cache, wraps

import torch
from torch.utils._python_dispatch import _disable_current_modes


def _root_hann(win_length, **kwargs):
    """The square root of a Hann window: used twice, it overlaps to one."""
    return torch.hann_window(win_length, **kwargs).sqrt()


WINDOWS = {
    "hann": torch.hann_window,
    "sqrt_hann": _root_hann,
    "hamming": torch.hamming_window,
    "blackman": torch.blackman_window,
    "bartlett": torch.bartlett_window,
    "kaiser": torch.kaiser_window,  # of torch's own beta, 12
    "rectangular": torch.ones,
}


def constant(function):
    """Keep what a function makes, tensors that are not to be written to.

    A stream asks for the same few at every frame. They are made outside of
    any inference mode, whose tensors would not serve a later training, of any
    exporter's mode, whose tensors have no values, and of default devices.
    """

    @wraps(function)
    @lru_cache(maxsize=64)
    def kept(*args):
        with torch.inference_mode(False), torch.device("cpu"):
            with _disable_current_modes():
                return function(*args)

    return kept


@constant
def window_samples(window, win_length, dtype=torch.float64, device="cpu"):
    """The window's samples."""
    if isinstance(window, str):
        samples = WINDOWS[window](win_length, dtype=torch.float64)
    else:
        samples = torch.tensor(window, dtype=torch.float64)
    return samples.to(device, dtype)


def recognise_window(samples):
    """The name of a window whose samples these are, or the samples."""
    own = {"dtype": torch.float64, "device": "cpu"}
    given = torch.tensor(samples, **own)
    for name, make in WINDOWS.items():
        # The root of a Hann window in single precision is that far off.
        if torch.allclose(given, make(len(samples), **own), atol=2e-5):
            return name
    return samples
