"""Make the header of exported safetensors files."""

import json

from openwit.training.checkpoints.load import LoadedModel
from openwit.training.models.weights import SPEC_KEY

LINEAGE_KEY = "openwit_lineage"


def file_metadata(model: LoadedModel) -> dict[str, str]:
    """Return the metadata of a safetensors file: the architecture, and where the weights come from."""
    return {
        "format": "pt",
        SPEC_KEY: model.model.spec.model_dump_json(),
        LINEAGE_KEY: json.dumps(model.lineage, sort_keys=True),
    }
