"""The description of an STFT: one frozen object, and its phase convention.

Everything that has to agree between the two ends of a spectrogram pipeline
lives in one immutable object, `StftConfig`. It travels as one thing: with the
magnitudes, with the weights of a network, into a stream.

Frames follow ``torch.stft``: where the signal is padded by half a transform,
frame ``t`` is centred on sample ``t * hop_length``. A window shorter than
``n_fft`` is centred inside it.
"""

import math
import operator
from dataclasses import dataclass
from typing import Optional, Tuple, Union

import torch

from .windows import WINDOWS, constant, recognise_window, window_samples

# What precedes and follows the signal, in samples: half a transform, what
# makes one frame a hop (HiFi-GAN, Vocos), or nothing.
PADDINGS = {
    "center": lambda n_fft, hop_length: n_fft // 2,
    "same": lambda n_fft, hop_length: (n_fft - hop_length) // 2,
    "none": lambda n_fft, hop_length: 0,
}

# Beyond these a number is a mistake, and would only fill the memory: windows
# of a second at a million samples a second, rates of ultrasound.
MOST_FFT = 2**20
MOST_HERTZ = 10_000_000


@dataclass(frozen=True)
class StftConfig:
    """What a short-time Fourier transform is, in one immutable object.

    Arguments
    ---------
    sample_rate : int
        Sampling frequency, in Hz, at most 10 MHz.
    n_fft : int
        Length of the discrete Fourier transform, in samples, at most 2**20.
    win_length : int
        Length of the window, in samples, at most `n_fft`. Default: `n_fft`.
    hop_length : int
        Distance between two frames, in samples. Default: `win_length // 4`.
    window : str or tuple of float
        One of "hann", "sqrt_hann", "hamming", "blackman", "bartlett",
        "kaiser" (of beta 12) and "rectangular", all periodic, or the
        `win_length` samples of a window of your own; those of a window that
        has a name are replaced by it.
    padding : str
        What the signal is padded by at each end before it is cut into frames:
        "center", ``n_fft // 2`` as in ``torch.stft(center=True)``; "same",
        ``(n_fft - hop_length) // 2``, as HiFi-GAN's and Vocos' analyses have
        it, of which T frames are ``hop_length * T`` samples; or "none", as in
        ``torch.stft(center=False)``, with ``win_length == n_fft``.

    Raises
    ------
    TypeError
        If a length is not an integer.
    ValueError
        If the STFT so described cannot be inverted; the message says which
        condition fails.

    Example
    -------
    >>> stft = StftConfig(sample_rate=16000, n_fft=512, hop_length=128)
    >>> stft.num_bins, stft.win_length, stft.num_frames(16000)
    (257, 512, 126)
    """

    sample_rate: int
    n_fft: int
    win_length: Optional[int] = None
    hop_length: Optional[int] = None
    window: Union[str, Tuple[float, ...]] = "hann"
    padding: str = "center"

    def __post_init__(self):
        _integer("n_fft", self.n_fft)
        if self.win_length is None:
            object.__setattr__(self, "win_length", self.n_fft)
        if self.hop_length is None:
            hop = max(_integer("win_length", self.win_length) // 4, 1)
            object.__setattr__(self, "hop_length", hop)
        for name in ("sample_rate", "n_fft", "win_length", "hop_length"):
            value = _integer(name, getattr(self, name))
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}.")
            object.__setattr__(self, name, value)
        for name, most in (("n_fft", MOST_FFT), ("sample_rate", MOST_HERTZ)):
            if getattr(self, name) > most:
                raise ValueError(
                    f"{name} must be at most {most}, got {getattr(self, name)}."
                )
        if self.n_fft < 2:
            raise ValueError(f"n_fft must be at least 2, got {self.n_fft}.")
        if self.win_length > self.n_fft:
            raise ValueError(
                f"win_length ({self.win_length}) must not exceed n_fft "
                f"({self.n_fft}): the window has to fit into the transform."
            )
        if self.hop_length > self.win_length:
            raise ValueError(
                f"hop_length ({self.hop_length}) must not exceed win_length "
                f"({self.win_length}): samples between two frames would be "
                "seen by neither."
            )
        if self.padding not in PADDINGS:
            raise ValueError(
                f"padding must be one of {', '.join(PADDINGS)}, got "
                f"{self.padding!r}."
            )
        if self.padding == "none" and self.win_length < self.n_fft:
            raise ValueError(
                f"padding 'none' needs win_length == n_fft, got "
                f"{self.win_length} and {self.n_fft}: the window leaves out "
                "the first samples. Use 'center' or 'same'."
            )
        if isinstance(self.window, str):
            if self.window not in WINDOWS:
                raise ValueError(
                    f"unknown window {self.window!r}: expected one of "
                    f"{', '.join(sorted(WINDOWS))}, or the window's samples."
                )
        else:
            samples = tuple(float(x) for x in self.window)
            if len(samples) != self.win_length:
                raise ValueError(
                    f"the window has {len(samples)} samples, but win_length "
                    f"is {self.win_length}."
                )
            if not all(math.isfinite(x) for x in samples):
                raise ValueError("the window holds NaN or infinite samples.")
            object.__setattr__(self, "window", recognise_window(samples))
        # NOLA: the squared windows, overlapped, must vanish nowhere.
        envelope = steady_envelope(self)
        if not envelope.min() > 1e-8 * envelope.max():
            raise ValueError(
                f"this STFT cannot be inverted: hop_length {self.hop_length} "
                f"with a {self.win_length}-sample window leaves samples that "
                "no frame sees (the overlapped squared windows vanish there: "
                "the NOLA condition). Use a smaller hop_length, such as "
                f"{max(self.win_length // 4, 1)}."
            )

    def __hash__(self):
        # A stream looks constants up at every frame, and a window may be
        # thousands of numbers.
        if "_hash" not in self.__dict__:
            fields = self.sample_rate, self.n_fft, self.win_length
            fields += self.hop_length, self.window, self.padding
            object.__setattr__(self, "_hash", hash(fields))
        return self._hash

    def __getstate__(self):
        # Another process hashes strings otherwise.
        return {k: v for k, v in self.__dict__.items() if k != "_hash"}

    @property
    def num_bins(self):
        """Number of frequency bins, ``n_fft // 2 + 1``."""
        return self.n_fft // 2 + 1

    @property
    def real_bins(self):
        """Bins where the STFT of a real signal is real: DC and Nyquist.

        Nyquist, the last bin, exists where `n_fft` is even; and with a window
        of odd length in it, referred to the window's centre, it is imaginary.
        """
        even = self.n_fft % 2 == 0 and self.win_length % 2 == 0
        return (0, self.num_bins - 1) if even else (0,)

    @property
    def window_offset(self):
        """Samples of `n_fft` that stand before the window's first."""
        return (self.n_fft - self.win_length) // 2

    @property
    def pad_length(self):
        """Samples of padding at each end: see `padding`."""
        return PADDINGS[self.padding](self.n_fft, self.hop_length)

    @property
    def trim(self):
        """Samples of the first frame's window that precede sample 0."""
        return self.pad_length - self.window_offset

    @property
    def overhang(self):
        """Samples of the signal that do not lie between two frames' centres.

        None of centred frames, also where an odd `n_fft` sees one more.
        """
        if self.padding == "center":
            return 0
        return self.n_fft - 2 * self.pad_length

    @property
    def synthesis_latency(self):
        """Samples that a frame needs to come out, look-ahead not counted.

        A frame reaches `trim` samples before its centre; the sample there is
        complete once the frame is in, and the rest of the window waits for
        the frames that still overlap it: ``win_length - hop_length``.
        """
        return self.win_length - self.hop_length

    def num_frames(self, num_samples):
        """Number of frames that `analysis` makes of so many samples."""
        padded = num_samples + 2 * self.pad_length
        return max(1 + (padded - self.n_fft) // self.hop_length, 0)

    def num_samples(self, num_frames):
        """Number of samples that `synthesis` makes of so many frames.

        Those between the first frame's centre and the last one's, and the
        `overhang`.
        """
        span = self.hop_length * (num_frames - 1) + self.overhang
        return span * (num_frames > 0)  # also of a tensor

    def window_tensor(self, dtype=torch.float32, device="cpu"):
        """The window, [win_length]; shared, not to be written to."""
        return window_samples(self.window, self.win_length, dtype, str(device))

    def centre_phasor(self, dtype=torch.complex64, device="cpu"):
        """What refers the phase of a bin to the window's centre, [freq].

        ``torch.stft`` refers the phase to the first of a frame's `n_fft`
        samples. Seen from there a pulse in the middle of the window turns the
        phase by pi from bin to bin, and nothing smooth is left to predict.
        Multiplied by ``exp(2j pi k c / n_fft)``, with ``c`` the centre of the
        (periodic) window, the phase refers to the centre; for even lengths
        the factor is ``(-1) ** k``. This is the only place of the package
        that knows of it. The tensor is shared, and not to be written to.
        """
        return _centre_phasor(self, dtype, str(device))

    def start_phasor(self, dtype=torch.complex64, device="cpu"):
        """What leads back, [freq]: the conjugate of `centre_phasor`."""
        return _start_phasor(self, dtype, str(device))


@constant
def steady_envelope(config):
    """Sum of the squared windows over all frames, one period, [hop_length]."""
    hop = config.hop_length
    squared = config.window_tensor(torch.float64).square()
    padded = torch.nn.functional.pad(squared, (0, -config.win_length % hop))
    return padded.reshape(-1, hop).sum(0)


@constant
def _centre_phasor(config, dtype, device):
    """See `StftConfig.centre_phasor`."""
    # 2c is an integer, so the angle is reduced without rounding.
    twice = 2 * config.window_offset + config.win_length
    k = torch.arange(config.num_bins, dtype=torch.int64)
    half_turns = (k * twice) % (2 * config.n_fft)
    angle = half_turns.double() * (math.pi / config.n_fft)
    phasor = torch.complex(torch.cos(angle), torch.sin(angle))
    if twice == config.n_fft:
        phasor = (1.0 - 2.0 * (k % 2)).to(torch.complex128)
    return phasor.to(device, dtype)


@constant
def _start_phasor(config, dtype, device):
    """See `StftConfig.start_phasor`."""
    return _centre_phasor(config, dtype, device).conj().resolve_conj()


def _integer(name, value):
    """An integer, or a message that says which argument is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}.") from None
