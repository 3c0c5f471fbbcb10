import subprocess
import sys

HEAVY = ("torch", "numpy", "pyarrow", "PIL", "tokenizers", "rich", "typer")


def loaded_by(module: str, names: tuple[str, ...]) -> list[str]:
    code = f"import sys, {module}; print([name for name in {names!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return list(eval(found.stdout))


def test_settings_load_pydantic_only() -> None:
    assert loaded_by("openwit.training.config", HEAVY) == []


def test_datasets_are_read_without_torch() -> None:
    assert loaded_by("openwit.training.data.open", ("torch", "torchvision", "rich")) == []


def test_the_library_loads_no_console() -> None:
    assert loaded_by("openwit.training.api", ("rich", "typer")) == []
