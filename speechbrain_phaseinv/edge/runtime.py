"""Magnitudes in, samples out, by onnxruntime and NumPy alone.

    python runtime.py FOLDER

checks a folder that ``phaseinv export`` wrote against its test vectors. The
model in it does all the arithmetic; a port keeps the state from pass to pass.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


class Stream:
    """Invert a magnitude spectrogram while it is being made.

    Arguments
    ---------
    folder : str or Path
        What ``phaseinv export`` wrote.
    threads : int
        Of onnxruntime.
    """

    def __init__(self, folder, threads=1):
        folder = Path(folder)
        self.spec = json.loads((folder / "phaseinv.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            folder / "phaseinv.onnx", options, ["CPUExecutionProvider"]
        )
        # The frames and how many of them count, then the state.
        self.inputs = [x.name for x in self.session.get_inputs()]
        self.reset()

    def reset(self):
        """Forget everything: begin a new stream."""
        state = self.spec["state"]
        self.state = [np.zeros(x["shape"], x["dtype"]) for x in state]
        self.waiting = []  # frames of a pass that is not complete
        self.last = None  # frame
        self.tail = np.zeros(0, np.float32)  # samples, if the stream ends here
        self.frames = self.samples = 0
        # Samples before the first frame's centre. A first pass that waits for
        # its look-ahead has a hop before that frame.
        ahead = self.spec["lookahead"] * self.spec["hop_length"]
        self.skip = self.spec["trim"] + ahead

    def push(self, magnitude):
        """Take frames, [frames, freq] or [freq]; give samples, float32.

        A ValueError says that a frame is not valid; the stream is then as it
        was before.
        """
        bins, most = self.spec["num_bins"], self.spec["largest_magnitude"]
        magnitude = np.atleast_2d(np.asarray(magnitude, np.float32))
        if magnitude.ndim != 2 or magnitude.shape[1] != bins:
            raise ValueError(
                f"expected magnitudes [frames, {bins}], got an array "
                f"{list(magnitude.shape)}."
            )
        if not ((magnitude >= 0) & (magnitude <= most)).all():
            raise ValueError(
                "magnitudes must be finite and not negative, and at most "
                f"{most:.2g}, got values from {magnitude.min():g} to "
                f"{magnitude.max():g}."
            )
        pieces = [np.zeros(0, np.float32)]
        for frame in magnitude.copy():
            self.frames, self.last = self.frames + 1, frame
            self.waiting.append(frame)
            if len(self.waiting) == self.spec["stride"]:
                pieces.append(self._run_pass(self.spec["stride"]))
        samples = self._from_first_centre(np.concatenate(pieces))
        self.samples += len(samples)
        return samples

    def flush(self, length=None):
        """End the stream: give what remains, and begin anew.

        By default up to the last frame's centre; `length` counts the samples
        of the whole stream, those that have come out included.
        """
        if length is None:
            length = self.spec["hop_length"] * max(self.frames - 1, 0)
            length += self.spec["overhang"] * (self.frames > 0)
        rest, count = self.tail, len(self.waiting) or self.spec["lookahead"]
        if self.frames and count:
            # The last frame goes on until all frames are out.
            missing = self.spec["stride"] - len(self.waiting)
            self.waiting += [self.last] * missing
            hops = self._run_pass(count)
            rest = np.concatenate([hops, self.tail])
        rest = self._from_first_centre(rest)
        missing = length - self.samples - len(rest)
        self.reset()
        if missing > 0:
            return np.pad(rest, (0, missing))
        return rest[: max(len(rest) + missing, 0)]

    def _run_pass(self, count):
        """Run the model on the frames that wait, of which `count` are real."""
        values = np.stack(self.waiting)[None], np.int64([count]), *self.state
        samples, tail, *self.state = self.session.run(
            None, dict(zip(self.inputs, values))
        )
        self.waiting, self.tail = [], tail[0]
        return samples[0]

    def _from_first_centre(self, samples):
        """The same samples, less those before the first frame's centre."""
        skipped = min(self.skip, len(samples))
        self.skip -= skipped
        return samples[skipped:]


def relative(x, reference):
    """Difference, root of the ratio of energies."""
    x, reference = np.asarray(x, float), np.asarray(reference, float)
    energy = np.square(reference).sum()
    return float(np.sqrt(np.square(x - reference).sum() / max(energy, 1e-30)))


def check(folder):
    """Differences from the vectors: of one pass, state included; of samples."""
    with np.load(Path(folder) / "vectors.npz") as file:
        vectors = dict(file)
    stream = Stream(folder)
    inputs = {name: vectors[f"in_{name}"] for name in stream.inputs}
    names = [x.name for x in stream.session.get_outputs()]
    outputs = zip(names, stream.session.run(names, inputs))
    samples = [*map(stream.push, vectors["magnitude"]), stream.flush()]
    return {
        "pass": max(relative(x, vectors[f"out_{k}"]) for k, x in outputs),
        "samples": relative(np.concatenate(samples), vectors["samples"]),
    }


if __name__ == "__main__":
    limits, well = Stream(sys.argv[1]).spec["limits"], True
    for name, difference in check(sys.argv[1]).items():
        good = difference <= limits[name]
        well = well and good
        verdict = "ok" if good else "TOO LARGE"
        print(f"{name}: relative difference {difference:.1e}, {verdict}")
    sys.exit(not well)
