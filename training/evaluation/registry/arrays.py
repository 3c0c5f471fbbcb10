"""Read sets that are stored as arrays of pixels: CIFAR's pickles, STL-10's and MNIST's binaries, SVHN's and FER2013's.

An image is handed on as PPM or PGM, which keeps every pixel.
"""

import csv
import gzip
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.classification_labels import Label
from openwit.training.evaluation.classification_readers import Found, Images

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def pnm(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) or (H, W) as PPM or PGM."""
    kind = b"P6" if pixels.ndim == 3 else b"P5"
    return b"%s %d %d 255\n" % (kind, pixels.shape[1], pixels.shape[0]) + np.ascontiguousarray(pixels).tobytes()


class _Unpickler(pickle.Unpickler):
    """Loads numbers, texts, lists, dicts and arrays; anything else that a pickle may call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return super().find_class(module, name)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        found = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is no batch of CIFAR: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no batch of CIFAR")
    return found


def cifar_splits(folder: Path) -> list[str]:
    """Return the splits of CIFAR-10 or CIFAR-100 that are there."""
    found = {"train": ("data_batch_1", "train"), "test": ("test_batch", "test")}
    return [split for split, names in found.items() if any((folder / name).is_file() for name in names)]


def read_cifar(folder: Path, split: str) -> Found:
    """Read CIFAR-10's or CIFAR-100's Python version, with its class names (`batches.meta`, `meta`).

    Raises:
        DataError: a file is missing or damaged.
    """
    is_ten = (folder / "batches.meta").is_file() or (folder / "test_batch").is_file()
    if is_ten:
        paths = sorted(folder.glob("data_batch_[0-9]")) if split == "train" else [folder / "test_batch"]
    else:
        paths = [folder / split]
    rows: list[NDArray[np.uint8]] = []
    labels: list[Label] = []
    for path in paths:
        batch = _unpickled(path)
        data, of_batch = batch.get("data"), batch.get("labels", batch.get("fine_labels"))
        if not isinstance(data, np.ndarray) or data.shape[1:] != (3072,) or len(of_batch or []) != len(data):
            raise DataError(f"{path} is no batch of CIFAR")
        rows.append(data.astype(np.uint8))
        labels += [int(label) for label in of_batch or []]
    pixels = np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    found = _of_arrays(lambda place: pnm(pixels[place]), labels)
    meta = folder / ("batches.meta" if is_ten else "meta")
    if meta.is_file():
        named = _unpickled(meta)
        found.names = [
            str(name).replace("_", " ") for name in named.get("label_names", named.get("fine_label_names", []))
        ]
    return found


def _of_arrays(images: Images, labels: list[Label]) -> Found:
    found = Found(images)
    for row, label in enumerate(labels):
        found.add(f"row {row}", label, row)
    return found


def stl10_splits(folder: Path) -> list[str]:
    """Return the labelled splits of STL-10 that are there."""
    return [split for split in ("train", "test") if (folder / f"{split}_X.bin").is_file()]


def read_stl10(folder: Path, split: str) -> Found:
    """Read STL-10's binary version: pixels by column, labels from 1.

    Raises:
        DataError: sizes do not fit.
    """
    labels = np.fromfile(folder / f"{split}_y.bin", dtype=np.uint8).astype(int) - 1
    path = folder / f"{split}_X.bin"
    if path.stat().st_size != len(labels) * 3 * 96 * 96:
        raise DataError(f"{path} holds {path.stat().st_size:,} bytes, which are not {len(labels):,} images of 96 x 96")
    pixels = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96)
    found = _of_arrays(lambda place: pnm(pixels[place].transpose(2, 1, 0)), [int(label) for label in labels])
    names = folder / "class_names.txt"
    if names.is_file():
        found.names = names.read_text("utf-8").split()
    return found


_MNIST = {"train": "train", "test": "t10k"}


def mnist_splits(folder: Path) -> list[str]:
    """Return the splits of MNIST that are there."""
    return [split for split, stem in _MNIST.items() if list(folder.glob(f"{stem}-images-idx3-ubyte*"))]


def read_mnist(folder: Path, split: str) -> Found:
    """Read MNIST's idx files, compressed or not; a class is named by its digit.

    Raises:
        DataError: a file is missing or damaged.
    """
    pixels = _idx(folder, f"{_MNIST[split]}-images-idx3-ubyte", 3)
    labels = _idx(folder, f"{_MNIST[split]}-labels-idx1-ubyte", 1)
    if len(pixels) != len(labels):
        raise DataError(f"{folder} has {len(pixels):,} images and {len(labels):,} labels of {split}")
    found = _of_arrays(lambda place: pnm(pixels[place]), [int(label) for label in labels])
    found.names = [str(digit) for digit in range(10)]
    return found


def _idx(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    path = next((each for each in (folder / name, folder / f"{name}.gz") if each.is_file()), None)
    if path is None:
        raise DataError(f"{folder / name} is missing")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    head = 4 + 4 * dimensions
    shape = np.frombuffer(data[4:head], dtype=">i4").astype(int) if len(data) >= head else np.empty(0, int)
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) != head + int(np.prod(shape)):
        raise DataError(f"{path} is no idx file of {dimensions} dimensions, or is not whole")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)


def svhn_splits(folder: Path) -> list[str]:
    """Return the splits of SVHN that are there."""
    return [split for split in ("train", "test", "extra") if (folder / f"{split}_32x32.mat").is_file()]


def read_svhn(folder: Path, split: str) -> Found:
    """Read SVHN's cropped digits; digit 0 has the label 10 there.

    Raises:
        DataError: the file is damaged, or scipy is not installed.
    """
    data = read_matlab(folder / f"{split}_32x32.mat")
    pixels, labels = data["X"], data["y"].ravel().astype(int) % 10
    found = _of_arrays(lambda place: pnm(pixels[..., place]), [int(label) for label in labels])
    found.names = [str(digit) for digit in range(10)]
    return found


def read_matlab(path: Path) -> dict[str, Any]:
    """Return the arrays of a MATLAB file.

    Raises:
        DataError: it is missing or damaged, or scipy is not installed.
    """
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(f"{path} is a MATLAB file, which scipy reads: pip install scipy") from error
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        found: dict[str, Any] = loadmat(path, squeeze_me=False)
    except Exception as error:
        raise DataError(f"{path} is no readable MATLAB file: {error}") from error
    return found


_USAGE = {"train": ("Training",), "test": ("PublicTest", "PrivateTest")}


def fer2013_splits(folder: Path) -> list[str]:
    """Return the splits of FER2013's table."""
    return list(_USAGE) if _fer_table(folder) else []


def _fer_table(folder: Path) -> Path | None:
    return next((folder / name for name in ("icml_face_data.csv", "fer2013.csv") if (folder / name).is_file()), None)


def read_fer2013(folder: Path, split: str) -> Found:
    """Read FER2013's table: emotion, usage and the 48 x 48 pixels as text.

    Raises:
        DataError: there is no such table.
    """
    path = _fer_table(folder)
    if path is None:
        raise DataError(f"{folder} has no fer2013.csv")
    rows: list[NDArray[np.uint8]] = []
    found = Found(lambda place: pnm(rows[place]))
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, skipinitialspace=True)):
            if row.get("Usage") not in _USAGE[split]:
                continue
            try:
                pixels = np.array((row.get("pixels") or "").split(), dtype=np.uint8).reshape(48, 48)
                label = int(row.get("emotion") or "")
            except (ValueError, OverflowError):
                found.leave_out("no image", f"row {number}")
                continue
            found.add(f"row {number}", label, len(rows))
            rows.append(pixels)
    return found
