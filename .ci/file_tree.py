"""Writes docs/files.md: every module with the first line of its docstring. `--check` compares it only."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "files.md"
WINGS = {"schemas": "The ground floor", "pipeline": "The dataset wing", "training": "The model wing"}
HEAD = """# One line per file

Made by `python .ci/file_tree.py` from the modules' docstrings; a test keeps it current.
"""


def summary(path: Path) -> str:
    """The first sentence or line of a module's docstring, as one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return first.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for wing, title in WINGS.items():
        parts.append(f"\n## {title}: `{wing}/`\n")
        for folder in sorted({path.parent for path in (ROOT / wing).rglob("*.py")}):
            parts.append(f"\n### `{folder.relative_to(ROOT)}/`\n")
            package = folder / "__init__.py"
            if package.exists():
                parts.append(f"\n{summary(package)}\n")
            modules = [path for path in sorted(folder.glob("*.py")) if path != package]
            if modules:
                parts.append("\n| file | |\n|---|---|\n")
                parts += [f"| `{path.name}` | {summary(path)} |\n" for path in modules]
    return "".join(parts)


def main() -> int:
    """Writes the page, or with `--check` compares it; returns the exit code."""
    made = page()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
            return 0
        print("docs/files.md is not current: run python .ci/file_tree.py", file=sys.stderr)
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
