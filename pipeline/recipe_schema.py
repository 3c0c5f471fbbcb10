"""Describe recipes as JSON Schema, with which editors complete and check a recipe while it is written."""

from typing import Any

import pydantic.json_schema

from openwit.pipeline.inputs.settings import SOURCES
from openwit.pipeline.stages import all_stages
from openwit.pipeline.stages.base import Stage
from openwit.pipeline.step import NAME

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe: the settings of every registered stage, in both forms of a step.

    A step of your own stage, named by its dotted name, may hold any settings.
    """
    stages = all_stages()
    models = [*(stage.settings for stage in stages), *SOURCES.values()]
    references, schema = pydantic.json_schema.models_json_schema([(model, "validation") for model in models])
    sources = {name: references[model, "validation"] for name, model in SOURCES.items()}
    settings = {stage.name: _settings(references[stage.settings, "validation"], stage) for stage in stages}
    return {
        "$schema": _DIALECT,
        "title": "OpenWIT recipe",
        "type": "object",
        "required": ["name", "steps"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "name of the dataset"},
            "description": {"type": "string", "description": "of the dataset, for its card"},
            "inputs": {"type": "array", "items": {"anyOf": _sources(sources)}, "description": "for `wit inputs`"},
            "steps": {"type": "array", "minItems": 1, "items": {"anyOf": _steps(settings)}},
        },
        "$defs": schema["$defs"],
    }


def _sources(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the forms of a source of inputs: name only, and `source: settings`."""
    properties = {name: {"anyOf": [found, {"type": "null"}]} for name, found in settings.items()}
    entry = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": properties,
    }
    return [{"enum": list(settings)}, entry]


def _settings(reference: Any, stage: Stage[Any]) -> dict[str, Any]:
    """Return the forms of a step's settings: keys and values, nothing, or a word that stands for some."""
    words = [{"enum": list(stage.shorthands)}] if stage.shorthands else []
    return {"anyOf": [reference, {"type": "null"}, *words]}


def _steps(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the forms of a step: name only, `stage: settings`, and with the key `stage`."""
    names = list(settings)
    own = {"type": "string", "pattern": r"[.:]", "description": "dotted name of your own stage"}
    short = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": settings,
        "patternProperties": {r"[.:]": {"type": ["object", "null"]}},
    }
    source = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    further = {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "of the step and its folder"},
        "from": {"type": "object", "additionalProperties": source, "description": "input: step or steps"},
    }
    long = [
        {
            "type": "object",
            "required": ["stage"],
            "additionalProperties": False,
            "properties": {"stage": stage, "settings": found, **further},
        }
        for stage, found in [
            *(({"const": name}, found) for name, found in settings.items()),
            (own, {"type": ["object", "null"]}),
        ]
    ]
    return [{"enum": names}, short, *long]
