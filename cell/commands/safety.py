"""`cell safety ...`: figures of the standards, acceptance of the safety configuration, recheck of a recording.

Only arguments are dealt with here; what a command needs is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""What a safety engineer needs: separation, contact and protective-field figures, signatures, rechecks.

This is engineering software, not a certified safety function.""",
)

FileArgument = Annotated[
    str | None, typer.Argument(metavar="FILE", help="JSON file (- is standard input), answered as a table.")
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="JSON file (- is standard input), answered as JSON.")
]


def _formula(kind: str, file: str | None, json_file: str | None) -> None:
    from cell.commands.formulas import run_formula
    from cell.exits import BadInput

    source = json_file if json_file is not None else file
    if source is None or (file is not None and json_file is not None):
        raise BadInput(f"safety {kind}: give one file, either as argument or behind --json; - is standard input")
    raise typer.Exit(run_formula(kind, source, json_file is not None))


@app.command()
def distance(file: FileArgument = None, json_file: JsonOption = None) -> None:
    """Protective separation distance and allowed speed (ISO/TS 15066).

    Input: an object or a list of objects with v_h, T_r, C, Z_d, Z_r, braking as a_s or as T_s and S_s, and v_r
    (answered by S_p and its six terms), d (answered by the allowed speed) or both. SI units: m, s, m/s, m/s2.

    \b
    Example:
      echo '{"v_h": 1.6, "v_r": 0.5, "T_r": 0.15, "a_s": 5, "C": 0.208, "Z_d": 0.05, "Z_r": 0.03, "d": 1.0}' |
        cell safety distance --json -

    Exit code 2, with the field's name (and the index in a list), for anything missing, unknown, not finite, or out of
    range.
    """
    _formula("distance", file, json_file)


@app.command()
def contact(file: FileArgument = None, json_file: JsonOption = None) -> None:
    """Permitted speed of contact with a body region (ISO/TS 15066, annex A).

    Input: an object or a list of objects with region, m_R (effective mass of arm and load, kg), and, if wanted,
    contact_area (m2, declared for the tool: then the pressure limits too, unless force_only is true), contact
    (transient or quasi_static), body_area.

    \b
    Example:
      echo '{"region": "hands_fingers", "m_R": 10, "force_only": true}' | cell safety contact --json -
    """
    _formula("contact", file, json_file)


@app.command("protective-field")
def protective_field(file: FileArgument = None, json_file: JsonOption = None) -> None:
    """Distance of a fixed protective field from the hazard (ISO 13855:2010 and :2024).

    Input: an object or a list of objects with edition (2010, 2024), approach (orthogonal, parallel), d_mm (detection
    capability), T (s), H (height of a parallel field, mm; of no effect for an orthogonal one); for 2024 also Z_mm and
    reach_over_mm.

    \b
    Example:
      echo '{"edition": 2010, "approach": "orthogonal", "d_mm": 30, "T": 0.3}' | cell safety protective-field --json -
    """
    _formula("protective-field", file, json_file)


KeyOption = Annotated[Path, typer.Option("--key", metavar="FILE", help="Private key file of the person.")]
NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the person, as in the list.")]
TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trusted",
        metavar="FILE",
        help="List of trusted keys; left out: $CELL_TRUSTED_KEYS, or trusted_keys.yaml beside the safety file.",
    ),
]
PassphraseOption = Annotated[bool, typer.Option("--passphrase", help="Ask for the passphrase of the private key.")]
SafetyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Safety configuration (safety.yaml).")]


@app.command()
def keygen(
    key: KeyOption,
    name: NameOption,
    passphrase: PassphraseOption = False,
    enrol: Annotated[bool, typer.Option("--enrol", help="Add the public key to the list of trusted keys.")] = False,
    trusted: TrustOption = None,
) -> None:
    """Make a signing key for a safety engineer.

    Example: cell safety keygen --key anna.pem --name "Anna Berg" --passphrase
    """
    from cell.commands.acceptance import make_key

    raise typer.Exit(make_key(key, name, passphrase, enrol, trusted))


@app.command()
def sign(
    file: SafetyFile,
    key: KeyOption,
    name: NameOption,
    passphrase: PassphraseOption = False,
    trusted: TrustOption = None,
) -> None:
    """Accept the present state of a safety configuration. Two different safety engineers must.

    Example: cell safety sign cell_safety.yaml --key anna.pem --name "Anna Berg"
    """
    from cell.commands.acceptance import sign_file

    raise typer.Exit(sign_file(file, key, name, passphrase, trusted))


@app.command()
def verify(file: SafetyFile, trusted: TrustOption = None) -> None:
    """Say whether a safety configuration is accepted by two safety engineers, and which people it covers.

    Exit code 0 if it is, 1 if not, 2 if a file cannot be used.
    """
    from cell.commands.acceptance import verify_file

    raise typer.Exit(verify_file(file, trusted))


@app.command()
def faults(
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Rows to inject; left out: tests/safety/faults.yaml.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", metavar="RECIPE", help="What the arm does meanwhile.")] = "kitting",
    cell: Annotated[
        Path | None, typer.Option("--cell", metavar="FILE", help="Cell file with a twin; left out: the demo cell.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="ID", help="Only this row; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the table as Markdown too.")
    ] = None,
) -> None:
    """Inject faults into the moving twin and measure what becomes of the arm.

    Every interface in turn: lost, late, repeated, swapped, forged and senseless messages, killed and frozen nodes,
    wrong clocks, silent drives, covered cameras, a full disk. Takes about five minutes.

    Exit code 1 if a fault is not handled within its bound.

    \b
    Examples:
      cell safety faults
      cell safety faults --only lease-forged --only obs-missing --json
    """
    from cell.commands.faults import run_faults

    raise typer.Exit(run_faults(file, recipe, cell, only or [], as_json, markdown))


@app.command()
def recheck(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its flight.mcap.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable result.")] = False,
) -> None:
    """Recalculate every recorded lease with the second channel and report those that were too permissive.

    Exit code 0 if every lease was checked and none was too permissive, 1 if not, 2 if there is no usable recording.

    Example: cell safety recheck runs/2026-01-31_12-00-00
    """
    from cell.commands.recheck import recheck_run

    raise typer.Exit(recheck_run(run, as_json))


@app.command()
def coverage(
    cell: Annotated[
        Path | None, typer.Argument(metavar="CELL", help="Cell file; left out: the demo cell of the package.")
    ] = None,
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="The arm stands as in this work.")] = "kitting",
    size: Annotated[float, typer.Option(metavar="M", min=0.04, max=0.5, help="Edge of a cell of the volume.")] = 0.1,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw plans at four heights.")] = None,
    one_more: Annotated[bool, typer.Option(help="Look for the best place of one more camera.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """What do the cameras see of the space in which people can be?

    Always seen, seen in some poses of the arm, never; the smallest target that can be told at each place; how well the
    ways in are watched; where one more camera would help most. The layer before walls, floor and table in which nothing
    can be told from the background counts as not seen.

    Example: cell safety coverage --png coverage.png
    """
    from cell.commands.coverage import show_coverage

    raise typer.Exit(show_coverage(cell, recipe, size, png, as_json, one_more))
