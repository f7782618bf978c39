"""What the package promises as a whole."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, requires
from pathlib import Path

import speechbrain_phaseinv

PACKAGE = Path(speechbrain_phaseinv.__file__).parent

# Below `inference` the package stands on torch alone, so that it works where
# torchaudio cannot be loaded. The data flows one way: a module imports only
# what stands before it.
LAYERS = [
    {"config", "_kernels"},
    {"stft"},
    {"derivatives", "tridiagonal", "mel", "checks", "offset"},
    {"gradient_theorem", "integration", "griffinlim"},
    {"_network", "losses", "_recursion", "refinement", "passes"},
    {"network", "_recursion_adjoint"},
    {"recursion"},
    {"pretrained", "mel_network"},
    {"inversion", "noisy_phase"},
    {"transforms", "streaming", "resynthesizer"},
]


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )


def test_it_works_where_torchaudio_and_speechbrain_are_broken():
    result = run(
        "import sys\n"
        "sys.modules['torchaudio'] = sys.modules['speechbrain'] = None\n"
        "import torch, speechbrain_phaseinv as p\n"
        "transform = p.PhaseInversion(512, n_iter=1, hop_length=128)\n"
        "print(transform(torch.rand(257, 9)).shape)\n"
    )
    assert result.stdout == "torch.Size([1024])\n", result.stderr


def test_importing_it_has_no_side_effects():
    result = run(
        "import sys, torch\n"
        "threads, dtype = torch.get_num_threads(), torch.get_default_dtype()\n"
        "import speechbrain_phaseinv\n"
        "assert torch.get_num_threads() == threads\n"
        "assert torch.get_default_dtype() == dtype\n"
        "for name in ('numba', 'matplotlib', 'soundfile', 'torchaudio'):\n"
        "    assert name not in sys.modules, name\n"
    )
    assert result.returncode == 0, result.stderr


def test_modules_import_only_what_stands_before_them():
    seen = set()
    for layer in LAYERS:
        for module in layer:
            path, level = PACKAGE / f"{module}.py", 1
            if not path.exists():
                path, level = PACKAGE / module / "__init__.py", 2
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in getattr(node, "names", [])]
                if isinstance(node, ast.ImportFrom) and node.level == level:
                    names = [node.module] if node.module else names
                    assert set(names) <= seen, (module, names)
                elif isinstance(node, (ast.Import, ast.ImportFrom)):
                    names.append(getattr(node, "module", None) or "")
                    roots = {name.split(".")[0] for name in names}
                    assert not roots & {"torchaudio", "speechbrain"}
        seen |= layer


def test_everything_exported_exists_and_is_documented():
    for name in speechbrain_phaseinv.__all__:
        thing = getattr(speechbrain_phaseinv, name)
        assert thing.__doc__ and "Arguments" in thing.__doc__, name


def test_the_command_is_installed():
    (script,) = entry_points(group="console_scripts", name="phaseinv")
    assert callable(script.load())


def test_the_versions_that_torchaudio_needs_are_capped():
    needed = " ".join(requires("speechbrain_phaseinv"))
    assert re.search(r"torch<2\.13,", needed)
    assert re.search(r"torchaudio<2\.12,", needed)


def test_compiled_code_is_not_left_where_a_package_was(tmp_path):
    """A leftover folder of its name would be imported in its place."""
    code = (
        "from speechbrain_phaseinv import _kernels\n"
        "import numba\n"
        "print(_kernels.fraction._cache.cache_path, numba.config.CACHE_DIR)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    folder, *rest = result.stdout.split()
    assert folder.startswith(str(tmp_path / "speechbrain_phaseinv"))
    assert not rest  # Numba's own setting is as it was
