"""Magnitudes in, samples out, in NumPy alone: the reference for a port.

    python edge.py FOLDER

checks a folder that ``phaseinv export`` wrote, this file among it, against
the test vectors in it. There is neither torch nor this package behind it:
NumPy does for the gradient theorem, and onnxruntime runs the network. Read
`EdgeStream.push` first; what it calls is what a port consists of. A port does
not need doubles, except to sum the angles of a frame.
"""

import json
import sys
from pathlib import Path

import numpy as np

# Of magnitudes: its logarithm is -69.
FLOOR = np.float32(np.exp(-69.0))

# Of the logarithms of weights: the smallest is still a normal number.
LOWEST = np.float32(np.log(np.finfo(np.float32).tiny) + 7)


class EdgeStream:
    """Invert a magnitude spectrogram, one frame at a time.

    The same arithmetic as `InversionStream` of the package, in NumPy. Memory
    is constant.

    Arguments
    ---------
    folder : str or Path
        What ``phaseinv export`` wrote.
    solver : str or callable
        "ladder", the recursion in plain Python; "onnx", the graph
        ``solver.onnx`` of the folder; or a faster function that does what
        `solve_ladder` does.
    """

    def __init__(self, folder, solver="ladder"):
        folder = Path(folder)
        spec = json.loads((folder / "phaseinv.json").read_text())
        stft = spec["stft"]
        self.spec, self.power = spec, spec["power"]
        self.n_fft, self.hop = stft["n_fft"], stft["hop_length"]
        self.bins = self.n_fft // 2 + 1
        self.window = np.array(stft["window_samples"], np.float32)
        self.offset = (self.n_fft - len(self.window)) // 2
        self.trim = self.n_fft // 2 - self.offset
        k = np.arange(self.bins)
        turns = k * self.hop % self.n_fft / self.n_fft
        self.advance = 2 * np.pi * turns
        # From the phase at the window's centre to that at sample 0.
        centre = 2 * self.offset + len(self.window)
        turns = k * centre % (2 * self.n_fft) / (2 * self.n_fft)
        self.to_start = np.exp(-2j * np.pi * turns).astype(np.complex64)
        squares = np.pad(self.window**2, (0, -len(self.window) % self.hop))
        steady = squares.reshape(-1, self.hop).sum(0)
        self.floor = np.float32(spec["envelope_floor"] * steady.max())
        self.real = np.array(spec["real_bins"])  # DC and Nyquist: 1 or -1
        # What a pass of the estimator sees, starting how far back; which
        # frames it answers for, counted from the first that is new to it; and
        # how many hops come out then.
        estimator = spec["estimator"]
        self.past, self.stride = estimator["past"], estimator["stride"]
        self.about = estimator["about"]
        self.answers = len(self.about)
        self.seen = self.past + 1 + estimator["lookahead"]
        self.lookahead = spec["lookahead"]
        if estimator["kind"] == "network":
            self.estimate = Network(folder / "network.onnx")
        else:
            self.estimate = GradientTheorem(estimator)
        refinement = spec["refinement"]
        self.iterations = refinement["iterations"]
        self.cancelled = refinement["cancelled"]
        self.inaudible = refinement["inaudible"]
        constant = spec["offset"]
        self.lobe = np.array(constant["main_lobe"], np.float32)
        self.above = np.float32(constant["above"])
        self.tolerance = np.float32(constant["tolerance"])
        self.scale = np.array(refinement["scale"], np.float32)
        self.counts = np.array(refinement["counts"], np.float32)[:, None]
        # Frames of a pass: those heard already, those new, those answered for.
        self.reopened = refinement["reopened"]
        self.new = self.stride + refinement["delay"]
        self.first = self.reopened + self.new - self.answers
        self.step = self._step
        self.solve = solve_ladder if solver == "ladder" else solver
        if solver == "onnx":
            self.step = Solver(folder / "solver.onnx")
        elif not callable(self.solve):
            raise ValueError(
                f"unknown solver {solver!r}: expected 'ladder' or 'onnx'."
            )
        self.reset()

    def reset(self):
        """Forget everything: begin a new stream."""
        tail = len(self.window) - self.hop
        self.logs = []  # log-magnitudes that the estimator still needs
        # Magnitudes of the frames heard last, and of those that wait.
        self.sizes = []
        self.phasors = np.ones((self.reopened, self.bins), np.complex64)
        # The same frames, windowed, as they were added to what was heard, and
        # all that was heard since the first of them began.
        length = len(self.window) if self.iterations else 0
        self.added = np.zeros((self.reopened, length), np.float32)
        heard = self.reopened * self.hop + tail if self.iterations else 0
        self.heard = np.zeros(heard, np.float32)
        self.signal = np.zeros(tail, np.float32)  # overlap-add
        self.envelope = np.zeros(tail, np.float32)
        self.skip = self.trim  # samples before the first frame's centre
        self.frames = self.samples = 0
        self.trace = None  # a list here collects what `check` compares

    def push(self, magnitude):
        """Take a frame, give the samples that it completes.

        Arguments
        ---------
        magnitude : numpy.ndarray, [freq]
            Finite and not negative.

        Returns
        -------
        samples : numpy.ndarray, float32
            `hop_length` of them, or none at the start of the stream; with a
            paired network none or twice as many.

        Raises
        ------
        ValueError
            If the frame is not valid. The stream is then as it was before.
        """
        magnitude = np.asarray(magnitude, np.float32)
        if magnitude.shape != (self.bins,):
            raise ValueError(
                f"expected a frame of {self.bins} magnitudes, got an array "
                f"of shape {list(magnitude.shape)}."
            )
        if not (magnitude.min() >= 0 and magnitude.max() < np.inf):
            raise ValueError(
                "magnitudes must be finite and not negative, got values from "
                f"{magnitude.min():g} to {magnitude.max():g}."
            )
        self.frames += 1
        return self._advance(magnitude)

    def flush(self, length=None):
        """End the stream: give what remains, and begin anew.

        Arguments
        ---------
        length : int, optional
            Samples of the whole stream, those that have come out included.
            Default: up to the centre of the last frame.

        Returns
        -------
        samples : numpy.ndarray, float32
        """
        if length is None:
            length = self.hop * max(self.frames - 1, 0)
        missing = length - self.samples
        # The sound is taken to stay as it is for the frames still to come.
        head = np.zeros(0, np.float32)
        waiting = len(self.sizes) - self.reopened
        for _ in range(self.lookahead if waiting > 0 else 0):
            head = self._advance(self.sizes[-1], waiting)
        rest = self._normalise(self.signal, self.envelope)[self.skip :]
        self.reset()
        out = np.zeros(max(missing, 0), np.float32)
        found = np.concatenate([head, rest])[: len(out)]
        out[: len(found)] = found
        return out

    def _advance(self, magnitude, most=None):
        """Invert the frames that are ready, at most so many."""
        log = log_magnitude(magnitude)
        if not self.sizes:
            # Before the stream there was the same sound, of phase zero and
            # far too soft to decide anything. A frame that is answered for
            # once more has been there before it was new.
            self.logs = [log] * (self.past + self.spec["reanswered"])
            self.sizes = [np.float32(1e-6) * magnitude] * self.reopened
        self.logs.append(log)
        self.sizes.append(magnitude)
        if len(self.logs) < self.seen:
            return np.zeros(0, np.float32)
        derivatives = self.estimate(np.array(self.logs), self.stride)
        sizes = np.array(self.sizes[: self.reopened + self.new])
        logs = log_magnitude(sizes)
        phasors = list(self.phasors[: self.first])
        for i in range(self.answers):
            frame = self.first + i
            given = [x[i] for x in derivatives]
            before = logs[frame - 1], *given, self.advance, phasors[-1]
            phasor = self.step(logs[frame], *before)
            # That of an offset goes on as it was.
            sign = 1 if phasors[-1][0].real >= 0 else -1
            phasor[self._held(sizes[frame])] = sign
            phasors.append(phasor)
        added, phasors = self._refine(np.array(phasors), sizes)
        emitted = range(self.stride if most is None else most)
        if self.trace is not None:
            current = self.first - self.about[0]
            for i in emitted:
                given = [x[i - self.about[0]] for x in derivatives]
                phasor = phasors[self.reopened + i]
                self.trace.append((logs[current + i], *given, phasor))
        samples = np.concatenate([self._overlap_add(added[i]) for i in emitted])
        self.phasors = phasors[self.stride : self.stride + self.reopened]
        del self.sizes[: self.stride], self.logs[: self.stride]
        self.samples += len(samples)
        return samples

    def _step(self, log, before, *given):
        """A frame's phasors, centre-referred: weights, then least squares."""
        time, frequency, trust_time, trust_frequency, advance, phasor = given
        anchor, coupling = weights(
            log, before, trust_time, trust_frequency, self.power
        )
        phasor = integrate(
            time + advance, frequency, anchor, coupling, phasor, self.solve
        )
        signs = np.where(phasor[self.real].real >= 0, 1, -1)
        phasor[self.real] = signs
        return phasor

    def _held(self, size):
        """Bins of an offset that is far above all else, as a slice."""
        bins, level = len(self.lobe), size[0]
        off = np.abs(size[:bins] - self.lobe * level).max()
        near = off <= self.tolerance * level
        above = level > self.above * size[bins:].max()
        return slice(bins if above and near else 0)

    def _refine(self, phasors, sizes):
        """Iterations of Griffin-Lim on the frames of a pass, [frames, freq].

        On two frames each, from the newest to the oldest; samples that are
        out stay as they are. Gives what each hop adds to the signal, a
        windowed frame and changes of those before, and the phasors.
        """
        if self.iterations == 0:
            new = slice(self.reopened, None)
            return self._windowed(sizes[new] * phasors[new]), phasors
        length, last = len(self.window), len(sizes) - 1
        stop = self.reopened + self.stride
        counted = self.counts * sizes
        fresh = slice(self.first, None)
        frames = self._windowed(counted[fresh] * phasors[fresh])
        frames = np.concatenate([self.added[: self.first], frames])
        audible = sizes > self.inaudible * sizes.max()
        for size, own in zip(sizes, audible):
            own[self._held(size)] = False
        for i in range(self.iterations):
            first = last - 1 - i % last
            pair = slice(first, first + 2)
            total = self.scale * self._hear(frames)[1]
            parts = np.zeros((2, self.n_fft), np.float32)
            for j, part in enumerate(parts):
                samples = total[(first + j) * self.hop :][:length]
                part[self.offset : self.offset + length] = samples * self.window
            rebuilt = np.fft.rfft(parts) * self.to_start.conj()
            known = np.abs(rebuilt) > self.cancelled * sizes[pair]
            turned = np.exp(1j * np.angle(rebuilt)).astype(np.complex64)
            phasors[pair] = np.where(
                known & audible[pair], turned, phasors[pair]
            )
            frames[pair] = self._windowed(counted[pair] * phasors[pair])
        added, total = self._hear(frames[:stop])
        self.heard = total[self.stride * self.hop :]
        self.added = frames[self.stride : stop]
        return added, phasors

    def _hear(self, frames):
        """What frames add to what was heard, and all that is heard then."""
        added = frames[self.reopened :].copy()
        changes = self._later(frames[: self.reopened] - self.added)
        added[0, : len(changes)] += changes
        rest = np.zeros(len(added) * self.hop, np.float32)
        total = np.concatenate([self.heard, rest])
        for i, frame in enumerate(added, start=self.reopened):
            total[i * self.hop : i * self.hop + len(frame)] += frame
        return added, total

    def _later(self, frames):
        """Sum of frames from a hop after the last one's beginning."""
        total = np.zeros(len(self.window) - self.hop, np.float32)
        for i, frame in enumerate(frames):
            rest = frame[(len(frames) - i) * self.hop :]
            total[: len(rest)] += rest
        return total

    def _windowed(self, spectra):
        """Inverse transforms of frames, windowed."""
        frames = np.fft.irfft(spectra * self.to_start, self.n_fft)
        frames = frames[:, self.offset : self.offset + len(self.window)]
        return frames.astype(np.float32) * self.window

    def _overlap_add(self, signal):
        """The samples that are final once a frame's signal is added."""
        signal, envelope = signal.copy(), self.window**2
        signal[: -self.hop] += self.signal
        envelope[: -self.hop] += self.envelope
        self.signal, self.envelope = signal[self.hop :], envelope[self.hop :]
        samples = self._normalise(signal[: self.hop], envelope[: self.hop])
        skipped = min(self.skip, self.hop)
        self.skip -= skipped
        return samples[skipped:]

    def _normalise(self, signal, envelope):
        """Divide by the overlapped squared windows, as far as they carry."""
        return signal / np.maximum(envelope, self.floor)


