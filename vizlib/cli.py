"""The command line: reads the arguments, runs a command of `vizlib.commands`, tells a mistake in one line.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import sys
from types import ModuleType
from typing import NoReturn

from vizlib.commands import (
    choose,
    compare,
    compress,
    cost,
    debug,
    demo,
    evaluate,
    explain,
    export,
    gates,
    kept,
    summary,
    tradeoff,
    zoo,
)

COMMANDS = (
    summary, explain, compare, gates, kept, cost, tradeoff, choose, compress, export, evaluate, debug, zoo, demo,
)  # fmt: skip
NAMES = """
vizlib COMMAND --help has more of them, and all options.

A MODEL begins with zoo/, timm/, torchvision/, hf/ or arch/, or is a Hugging Face folder. A PHOTO is a
file or the name of a sample photograph: cat, coffee, rocket, astronaut, motorcycle, clock …
Exit code: 0; 1 where a part could not be made or a check failed; 2 after a mistake.
"""


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. Try {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    each = "\n".join(f"  {_examples(command)[0]}" for command in COMMANDS)
    epilog = f"examples:\n{each}\n{NAMES}"
    raw = argparse.RawDescriptionHelpFormatter
    main = Parser("vizlib", description="See what an image classifier looks at.", epilog=epilog, formatter_class=raw)
    main.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = main.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        text, _, more = str(command.__doc__).partition("\n\n")
        added = commands.add_parser(_name(command), help=text, description=text, epilog=more, formatter_class=raw)
        added.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        command.add(added)
        added.set_defaults(run=command.run)
    commands.add_parser("train", add_help=False, help="Train a member of the zoo on a folder of photographs.")
    return main


def main(argv: list[str] | None = None) -> int:
    """Runs a command. Returns 0; 1 where a part failed; 2 after a mistake that was told in one line on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["train"]:
            return _train(argv[1:])
        arguments = parser().parse_args(argv)
        return int(arguments.run(arguments))
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        if "--traceback" in argv:
            raise
        print(f"vizlib: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _train(argv: list[str]) -> int:
    """Its options are those of the training recipe, which needs torch."""
    from vizlib.models import train

    train.main([word for word in argv if word != "--traceback"])
    return 0


def _name(command: ModuleType) -> str:
    return command.__name__.rpartition(".")[2]


def _examples(command: ModuleType) -> list[str]:
    """The lines of a command's docstring that can be typed."""
    return [line.strip() for line in str(command.__doc__).splitlines() if line.startswith("  vizlib ")]


if __name__ == "__main__":
    sys.exit(main())
