"""The `intff` command, assembled from the entry points in the group `intff.commands`."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import click

from intff.errors import IntffError, MissingExtra, SpecError


class _Assembled(click.Group):
    """A command group that imports a command only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(point.name for point in entry_points(group="intff.commands"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        for point in entry_points(group="intff.commands", name=cmd_name):
            try:
                command = point.load()
            except ModuleNotFoundError as error:
                return _not_installed(cmd_name, error)
            assert isinstance(command, click.Command)
            return command
        return None


def _not_installed(name: str, error: ModuleNotFoundError) -> click.Command:
    extra = "train" if name in {"train", "predict", "evaluate"} else "service"
    message = f"intff {name} needs the package {error.name}; install it with: pip install 'intff[{extra}]'"

    @click.command(name, help=message, context_settings={"ignore_unknown_options": True})
    @click.argument("ignored", nargs=-1)
    def missing(ignored: tuple[str, ...]) -> None:
        del ignored
        raise MissingExtra(message)

    return missing


@click.group(cls=_Assembled)
@click.version_option(package_name="intff")
def intff() -> None:
    """Train and serve networks with the Integrated Forward-Forward algorithm."""


def main() -> None:
    """Run the command; exit with 0 on success, 1 on failure, 2 on incorrect usage, and 130 when interrupted."""
    try:
        code = intff.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except SpecError as error:
        named = not error.field or str(error).startswith(error.field)
        click.echo(f"error: {error}" if named else f"error: {error.field}: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in {"intff", "store", "service", "worker"}:
            raise  # a bug in this project, not a missing package
        message = f"this command needs the package {error.name}; install it with: pip install 'intff[train]'"
        click.echo(f"error: {message}", err=True)
        sys.exit(1)
    except OSError as error:
        told = error.filename is not None and error.strerror is not None
        click.echo(f"error: {error.filename}: {error.strerror}" if told else f"error: {error}", err=True)
        sys.exit(1)
    except IntffError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
