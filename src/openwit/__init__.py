"""OpenWIT: a WebImageText dataset builder and a CLIP trainer that reads its shards.

Every name below is imported when it is first used, so that `import openwit` loads nothing else. A name whose part of
OpenWIT is not installed raises `MissingPartError`, which says what to install.

All exceptions that a caller can act on are below one::

    OpenWITError                  a ValueError; the message is one sentence that says what is wrong and what to do
    ├── RecipeError               a recipe, configuration, setting or flag is wrong
    ├── DataError                 an input, dataset or checkpoint is missing, damaged or not what it should be
    │   └── SchemaError           a table does not have the columns it should have
    ├── NetworkError              a server or a remote store does not respond, or refuses
    ├── StorageError              a disk is full, a folder cannot be written, or another process holds it
    ├── DeviceError               a GPU or this machine has not enough memory, or a GPU fails
    ├── MissingPartError          a part is not installed, as openwit[build]; also an ImportError
    └── UnsupportedSystemError    OpenWIT does not run on this operating system; also an ImportError
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openwit import balancing
    from openwit.pipeline.api import build, lock, match, rehydrate, remove, run_stage
    from openwit.pipeline.build import BuildResult
    from openwit.pipeline.dataset.verify import verify_dataset as verify
    from openwit.pipeline.existing_api import decontaminate, dedup, filter_samples, merge, reshard
    from openwit.pipeline.explain.lookup import explain
    from openwit.pipeline.recipe import Recipe, load_recipe
    from openwit.pipeline.text.matching.matcher import Matcher
    from openwit.schemas.common.errors import (
        DataError,
        DeviceError,
        NetworkError,
        OpenWITError,
        RecipeError,
        SchemaError,
        StorageError,
    )
    from openwit.schemas.common.parts import MissingPartError, UnsupportedSystemError
    from openwit.training.api import load_config
    from openwit.training.checkpoints.load import LoadedModel, load_model
    from openwit.training.config import TrainConfig
    from openwit.training.data.open import open_dataset
    from openwit.training.data.sharded import Example, ShardedDataset
    from openwit.training.data.torch_dataset import IterableShardedDataset, collate
    from openwit.training.run.loop import fit

__version__ = "0.1.0"

# A library prints nothing unless its user sets up logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BuildResult",
    "DataError",
    "DeviceError",
    "Example",
    "IterableShardedDataset",
    "LoadedModel",
    "Matcher",
    "MissingPartError",
    "NetworkError",
    "OpenWITError",
    "Recipe",
    "RecipeError",
    "SchemaError",
    "ShardedDataset",
    "StorageError",
    "TrainConfig",
    "UnsupportedSystemError",
    "__version__",
    "balancing",
    "build",
    "collate",
    "decontaminate",
    "dedup",
    "explain",
    "filter_samples",
    "fit",
    "load_config",
    "load_model",
    "load_recipe",
    "lock",
    "match",
    "merge",
    "open_dataset",
    "rehydrate",
    "remove",
    "reshard",
    "run_stage",
    "verify",
]

_HOMES = {
    "BuildResult": "pipeline.build:BuildResult",
    "DataError": "schemas.common.errors:DataError",
    "DeviceError": "schemas.common.errors:DeviceError",
    "Example": "training.data.sharded:Example",
    "IterableShardedDataset": "training.data.torch_dataset:IterableShardedDataset",
    "LoadedModel": "training.checkpoints.load:LoadedModel",
    "Matcher": "pipeline.text.matching.matcher:Matcher",
    "MissingPartError": "schemas.common.parts:MissingPartError",
    "NetworkError": "schemas.common.errors:NetworkError",
    "OpenWITError": "schemas.common.errors:OpenWITError",
    "Recipe": "pipeline.recipe:Recipe",
    "RecipeError": "schemas.common.errors:RecipeError",
    "SchemaError": "schemas.common.errors:SchemaError",
    "ShardedDataset": "training.data.sharded:ShardedDataset",
    "StorageError": "schemas.common.errors:StorageError",
    "TrainConfig": "training.config:TrainConfig",
    "UnsupportedSystemError": "schemas.common.parts:UnsupportedSystemError",
    "balancing": "balancing:",
    "build": "pipeline.api:build",
    "collate": "training.data.torch_dataset:collate",
    "decontaminate": "pipeline.existing_api:decontaminate",
    "dedup": "pipeline.existing_api:dedup",
    "explain": "pipeline.explain.lookup:explain",
    "filter_samples": "pipeline.existing_api:filter_samples",
    "fit": "training.run.loop:fit",
    "load_config": "training.api:load_config",
    "load_model": "training.checkpoints.load:load_model",
    "load_recipe": "pipeline.recipe:load_recipe",
    "lock": "pipeline.api:lock",
    "match": "pipeline.api:match",
    "merge": "pipeline.existing_api:merge",
    "open_dataset": "training.data.open:open_dataset",
    "rehydrate": "pipeline.api:rehydrate",
    "remove": "pipeline.api:remove",
    "reshard": "pipeline.existing_api:reshard",
    "run_stage": "pipeline.api:run_stage",
    "verify": "pipeline.dataset.verify:verify_dataset",
}
"""Where each name is defined, as `module:name` below `openwit`; `module:` is the module itself."""


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'openwit' has no attribute {name!r}")
    from openwit.schemas.common.parts import importing

    module, _, attribute = _HOMES[name].partition(":")
    with importing(f"openwit.{name}", "train" if module.startswith("training") else "build"):
        home = import_module(f"openwit.{module}")
    value = getattr(home, attribute) if attribute else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
