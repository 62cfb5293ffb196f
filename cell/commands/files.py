"""What several commands do with the files they are given."""

from __future__ import annotations

from pathlib import Path

from cell.config import LoadedCell, beside
from cell.yamlfile import FileError, FileErrors
from recipes.expand import LoadedRecipe, inspect_recipe


def find_recipe(name: str | Path, cell: LoadedCell) -> Path:
    """Return the file of a recipe given by path or by its name in the cell's library. Raises FileErrors."""
    path = Path(name)
    candidates = [path, beside(cell.path, str(path))]
    if path.suffix != ".yaml":
        candidates.append(cell.recipes_path / f"{path}.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(p.stem for p in cell.recipes_path.glob("*.yaml"))) or "none"
    raise FileErrors([FileError(str(path), 0, "", "there is no such recipe", f"a file, or one of: {known}")])


def read_both(recipe: str | Path, cell_file: Path | None) -> tuple[LoadedCell, LoadedRecipe, list[FileError]]:
    """Read cell and recipe; the third are faults an analysis can be made in spite of. Raises FileErrors."""
    from cell.config import load_cell

    errors: list[FileError] = []
    cell: LoadedCell | None = None
    try:
        cell = load_cell(cell_file)
    except FileErrors as caught:
        errors += caught.errors
    loaded: LoadedRecipe | None = None
    found: list[FileError] = []
    try:
        path = find_recipe(recipe, cell) if cell is not None else Path(recipe)
        loaded, found = inspect_recipe(path)
    except FileErrors as caught:
        errors += caught.errors
    if errors or cell is None or loaded is None:
        raise FileErrors([*errors, *found])
    return cell, loaded, found
