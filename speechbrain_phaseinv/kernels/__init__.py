"""The same as `integration` and the network, compiled for the CPU."""
