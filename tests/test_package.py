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

# The data flows one way: a room, a folder or a module, imports only what
# stands in the layers before its own.
LAYERS = [
    {"windows", "audio", "kernels", "backends"},
    {"config"},
    {"checks"},
    {"stft"},
    {"estimation"},
    {"integration", "losses", "pretrained", "griffinlim"},
    {"mel", "state"},
    {"inversion"},
    {"prepared"},
    {"streaming", "transforms", "noisy_phase"},
    {"enhancement", "vocoder"},
    {"resynthesizer"},
    {"inference", "edge", "evaluation"},
    {"cli"},
]


ROOMS = {room for layer in LAYERS for room in layer}


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


def imports(path):
    """What a module imports, as dotted names; its own package is `.`."""
    package = [".", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            stem = [*up, *([node.module] if node.module else [])]
            if len(stem) > 1 or not node.level:
                yield ".".join(stem)
            else:
                yield from (f"{stem[0]}.{alias.name}" for alias in node.names)


def test_rooms_import_only_what_stands_before_them():
    """And only two of them torchaudio or speechbrain, if they are there."""
    below = set()
    for layer in LAYERS:
        for room in layer:
            files = [*PACKAGE.glob(f"{room}.py"), *PACKAGE.glob(f"{room}/*.py")]
            for path in files:
                if path.name == "__main__.py":  # a command, not a part
                    continue
                names = [x.split(".") for x in imports(path)]
                own = {x[2] for x in names if x[:2] == ["", ""]}
                outside = {x[0] for x in names} - {""}
                assert not own & (ROOMS - below - {room}), path
                if room not in ("inference", "evaluation"):
                    assert not outside & {"torchaudio", "speechbrain"}, path
                if room == "kernels":
                    allowed = {"numpy", "numba", "rocket_fft"}
                    allowed |= sys.stdlib_module_names
                    assert outside <= allowed, path
        below |= layer


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
    assert re.search(r"torchaudio<2\.11\.1,", needed)


def solve_in(cache):
    """Run a kernel in a process whose cache folder is below this one."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = (
        "import numba, torch\n"
        "from speechbrain_phaseinv.integration.ladder import solve_ladder\n"
        "ones = torch.ones(2, 3)\n"
        "print(solve_ladder(ones, ones, ones + 0j).real.sum().item())\n"
        "print(numba.config.CACHE_DIR)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    # The second line, Numba's own setting, is as it was.
    assert result.stdout.split() == ["6.0"]
    return result.stderr


def test_compiled_code_is_kept_in_the_user_s_cache_and_nowhere_else(tmp_path):
    """A leftover folder of its name would be imported in a package's place."""
    beside = set(PACKAGE.rglob("*.nb?"))
    assert not solve_in(tmp_path)
    kept = list((tmp_path / "speechbrain_phaseinv").rglob("*.nbi"))
    assert any("ladder.solve_rows" in x.name for x in kept)
    assert set(PACKAGE.rglob("*.nb?")) == beside


def test_without_a_cache_folder_it_works_and_warns_once(tmp_path):
    """Permissions do not bind everyone: a file stands in the way instead."""
    (tmp_path / "file").touch()
    errors = solve_in(tmp_path / "file" / "cache")
    assert errors.count("cannot be written to") == 1
