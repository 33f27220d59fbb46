"""Copies what pages need from node_modules to static/vendor, and builds the icon sprite.

Runs after ``npm ci`` with nothing but the standard library; knows nothing of the product. The
result is ignored by git: no third-party code is committed. A second run replaces the first.
"""

import re
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "node_modules"
TARGET = HERE / "static" / "vendor"

FILES = {
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "@tabler/core/dist/css/tabler.min.css": "tabler.min.css",
    "tus-js-client/dist/tus.min.js": "tus.min.js",
    "uplot/dist/uPlot.esm.js": "uplot.esm.js",
    "uplot/dist/uPlot.min.css": "uplot.min.css",
}
FONTS = ("inter", "jetbrains-mono")

# Every icon that a template names; `tests/web/test_templates.py` checks both ways.
ICONS = (HERE / "icons.txt").read_text().split()


def main() -> None:
    """Build ``static/vendor`` anew; the old one stays until the new one is whole."""
    if not SOURCE.is_dir():
        raise SystemExit(
            "web/node_modules is missing: run `npm ci --ignore-scripts` in web/ first."
        )
    building = TARGET.with_name("vendor.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for source, name in FILES.items():
        (building / name).write_bytes(without_source_map(SOURCE / source))
    for font in FONTS:
        copy_font(SOURCE / "@fontsource-variable" / font, building / font)
    (building / "icons.svg").write_text(sprite(ICONS))
    shutil.rmtree(TARGET, ignore_errors=True)
    building.rename(TARGET)


def without_source_map(path: Path) -> bytes:
    """Return the file without its pointer to a map that we do not serve."""
    return re.sub(rb"(?m)^\s*(?://|/\*)# sourceMappingURL=.*$", b"", path.read_bytes())


def copy_font(package: Path, target: Path) -> None:
    """Copy the upright variable font of ``package``, all scripts, with its style sheet."""
    target.mkdir()
    style = (package / "index.css").read_text()
    (target / "index.css").write_text(style)
    for name in re.findall(r"files/([a-z0-9-]+\.woff2)", style):
        (target / "files").mkdir(exist_ok=True)
        shutil.copyfile(package / "files" / name, target / "files" / name)


def sprite(names: list[str]) -> str:
    """Return one SVG with a ``<symbol>`` for each icon, drawn in the current colour."""
    symbols = "".join(symbol(name) for name in names)
    return f'<svg xmlns="http://www.w3.org/2000/svg">{symbols}</svg>\n'


def symbol(name: str) -> str:
    """Return the outline icon ``name`` as a symbol with that id."""
    path = SOURCE / "@tabler/icons/icons/outline" / f"{name}.svg"
    if not path.is_file():
        raise SystemExit(f"web/icons.txt names {name!r}, which is no Tabler outline icon.")
    body = re.search(r"<svg[^>]*>(.*)</svg>", path.read_text(), re.DOTALL)
    assert body is not None  # every icon file is one <svg>
    shapes = re.sub(r'<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>', "", body[1])
    return f'<symbol id="{name}" viewBox="0 0 24 24">{" ".join(shapes.split())}</symbol>'


if __name__ == "__main__":
    main()
