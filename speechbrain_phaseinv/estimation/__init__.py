"""Magnitude, features, network, derivatives: what an estimator says of a phase.

An *estimator* is a module that is called with natural log-magnitudes [batch,
time, freq] and a state, None at the stream's start, and returns `Estimates`
and the next state. Its attribute `schedule`, a `Schedule`, says which frames
the estimates are about. It may have the attributes `power` and `refinements`,
the settings of the inversion that it was trained for.
"""

from .schedule import Estimates, Schedule

__all__ = ["Estimates", "Schedule"]