def log_magnitude(magnitude):
    """Natural logarithm that stops at -69, far below any recording."""
    return np.log(np.maximum(magnitude, FLOOR))


def weights(log, before, trust_time, trust_frequency, power):
    """Weights of the least squares, the largest of a frame 1, none 0."""
    below = np.concatenate([log[:1], log[:-1]])
    own = (power + 2) * log
    both = np.array([own + trust_time, own + trust_frequency])
    both += power * np.array([before, below])
    both -= both.max()
    return np.exp(np.maximum(both, LOWEST))


def integrate(turn, frequency, anchor, coupling, phasor, solve):
    """From the frame before to this one: its phasors.

    Arguments
    ---------
    turn : numpy.ndarray, [freq]
        Phase advance since the frame before, in radians.
    frequency : numpy.ndarray, [freq]
        Phase advance from the bin below, in radians; bin 0's is ignored.
    anchor, coupling : numpy.ndarray, [freq]
        How far either is to be trusted, relative to each other; positive.
    phasor : numpy.ndarray, [freq], complex
        Unit phasors of the frame before.
    solve : callable
        Such as `solve_ladder`.
    """
    theta = np.cumsum(frequency, dtype=np.float64) - frequency[0]
    rotor, tilt = np.exp(1j * np.array([turn - theta, theta]))
    s = solve(anchor, coupling, phasor * rotor)
    return (s / np.abs(s) * tilt).astype(np.complex64)


