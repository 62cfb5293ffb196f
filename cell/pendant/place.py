"""Where a pendant is served and where it keeps its data; looked at before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

from cell.options import RunOptions
from cell.pendant.accounts import Accounts
from cell.session import PendantFile, SessionError

HOST = "127.0.0.1"


def data_folder(options: RunOptions) -> Path:
    """Return the folder of accounts, points and recipes: as asked for, else beside the runs."""
    return (options.pendant_data or options.runs.resolve().parent / "pendant-data").resolve()


def pendant_of(options: RunOptions) -> PendantFile | None:
    """Return how the pendant is to be served, None if not at all. Raises SessionError if its port is taken."""
    port = options.pendant_port
    if port is None:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SessionError(
                f"port {port} of the pendant cannot be used ({error.strerror}): is another cell up? "
                "Stop that one, or give another --port"
            ) from None
    return PendantFile(port, str(data_folder(options)), str(options.runs.resolve()))


def first_password(data: Path) -> str:
    """Make the first account if there is none; return its password, to be shown once, or an empty text.

    Raises AccountError if the folder cannot be used.
    """
    return Accounts(data).first_admin()
