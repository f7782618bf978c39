"""A network of eight thousand parameters that estimates phase derivatives.

The gradient theorem is exact for one Gaussian component. Where components
meet - between harmonics, at onsets, in noise - it is wrong, and worst where
the STFT is close to a zero. A small convolutional network sees the surrounding
log-magnitudes, corrects both derivatives, and says how far each of them is to
be trusted. The same weights serve every bin, and only differences of
log-magnitudes go in, so that neither the number of bins nor the recording
level matters.
"""

import numpy as np
import torch

from ..backends import compiled_serves
from .compiled import NetworkKernel
from .gradient_theorem import GradientTheorem
from .schedule import Estimates, Schedule

# A step of log-magnitude, in nepers, beyond which it says "silence" or "zero
# of the STFT" and its exact size no longer matters.
STEP_SCALE = 3.0


class GatedBlock(torch.nn.Module):
    """Residual gated convolution along frequency.

    Its input is [batch, channels, time, freq]: two-dimensional convolutions
    with flat kernels, the fastest form on a CPU of those tried.

    Arguments
    ---------
    channels : int
        Channels in and out.
    kernel_size : int
        Odd, in bins.
    dilation : int
        Distance between the kernel's taps, in bins.

    Example
    -------
    >>> GatedBlock(16, 5)(torch.randn(1, 16, 10, 257)).shape
    torch.Size([1, 16, 10, 257])
    """

    def __init__(self, channels, kernel_size, dilation=1):
        super().__init__()
        self.conv = torch.nn.Conv2d(
            channels,
            2 * channels,
            (1, kernel_size),
            padding=(0, dilation * (kernel_size // 2)),
            dilation=(1, dilation),
        )

    def forward(self, x):
        """`x` plus its gated convolution, of the same shape."""
        return x + torch.nn.functional.glu(self.conv(x), dim=1)


class PhaseDerivativeNet(torch.nn.Module):
    """Phase derivatives and confidences from log-magnitudes, causally.

    An *estimator*: see `speechbrain_phaseinv.estimation`. The first frame of
    a stream is taken to repeat those before it.

    Arguments
    ---------
    config : StftConfig
        The transform that the magnitudes come from.
    lookahead : int
        0 or 1, in frames.
    paired : bool
        With a look-ahead of 1, wait for two frames and predict both in one
        pass: half the operations. The first of the two sees the second.
    channels : int
        Width of the network.
    kernel_size : int
        Of the gated convolutions, odd, in bins.
    dilations : tuple of int
        One gated block for each, with that distance between its kernel's
        taps, in bins.
    history : int
        Frames before the current one that the network sees, at least 1.
    prior : bool
        Add the network's output to the gradient theorem's estimate, times a
        learned factor for each derivative.
    confidences : bool
        Predict the confidences too.
    provisional : bool
        With a look-ahead of 1: estimate the look-ahead frame too. The
        refinement then has a phase for it, and `SpectrogramInverter` may do
        without look-ahead and emit that frame at once.
    again : bool
        With `paired` or `provisional`: estimate the frame before those of a
        pass once more, now that the next ones have come.
    refinements : int
        Iterations of `refinement` a pass that the weights are trained for,
        and that `SpectrogramInverter` does by default.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> net = PhaseDerivativeNet(config, lookahead=1)
    >>> estimates, state = net(torch.randn(2, 10, 257))
    >>> estimates.time.shape  # frame 9 waits for frame 10
    torch.Size([2, 9, 1, 257])
    >>> sum(p.numel() for p in net.parameters()) <= 8192
    True
    """

    # Of the least-squares weights (`phase_weights`), in training and in use:
    # the confidences are relative to it.
    power = 1.0
    _kernel = None

    def __init__(
        self,
        config,
        lookahead=1,
        paired=False,
        channels=16,
        kernel_size=5,
        dilations=(1, 1, 1),
        history=2,
        prior=True,
        confidences=True,
        provisional=False,
        again=False,
        refinements=0,
    ):
        super().__init__()
        if lookahead not in (0, 1) or ((paired or provisional) > lookahead):
            raise ValueError(
                "lookahead must be 0 or 1, and 1 for a paired or provisional "
                f"network, got lookahead={lookahead!r}, paired={paired!r}, "
                f"provisional={provisional!r}."
            )
        if paired and provisional:
            raise ValueError(
                "a paired network sees both frames of a pass at their best: "
                "it cannot be provisional too."
            )
        if again and not ((paired or provisional) and history > 1):
            raise ValueError(
                "only a paired or provisional network with a history of two "
                f"frames or more answers again, got paired={paired!r}, "
                f"provisional={provisional!r}, history={history}."
            )
        if refinements < 0:
            raise ValueError(f"refinements must be >= 0, got {refinements}.")
        if kernel_size % 2 == 0 or history < 1:
            raise ValueError(
                "expected an odd kernel_size and history >= 1, got "
                f"{kernel_size} and {history}."
            )
        self.config = config
        self.lookahead = int(lookahead)
        self.paired = bool(paired)
        self.provisional = bool(provisional)
        self.again = bool(again)
        self.refinements = int(refinements)
        self.history = int(history)
        # All that tells one architecture from another.
        self.hyperparameters = {
            "lookahead": self.lookahead,
            "paired": self.paired,
            "channels": channels,
            "kernel_size": kernel_size,
            "dilations": tuple(dilations),
            "history": self.history,
            "prior": prior,
            "confidences": confidences,
            "provisional": self.provisional,
            "again": self.again,
            "refinements": self.refinements,
        }
        # A pass sees `window` frames; the next begins `stride` frames later.
        self.window = self.history + 1 + self.lookahead
        self.stride = 2 if paired else 1
        # The frames that the outputs are about, from the current one. The
        # last layer's rows come in this order, whatever the operating point.
        about = [0, 1] if paired or provisional else [0]
        self.about = np.array(about + [-1] * again)
        self.schedule = Schedule(
            self.stride,
            self.lookahead - (self.stride - 1),
            tuple(sorted(self.about.tolist())),
        )
        self.outputs = 4 if confidences else 2
        self.first = torch.nn.Conv2d(
            self.window, channels, (1, 3), padding=(0, 1)
        )
        self.blocks = torch.nn.Sequential(
            *(GatedBlock(channels, kernel_size, d) for d in dilations)
        )
        self.last = torch.nn.Conv2d(channels, self.outputs * len(self.about), 1)
        self.theorems = torch.nn.ModuleList(
            GradientTheorem(config, int(frame < lookahead))
            for frame in self.about
        )
        scale = torch.nn.Parameter(torch.ones(2)) if prior else None
        self.register_parameter("prior_scale", scale)
        # At first, the gradient theorem and its constant confidence.
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)
        if confidences:
            with torch.no_grad():
                self.last.bias[3::4] = self.theorems[0].confidence

    def forward(self, log_magnitude, state=None):
        """Estimates of all passes whose frames have come.

        Arguments
        ---------
        log_magnitude : torch.Tensor, [batch, time, freq]
            Natural logarithm of the magnitudes of the next frames.
        state : torch.Tensor, [batch, frames, freq], optional
            What the previous call returned; None at the stream's start.

        Returns
        -------
        estimates : Estimates
            [batch, passes, estimates, freq].
        state : torch.Tensor, [batch, frames, freq]
            The last log-magnitudes: context, and what still waits.
        """
        if state is None or state.shape[1] == 0:
            state = log_magnitude[:, :1].repeat(1, self.history, 1)
        frames = torch.cat([state, log_magnitude], dim=1)
        passes = max(frames.shape[1] - self.window, -1) // self.stride + 1
        # Compiled, a frame has the same bits whether it comes alone or not.
        kernel = self.kernel(frames)
        if passes and kernel is None:
            estimates = self._estimate(frames, passes)
        else:
            shape = 4, len(frames), passes, len(self.about), frames.shape[2]
            output = frames.new_empty(shape)
            if passes:
                kernel.run(frames.numpy(), 0, output.numpy())
            estimates = Estimates(*output.unbind(0))
        return estimates, frames[:, passes * self.stride :]

    def _estimate(self, frames, passes):
        """The definition, in PyTorch."""
        features = self._features(frames, passes).to(self.last.weight.dtype)
        output = self.last(self.blocks(self.first(features)))
        # The weights' precision, or autocast's, is good enough for what the
        # layers find; angles have that of the magnitudes.
        output = output.to(frames).unflatten(1, (-1, self.outputs))
        # From [batch, estimates, outputs, passes, freq]; in order of time.
        output = output[:, np.argsort(self.about).tolist()]
        output = output.permute(2, 0, 3, 1, 4)
        parts = list(output.unbind(0))
        if self.prior_scale is not None:
            prior = self._theorem(frames, passes)
            for i in range(2):
                parts[i] = parts[i] + self.prior_scale[i] * prior[i]
        parts += [torch.zeros_like(parts[0])] * (4 - self.outputs)
        return Estimates(*parts)

    def _features(self, frames, passes):
        """Bounded steps of log-magnitude, [batch, window, passes, freq].

        Those over frequency of one frame, and those over time between all
        the frames of a pass: with them all others are known.
        """
        stop = (passes - 1) * self.stride + 1
        here = frames[:, self.history : self.history + stop : self.stride]
        slope = torch.nn.functional.pad(here.diff(dim=2), (1, 0))
        rise = frames.diff(dim=1)
        steps = [
            rise[:, i : i + stop : self.stride] for i in range(self.window - 1)
        ]
        return torch.tanh(torch.stack([slope, *steps], dim=1) / STEP_SCALE)

    def _theorem(self, frames, passes):
        """The gradient theorem's two, [batch, passes, estimates, freq].

        A frame that the pass sees the next of has a central difference.
        """
        parts = []
        for j in np.argsort(self.about):
            theorem = self.theorems[j]
            start = self.history - 1 + self.about[j]
            stop = start + (passes - 1) * self.stride + 2 + theorem.lookahead
            both = theorem.estimate(frames[:, start:stop])
            parts.append([x[:, :: self.stride] for x in both])
        return [torch.stack(x, dim=2) for x in zip(*parts)]

    def kernel(self, *others):
        """The network compiled, or None where it has to be its definition.

        Arguments
        ---------
        *others : torch.Tensor
            What else it is to work on.

        Returns
        -------
        kernel : NetworkKernel
        """
        parameters = self._in_order()
        if not compiled_serves(*others, *parameters):
            return None
        if self._kernel is None or not self._kernel.holds(parameters):
            self._kernel = NetworkKernel(self, parameters, STEP_SCALE)
        return self._kernel

    def _in_order(self):
        """Weight and bias of every layer, then the prior's scale, if any."""
        layers = self.first, *(x.conv for x in self.blocks), self.last
        found = [p for x in layers for p in (x.weight, x.bias)]
        return found + [self.prior_scale] * (self.prior_scale is not None)

    def __getstate__(self):
        """Without the kernel, whose arrays would come back as copies."""
        return {**super().__getstate__(), "_kernel": None}
