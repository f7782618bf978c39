"""The network and the integration again, compiled for the CPU.

The definitions stand in `estimation` and `integration`; tests tie each kernel
to its own. NumPy, Numba and SciPy are needed here, whose BLAS Numba calls.
Importing Numba takes a noticeable part of a second, so the first call that
needs a kernel imports it.
The machine code is cached on disk; ``python -m speechbrain_phaseinv.kernels``
fills the cache, for instance while a container image is built.
"""

import os
import tempfile
import threading
import warnings
from functools import lru_cache, wraps
from hashlib import sha256
from pathlib import Path


def compiled(inner=False, **options):
    """`numba.njit` that keeps its machine code in the user's cache folder.

    Numba would put it beside the source, where pip does not know of it: an
    uninstalled package would leave a folder of its name behind, which Python
    takes for the package. ``NUMBA_CACHE_DIR`` still has its way. Where no
    folder can be written to, the code is compiled in memory.

    An `inner` kernel is called by other kernels alone. Without ways in from
    Python and from C, a seventh of the compiling falls away.
    """
    from numba import config, njit

    def decorate(function):
        before = config.CACHE_DIR
        folder = before or _cache_folder()
        config.CACHE_DIR = folder or ""
        try:
            return njit(
                cache=bool(folder),
                nogil=True,
                error_model="numpy",
                no_cfunc_wrapper=True,
                no_cpython_wrapper=inner,
                **options,
            )(function)
        finally:
            config.CACHE_DIR = before

    return decorate


def kept(make):
    """A function that keeps what it made for its last arguments.

    On each thread its own: room for kernels to work in, which a stream would
    make anew for every frame. What was made for others is forgotten. A kernel
    has it until it returns, so that it must not call itself.
    """
    own = threading.local()

    @wraps(make)
    def call(*key):
        if getattr(own, "key", None) != key:
            own.made, own.key = make(*key), key
        return own.made

    return call


@lru_cache(maxsize=1)
def _cache_folder():
    """A folder that can be written to, or None, with one warning."""
    homes = [os.environ.get(x) for x in ("XDG_CACHE_HOME", "LOCALAPPDATA")]
    home = next((x for x in homes if x), os.path.expanduser("~/.cache"))
    folder = Path(home, "speechbrain_phaseinv", _edition())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError as error:
        warnings.warn(
            f"{folder} cannot be written to ({error}): the kernels are "
            "compiled in memory, anew in every process. NUMBA_CACHE_DIR "
            "names another folder.",
            stacklevel=2,
        )
        return None


def _edition():
    """A name that changes with any kernel's source.

    Numba looks at the file of a kernel alone, not at those that it calls:
    after an update, code of two editions would work together.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(x.read_bytes() for x in sources)).hexdigest()[:12]
