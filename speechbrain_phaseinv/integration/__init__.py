"""Derivatives to phase to samples: the definition, in PyTorch."""
