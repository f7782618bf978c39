"""Online spectrogram inversion in linear time, for SpeechBrain and PyTorch.

Magnitudes go in, speech comes out, without iterations and frame by frame.
The data flows one way, one module a step:

- `stft`: the description of a transform, analysis, synthesis;
- `gradient_theorem`: phase derivatives from log-magnitudes;
- `derivatives`: what these derivatives are, and of a known phase;
- `integration`: from derivatives to phases, by least squares;
- `tridiagonal`: the system behind it, solved in linear time;
- `inversion`: the whole chain, `SpectrogramInverter`;
- `streaming`: `InversionStream`, frames in and samples out;
- `transforms`: `PhaseInversion`, for `torchaudio.transforms.GriffinLim`;
- `griffinlim`: iterations that refine a result offline;
- `cli`: the command ``phaseinv``.

Begin with `SpectrogramInverter`, or with `PhaseInversion` if you come from
torchaudio. Neither torchaudio nor speechbrain is needed to import any of it.
"""

from .gradient_theorem import GradientTheorem
from .inversion import SpectrogramInverter
from .stft import StftConfig, analysis, synthesis
from .streaming import InversionStream
from .transforms import PhaseInversion, phase_inversion

__all__ = [
    "GradientTheorem",
    "InversionStream",
    "PhaseInversion",
    "SpectrogramInverter",
    "StftConfig",
    "analysis",
    "phase_inversion",
    "synthesis",
]
