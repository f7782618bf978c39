"""Where `PhaseDerivativeNet` was in 0.1: hyperparameter files name it."""

from .estimation.network import GatedBlock, PhaseDerivativeNet

__all__ = ["GatedBlock", "PhaseDerivativeNet"]
