"""The network for enhanced magnitudes, which also sees the noisy recording.

Behind an enhancer the magnitudes are not what they would be of clean speech,
and the noisy phase is at hand. This network sees both, and says besides the
derivatives of the phase and their confidences how far the noisy phase is to be
trusted, bin by bin. It knows levels by their differences alone, and phases by
how far their differences are from those that the gradient theorem gives.
"""

import torch

from ..backends import compiled_serves, over_signals, to_arrays
from .derivatives import expected_advance
from .gradient_theorem import GradientTheorem
from .network import STEP_SCALE, GatedBlock
from .schedule import Estimates, Schedule

# Frames that a pass sees: two before the current one, and one after it.
HISTORY = 2
WINDOW = HISTORY + 2

# Gains, in nepers, beyond which their exact size no longer matters. The finer
# one tells a mask, which only takes away, from magnitudes of the speech, which
# are above those of the recording as often as below.
GAIN_SCALES = 2.0, 0.2

# Steps of log-magnitude over frequency and over time; gains; turns of the
# noisy phase, over time and over frequency, of two frames, as pairs.
CHANNELS = 1 + (WINDOW - 1) + len(GAIN_SCALES) * WINDOW + 2 * 2 * 2


class EnhancementNet(torch.nn.Module):
    """Phase derivatives, confidences and the noisy phase's weight.

    An *estimator* that is told of the recording too, with one frame of
    look-ahead.

    Arguments
    ---------
    config : StftConfig
        The transform that the magnitudes come from.
    channels : int
        Width of the network.
    kernel_size : int
        Of the gated convolutions, odd, in bins.
    dilations : tuple of int
        One gated block for each, with that distance between its kernel's
        taps, in bins.
    refinements : int
        Iterations of `refinement` a pass that the weights are trained for,
        on the bins that the noisy phase does not decide.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> net = EnhancementNet(config)
    >>> logs, gain = torch.randn(2, 2, 10, 257)
    >>> noisy = torch.polar(torch.ones(2, 10, 257), torch.randn(2, 10, 257))
    >>> (estimates, weight), state = net(logs, None, gain, noisy)
    >>> weight.shape  # frame 9 waits for frame 10
    torch.Size([2, 9, 1, 257])
    >>> sum(p.numel() for p in net.parameters()) <= 16384
    True
    """

    # Of the least-squares weights: the confidences are relative to it.
    power = 1.0
    schedule = Schedule(1, 1, (0,))

    def __init__(
        self,
        config,
        channels=16,
        kernel_size=5,
        dilations=(1, 1, 1),
        refinements=3,
    ):
        super().__init__()
        self.config = config
        self.hyperparameters = {
            "channels": channels,
            "kernel_size": kernel_size,
            "dilations": tuple(dilations),
            "refinements": refinements,
        }
        self.refinements = refinements
        self.first = torch.nn.Conv2d(CHANNELS, channels, (1, 3), padding=(0, 1))
        self.blocks = torch.nn.Sequential(
            *(GatedBlock(channels, kernel_size, d) for d in dilations)
        )
        self.last = torch.nn.Conv2d(channels, 5, 1)
        self.theorem = GradientTheorem(config)
        self.backward = GradientTheorem(config, lookahead=0)
        self.prior_scale = torch.nn.Parameter(torch.ones(2))
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            self.last.bias[4] = 1.0

    def forward(self, log_magnitude, state=None, gain=None, observed=None):
        """Estimates of all passes whose frames have come.

        Arguments
        ---------
        log_magnitude : torch.Tensor, [batch, time, freq]
            Natural logarithm of the enhanced magnitudes of the next frames.
        state : torch.Tensor, [batch, frames, 4, freq], optional
            What the previous call returned; None at the stream's start.
        gain : torch.Tensor, [batch, time, freq]
            Natural logarithm of enhanced by noisy magnitude.
        observed : torch.Tensor, [batch, time, freq], complex
            The recording's phasors, centre-referred; zero where there are
            none.

        Returns
        -------
        estimates : Estimates, torch.Tensor
            And the logarithm of the noisy phase's weight, relative to all
            others of its bin; [batch, passes, 1, freq] each.
        state : torch.Tensor, [batch, frames, 4, freq]
            The last frames: context, and what still waits.

        Raises
        ------
        ValueError
            Without a recording.
        """
        if gain is None or observed is None:
            raise ValueError(
                "an EnhancementNet is told of the noisy recording too: use "
                "Resynthesizer, not SpectrogramInverter alone."
            )
        parts = log_magnitude, gain, observed.real, observed.imag
        frames = torch.stack(parts, dim=2)
        if state is None:
            # The first frame goes back, without a recording.
            state = frames[:, :1] * frames.new_tensor([[1], [0], [0], [0]])
            state = state.repeat(1, HISTORY, 1, 1)
        frames = torch.cat([state, frames], dim=1)
        passes = max(frames.shape[1] - WINDOW + 1, 0)
        logs, gain, *noisy = frames.unbind(2)
        prior = self.theorem.estimate(logs[:, HISTORY - 1 :])
        following = self.backward.estimate(logs[:, HISTORY:])
        features = torch.stack(
            [
                *self._steps(logs, passes),
                *self._gains(gain, passes, GAIN_SCALES[0]),
                *self._turns(noisy, HISTORY, prior),
                *self._turns(noisy, HISTORY + 1, following),
                *self._gains(gain, passes, GAIN_SCALES[1]),
            ],
            dim=2,
        )
        found = list(self._layers(features).unsqueeze(3).unbind(2))
        for i in range(2):
            found[i] = found[i] + self.prior_scale[i] * prior[i].unsqueeze(2)
        found[3] = found[3] + self.theorem.confidence
        return (Estimates(*found[:4]), found[4]), frames[:, passes:]

    def _steps(self, logs, passes):
        """Bounded steps of log-magnitude, [batch, passes, freq] each."""
        slope = logs[:, HISTORY : HISTORY + passes].diff(dim=2)
        slope = torch.nn.functional.pad(slope, (1, 0))
        rise = logs.diff(dim=1)
        steps = [rise[:, i : i + passes] for i in range(WINDOW - 1)]
        for x in (slope, *steps):
            yield torch.tanh(x / STEP_SCALE)

    def _gains(self, gain, passes, scale):
        """Bounded gains of all frames that a pass sees."""
        for i in range(WINDOW):
            yield torch.tanh(gain[:, i : i + passes] / scale)

    def _turns(self, noisy, first, prior):
        """How much further the noisy phase turns than `prior`, as pairs."""
        x, y = (z[:, first : first + prior[0].shape[1]] for z in noisy)
        before = (z[:, first - 1 : first - 1 + x.shape[1]] for z in noisy)
        below = (torch.nn.functional.pad(z[..., :-1], (1, 0)) for z in (x, y))
        advance = expected_advance(self.config, x.dtype, x.device)
        # In real numbers: how complex ones round depends on their place.
        for (u, v), angle in ((before, prior[0] + advance), (below, prior[1])):
            real, imaginary = x * u + y * v, y * u - x * v
            cos, sin = angle.cos(), angle.sin()
            yield real * cos + imaginary * sin
            yield imaginary * cos - real * sin

    def _layers(self, features):
        """What they make of features, [batch, passes, channels, freq]."""
        layers = self.first, *(x.conv for x in self.blocks), self.last
        parameters = [p for x in layers for p in (x.weight, x.bias)]
        if features.shape[1] == 0:
            shape = len(features), 0, len(self.last.bias), features.shape[3]
            return features.new_zeros(shape)
        if not compiled_serves(features, *parameters):
            x = features.transpose(1, 2).to(self.last.weight.dtype)
            x = self.last(self.blocks(self.first(x)))
            return x.to(features).transpose(1, 2)
        # Compiled, a frame has the same bits whether it comes alone or not.
        from ..kernels import network

        shape = *features.shape[:2], len(self.last.bias), features.shape[3]
        output = features.new_empty(shape)
        arrays = to_arrays(*parameters)
        weights = tuple(x.reshape(len(x), -1) for x in arrays[::2])
        dilations = (1, *self.hyperparameters["dilations"], 1)
        over_signals(
            network.run_layers,
            len(features),
            *to_arrays(features),
            (weights, tuple(arrays[1::2]), dilations),
            output.numpy(),
        )
        return output