def solve_ladder(anchor, coupling, target):
    """Minimise sum l |s - q|^2 + sum g |s[k] - s[k-1]|^2: a resistor ladder.

    Down and up once; nothing is subtracted, so single precision would do.
    """
    l, g = anchor.tolist(), coupling.tolist()
    b = (anchor.astype(np.float64) * target).tolist()
    e, carry = l[0], b[0]
    ratios, parts = [], []
    for k in range(1, len(l)):
        inverse = 1.0 / (e + g[k])
        r = g[k] * inverse
        ratios.append(r)
        parts.append(carry * inverse)
        e = l[k] + r * e
        carry = b[k] + r * carry
    s = carry / e
    solution = [s]
    for r, part in zip(reversed(ratios), reversed(parts)):
        s = part + r * s
        solution.append(s)
    return np.array(solution[::-1])


class GradientTheorem:
    """Phase derivatives from the slopes of the log-magnitude, untrained."""

    def __init__(self, spec):
        self.lookahead = spec["lookahead"]
        self.slope = np.float32(spec["slope"])
        self.share = np.float32(spec["backward_share"])
        self.trust = np.float32(spec["confidence"])

    def __call__(self, logs, stride):
        before, here = logs[0], logs[1]
        slope = np.zeros_like(logs[:2])
        slope[:, 1:-1] = (logs[:2, 2:] - logs[:2, :-2]) / 2
        time = self.slope * ((slope[0] + slope[1]) / 2)
        if self.lookahead:
            rise = (logs[2] - before) / 2
        else:
            rise = self.share * (here - before)
        rise = np.concatenate([[0], rise[1:] + rise[:-1]]) / 2
        pi = np.float32(np.pi)
        frequency = pi * np.tanh(-rise.astype(np.float32) / self.slope / pi)
        trust = np.full_like(time, self.trust)
        return time[None], frequency[None], 0 * trust[None], trust[None]


