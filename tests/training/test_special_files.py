"""Every file that `wit-train` is given is refused before it is opened if it is a named pipe."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.settings import load_settings
from openwit.training.checkpoints.files import load_checkpoint
from openwit.training.checkpoints.load import load_model
from openwit.training.config.train import TrainConfig
from openwit.training.data.tar_index import TarDataset, local_tars
from openwit.training.evaluation.class_names import read_class_names
from openwit.training.evaluation.classification_data import LabelledData, open_classification
from openwit.training.evaluation.prompts import read_prompts
from openwit.training.models.weights import load_weights
from openwit.training.tokenizer.read import read_tokenizer, vocabulary_of


@pytest.mark.parametrize(
    "read",
    [
        lambda path: load_settings(path, TrainConfig),
        load_checkpoint,
        load_model,
        load_weights,
        lambda path: local_tars([str(path)]),
        lambda path: local_tars([f"{path.parent}/*"]),
        lambda path: TarDataset(local_tars([str(path.parent)])),
        read_class_names,
        lambda path: open_classification(LabelledData(path)),
        lambda path: read_prompts(str(path)),
        read_tokenizer,
        vocabulary_of,
    ],
)
def test_a_named_pipe_is_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(DataError, match=r"x.tar is a named pipe, not a file: write what it gives to a file"):
        read(tmp_path / "x.tar")
