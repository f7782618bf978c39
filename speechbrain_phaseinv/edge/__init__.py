"""One step of an inverter for other runtimes."""
