"""The command ``phaseinv``, on click: one module a command.

What fails because of its input fails with one line on stderr and exit status
2. Nothing heavy is imported before a command runs. The shell completes
commands, options and file names after, in bash (zsh and fish likewise)::

    eval "$(_PHASEINV_COMPLETE=bash_source phaseinv)"
"""

import os
import sys
import warnings
from importlib import import_module
from pathlib import Path

import click

EXAMPLE = Path(__file__).parents[1] / "data" / "example.flac"
COMMANDS = ("reconstruct", "invert", "stream", "export", "compare")


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx):
        """In the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx, name):
        """The function ``command`` of the module of that name."""
        if name not in COMMANDS:
            return None
        return import_module(f".{name}", __name__).command

    def main(self, args=None, prog_name="phaseinv", **extra):
        """Run these arguments, or those of the process; give a status.

        0 if all went well, 2 if something was wrong with the input, 130 if
        interrupted; of a stream see `live.stream`.
        """
        extra["standalone_mode"] = False
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            try:
                return super().main(args, prog_name, **extra) or 0
            except click.ClickException as error:
                path = error.ctx.command_path if error.ctx else prog_name
                text = f"{error.format_message()} (see {path} -h)"
                complain(text, path)
                return error.exit_code

    def invoke(self, ctx):
        """Run the command; what went wrong becomes a line and a status."""
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, OSError) as error:
            complain(error)
            return 2
        except KeyboardInterrupt:
            return 130


@click.group(cls=Commands, no_args_is_help=False)
@click.version_option(
    package_name="speechbrain_phaseinv", message="phaseinv %(version)s"
)
def main():
    """Give magnitude spectrograms their phase, in linear time.

    For completion of commands, options and file names, put this into
    ~/.bashrc, or the same with zsh_source into ~/.zshrc:

    \b
        eval "$(_PHASEINV_COMPLETE=bash_source phaseinv)"
    """


main.context_settings["help_option_names"] = ["-h", "--help"]


def say(text="", err=False):
    """Print lines; no console, no name and no reader makes that an error.

    What the console's encoding lacks is escaped, and where an output is
    closed nothing is printed.
    """
    file = sys.stderr if err else sys.stdout
    if file is None:
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, file=file, flush=True)
    except BrokenPipeError:  # as of `phaseinv reconstruct | true`
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def complain(error, prog="phaseinv", kind="error"):
    """One line on stderr, whatever the message."""
    text = " ".join(str(error).split()) or type(error).__name__
    say(f"{prog}: {kind}: {text}", err=True)


def _warn(message, *_, **__):
    """A warning is one line, too."""
    complain(message, kind="warning")
