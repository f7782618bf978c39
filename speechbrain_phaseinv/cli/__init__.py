"""The command ``phaseinv``."""
