"""`intff serve`: the whole service on one machine, with nothing to set up."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--host", help="Address to listen on (default: INTFF_HOST, else 127.0.0.1). Others need API keys.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one (default: INTFF_PORT, else 8000, or a free one if that is in use).",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Worker processes; each trains one job at a time.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept (default: INTFF_HOME, else ~/.intff).",
)
def serve(host: str | None, port: int | None, workers: int, home: Path | None) -> None:
    """Run the service: the API, a worker and a private broker, until Ctrl-C.

    Jobs and models are kept in the home folder, and a later start continues with them. The logs of
    the parts are in its logs/ folder; this command itself prints only what you need to know.
    """
    # Imported here, so that the other commands of `intff` do not wait for the database's packages.
    from service.supervisor import Supervisor  # noqa: PLC0415
    from store.settings import read_settings  # noqa: PLC0415

    given = {"host": host, "port": port, "home": home}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    Supervisor(settings, workers).run()
