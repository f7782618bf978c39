"""Where `MelInversionNet` was in 0.1: hyperparameter files name it."""

from .mel.network import MelInversionNet

__all__ = ["MelInversionNet"]
