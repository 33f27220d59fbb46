"""The command `tunebox`. Thin: each command reads its words, then calls what does the work.

Imports inside the commands keep `tunebox --help` fast. An expected failure is one sentence on
standard error and exit code 1, never a stack trace.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from app.errors import AppError
from app.settings import Settings, get_settings

_FAILED = 1


class Commands(click.Group):
    """A group of commands whose expected failures become one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the class."""
        try:
            return super().invoke(ctx)
        except AppError as error:
            click.echo(f"tunebox: {error.detail}", err=True)
            ctx.exit(_FAILED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tunebox")
def main() -> None:
    """Tune language models on your own GPU box, as a team."""


def _settings(**given: object) -> Settings:
    """Return the settings, with the options that were given put over the environment."""
    for name, value in given.items():
        if value is not None:
            os.environ[f"TUNEBOX_{name.upper()}"] = str(value)  # noqa: TID251  # an option is one
    get_settings.cache_clear()
    return get_settings()


_DATA = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder (.data)."
)


@main.command()
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (8000).")
@_DATA
def up(host: str | None, port: int | None, data: Path | None) -> None:
    """Run everything here: databases, server and workers, until Ctrl-C."""
    from app.up import supervisor

    supervisor.up(_settings(host=host, port=port, data=data))


@main.command()
@_DATA
def worker(data: Path | None) -> None:
    """Run this machine's workers for a box elsewhere, until Ctrl-C."""
    from app.up import supervisor

    supervisor.work(_settings(data=data))


@main.command()
@_DATA
def migrate(data: Path | None) -> None:
    """Bring the database up to date; print the first admin's link while there is none."""
    from app.up import first_start, servers, welcome

    settings = _settings(data=data)
    with servers.database(settings) as url:
        prepared = first_start.prepare(settings, url)
    click.echo("The database is up to date.")
    if prepared.welcome or prepared.note:
        click.echo("\n".join(welcome.welcome_lines(settings, prepared)))


@main.group()
def admin() -> None:
    """Make administrators."""


@admin.command("create")
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@_DATA
def admin_create(email: str, data: Path | None, *, password_stdin: bool) -> None:
    """Make an admin: print a one-time link, or take a password from standard input."""
    from app.auth import users
    from app.auth.roles import Role
    from app.kit.db import transaction
    from app.up import migrations, servers

    with servers.database(_settings(data=data)) as url:
        migrations.upgrade(url)
        with transaction(url) as session:
            if password_stdin:
                password = sys.stdin.readline().rstrip("\n")
                users.create_user(session, email=email, name="", role=Role.ADMIN, password=password)
                click.echo(f"{email} is an admin and can sign in.")
            else:
                link = users.invite(session, actor=None, email=email, role=Role.ADMIN)
                click.echo(f"{_address()}{link.path}")


def _address() -> str:
    settings = get_settings()
    return settings.public_url or f"http://{settings.host}:{settings.port}"


@main.group()
def token() -> None:
    """Make API tokens."""


@token.command("create")
@click.option("--user", "email", required=True, help="The user's e-mail.")
@click.option("--name", required=True, help="What the token is for.")
@_DATA
def token_create(email: str, name: str, data: Path | None) -> None:
    """Print a new token, once and alone."""
    from app.auth import tokens
    from app.kit.db import transaction
    from app.up import servers

    with servers.database(_settings(data=data)) as url, transaction(url) as session:
        made = tokens.create_for_email(session, email=email, name=name)
    click.echo(made.value)


class _NotChecked(click.ClickException):
    """The file could not be checked as it was asked; nothing is said of the file itself."""

    exit_code = 2


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--deep", is_flag=True, help="Look for near duplicates and odd rows too.")
@click.option("--format", "declared", help="What the rows are, where that is not to be detected.")
@click.option(
    "--base-model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A model's folder: say too which rows are too long for it, or not for its template.",
)
@click.option("--max-length", default=2048, show_default=True, type=click.IntRange(min=1))
def validate(
    file: Path,
    *,
    as_json: bool,
    deep: bool,
    declared: str | None,
    base_model: Path | None,
    max_length: int,
) -> None:
    """Check a dataset file as an upload would be; exit code 1 if it has errors."""
    from app.datasets.formats import FORMATS
    from app.datasets.terminal import as_text, checked, json_text
    from app.errors import AppError

    if declared is not None and declared not in FORMATS:
        known = ", ".join(FORMATS)
        raise click.BadParameter(f"use one of {known}", param_hint="--format")
    try:
        with checked(file, declared=declared, deep=deep) as found:
            if base_model is not None:
                from app.tokens.terminal import add_token_problems

                add_token_problems(found, base_model, max_length=max_length)
    except AppError as error:
        raise _NotChecked(error.detail) from error
    report, problems = found.report, found.problems
    click.echo(json_text(report, problems) if as_json else as_text(file, report, problems))
    sys.exit(_FAILED if report.errors else 0)


@main.command()
@_DATA
def doctor(data: Path | None) -> None:
    """Say what this machine has, what it lacks, and the cure."""
    from app.up.doctor import examine

    findings = examine(_settings(data=data))
    for finding in findings:
        click.echo(f"{'✗' if finding.cure else '✓'} {finding.name:<9} {finding.text}")
        if finding.cure:
            click.echo(f"  {'':<9} → {finding.cure}")
    sys.exit(_FAILED if any(finding.cure for finding in findings) else 0)


if __name__ == "__main__":
    main()