class Network:
    """Phase derivatives and confidences from the exported network."""

    def __init__(self, path):
        self.session = open_session(path)
        self.names = [x.name for x in self.session.get_outputs()][:4]

    def __call__(self, logs, stride):
        inputs = {"log_magnitude": logs[-stride:], "state": logs[:-stride]}
        inputs = {name: x[None] for name, x in inputs.items()}
        return [x[0] for x in self.session.run(self.names, inputs)]


class Solver:
    """Weights and least squares by the exported graph."""

    def __init__(self, path):
        self.session = open_session(path)
        self.names = [x.name for x in self.session.get_inputs()]

    def __call__(self, *inputs):
        *inputs, _, phasor = inputs  # the graph knows the expected advance
        inputs = [x[None] for x in (*inputs, phasor.real, phasor.imag)]
        found = self.session.run(None, dict(zip(self.names, inputs)))
        return (found[0] + 1j * found[1])[0].astype(np.complex64)


def open_session(path):
    """A model in onnxruntime, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )


def check(folder, solver="ladder"):
    """Run the test vectors of a folder.

    Returns
    -------
    results : dict
        Of each quantity, the difference found and the limit for it. Phases
        count as their magnitudes weigh them: those of a silent bin mean
        nothing.
    """
    stream = EdgeStream(folder, solver)
    with np.load(Path(folder) / "vectors.npz") as vectors:
        vectors = dict(vectors)
    stream.trace = trace = []
    pieces = [stream.push(frame) for frame in vectors["magnitude"]]
    samples = np.concatenate([*pieces, stream.flush(len(vectors["samples"]))])
    found = [np.stack(column) for column in zip(*trace)]
    names = ["log_magnitude", "time", "frequency"]
    names += ["time_confidence", "frequency_confidence"]
    differences = {
        name: float(np.abs(x - vectors[name]).max())
        for name, x in zip(names, found)
    }
    magnitude = vectors["magnitude"][: len(found[-1])]
    error = magnitude * (found[-1] - np.exp(1j * vectors["phase"]))
    differences["phase"] = relative(error, magnitude)
    differences["samples"] = relative(
        samples - vectors["samples"], vectors["samples"]
    )
    limits = stream.spec["limits"]
    return {name: (x, limits[name]) for name, x in differences.items()}


def relative(error, reference):
    """Root of the energy of an error, relative to what it is an error of."""
    size = np.linalg.norm(reference)
    return float(np.linalg.norm(error) / (size if size > 0 else 1))


def main(arguments):
    """``python edge.py FOLDER``: 0 if the test vectors come out, 1 if not."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    results = check(arguments[0], *arguments[1:])
    for name, (difference, limit) in results.items():
        verdict = "ok" if difference <= limit else "TOO LARGE"
        print(f"{name:22} {difference:9.2e}  limit {limit:.0e}  {verdict}")
    return int(any(not x <= limit for x, limit in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
