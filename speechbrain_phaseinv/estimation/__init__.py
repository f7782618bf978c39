"""Magnitude, features, network, derivatives: what is estimated of a phase."""
