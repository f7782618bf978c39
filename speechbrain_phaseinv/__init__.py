"""Online spectrogram inversion in linear time, for SpeechBrain and PyTorch.

Magnitudes go in, speech comes out, frame by frame. The data flows one way, and
each step of the method has its room:

- `config`, `windows`, `stft`: the description of a transform, `StftConfig`;
  windows by name; analysis and synthesis;
- `checks`: what magnitudes and lengths must be, for every door;
- `estimation`: magnitudes to log-magnitudes (`features`) to phase derivatives,
  by the gradient theorem or by eight thousand trained parameters (`network`),
  and which frames are seen, estimated and emitted (`schedule`);
- `integration`: derivatives to phase by least squares (`ladder`,
  `least_squares`), consistency with the samples already out (`refinement`),
  pass by pass (`passes`);
- `kernels`: the same, compiled for the CPU;
- `inversion`, `streaming`: the whole chain, `SpectrogramInverter`, and frames
  in, samples out, `InversionStream`, for which `prepared` has a short way;
- `transforms`: `PhaseInversion`, for `torchaudio.transforms.GriffinLim`;
- `resynthesizer`, `enhancement`: `Resynthesizer`, the last step of a
  SpeechBrain enhancer, and noisy samples in, enhanced samples out;
- `mel`, `vocoder`, `inference`: mel spectrograms, what a vocoder takes, and
  SpeechBrain's, `PhaseInversionVocoder`, whole or online;
- `pretrained`, `losses`: packaged weights, and training objectives;
- `edge`, `evaluation`, `cli`: export for devices, methods side by side, and
  the command ``phaseinv``.

Begin with `SpectrogramInverter`, or with `PhaseInversion` if you come from
torchaudio. Only `inference` needs torchaudio and speechbrain. The names below
are imported when they are first used, so that what needs no torch, such as
``phaseinv --help``, does not wait for it.

Words that the modules share:

look-ahead
    Frames after a frame that have to come before it can be emitted.
pass
    One call of the network: it emits one frame, or two.
schedule
    Which frames a pass waits for, estimates and emits.
data term, smoothness term
    The two sums of the least squares: over time, from the frame before; and
    over frequency, from the bin below.
committed frame
    A frame whose hop of samples is out.
open frames
    The frames that a pass refines: its own, and the last committed ones, part
    of whose windows is still to come.
overlap state
    What a pass has to know of the committed frames.
"""

from importlib import import_module

_HOMES = {
    "GradientTheorem": "estimation.gradient_theorem",
    "InversionStream": "streaming",
    "PhaseInversion": "transforms",
    "PhaseInversionVocoder": "inference",
    "Resynthesizer": "resynthesizer",
    "SpectrogramInverter": "inversion",
    "StftConfig": "config",
    "analysis": "stft",
    "phase_inversion": "transforms",
    "synthesis": "stft",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
