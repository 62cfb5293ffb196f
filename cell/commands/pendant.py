"""`cell pendant ...`: accounts without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The teach pendant: accounts without a browser. `cell up` serves it.")
users_app = typer.Typer(no_args_is_help=True, help="Accounts of the pendant.")
app.add_typer(users_app, name="users")
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="The pendant's data folder.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
RoleOption = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="viewer, operator, programmer, safety_engineer or admin.")
]
DATA = Path("pendant-data")


def _password() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


@users_app.command("add")
def add(name: NameArgument, role: RoleOption, data: DataOption = DATA) -> None:
    """Make an account; the password is asked for.

    Example: cell pendant users add "Anna Berg" --role safety_engineer
    """
    from cell.exits import BadInput
    from cell.pendant.accounts import ROLES, Accounts

    if role not in ROLES:
        raise BadInput(f"--role: there is no {role!r}; roles are {', '.join(ROLES)}")
    user = Accounts(data).create(name, role, _password())
    typer.echo(f"{user.name} is {user.role}")


@users_app.command("list")
def list_users(data: DataOption = DATA) -> None:
    """List all accounts."""
    from cell.pendant.accounts import Accounts

    for user in Accounts(data).all():
        typer.echo(f"{user.name:<40} {user.role:<16} {'disabled' if user.disabled else ''}".rstrip())


@users_app.command("passwd")
def passwd(name: NameArgument, data: DataOption = DATA) -> None:
    """Give somebody another password, such as an admin who has lost it."""
    from cell.pendant.accounts import Accounts

    Accounts(data).set_password(name, _password(), own=False)
    typer.echo("changed")
