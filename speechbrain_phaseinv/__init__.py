"""Online spectrogram inversion in linear time, for SpeechBrain and PyTorch.

Magnitudes go in, speech comes out, without iterations and frame by frame.
The data flows one way, one module a step:

- `config`: the description of a transform, `StftConfig`;
- `stft`: analysis and synthesis;
- `derivatives`: what the derivatives of a phase are, and those of a known one;
- `gradient_theorem`: these derivatives from log-magnitudes, without training;
- `network`, `pretrained`: the same by eight thousand trained parameters;
- `integration`: from derivatives to phases, by least squares;
- `tridiagonal`: the system behind it, solved in linear time;
- `refinement`, `offset`: consistency with the samples already out, and what is
  left alone there;
- `passes`, `recursion`: both, pass by pass through the frames, compiled;
- `inversion`: the whole chain, `SpectrogramInverter`;
- `streaming`: `InversionStream`, frames in and samples out;
- `transforms`: `PhaseInversion`, for `torchaudio.transforms.GriffinLim`;
- `resynthesizer`: `Resynthesizer`, the last step of a SpeechBrain enhancer,
  with `noisy_phase`, an inversion that is drawn to the recording's phase;
- `mel`, `mel_network`: from mel spectrograms to magnitudes;
- `inference`: `PhaseInversionVocoder`, SpeechBrain's vocoder;
- `griffinlim`: iterations that refine a result offline;
- `methods`, `peers`: what is compared with what;
- `evaluation`: methods side by side, with `metrics` and `summary`;
- `compare`, `report`: all figures of a comparison, and a page that shows them;
- `export`, `edge`: the step for devices, and a runtime in NumPy alone;
- `cli`, `options`: the command ``phaseinv``.

Begin with `SpectrogramInverter`, or with `PhaseInversion` if you come from
torchaudio. Only `inference` needs torchaudio and speechbrain. The names below
are imported when they are first used, so that what needs no torch, such as
``phaseinv --help``, does not wait for it.
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
