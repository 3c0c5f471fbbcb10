"""Show how to rebuild the dataset: its recipe as a file, the commands, and how to cite and attribute it."""

from typing import Any

import yaml

from openwit.pipeline.stages import stage_named
from openwit.pipeline.stages.base import Kind
from openwit.pipeline.stages.card import Card
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.samples import SAMPLES

ATTRIBUTION_COLUMNS = ("url", "page_urls", "licenses", "archives", "record_offsets", "sha256")


def recipe_yaml(manifest: DatasetManifest) -> tuple[str, bool]:
    """Return the recipe as `wit build` reads it, and whether it does: stages run by hand may lack some keys."""
    steps: list[dict[str, Any]] = []
    for name, settings in manifest.recipe.items():
        further = manifest.steps.get(name)
        steps.append({**further, "settings": settings} if further else {name: settings})
    recipe = {"name": manifest.name, "description": manifest.description, "steps": [*steps, {Card.name: {}}]}
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), _is_whole(manifest)


def _is_whole(manifest: DatasetManifest) -> bool:
    """Whether every step has its inputs from earlier ones, and settings that its stage takes."""
    written: set[Kind] = set()
    try:
        stages = [stage_named(manifest.steps.get(name, {}).get("stage", name)) for name in manifest.recipe]
        for number, (name, settings) in enumerate(manifest.recipe.items()):
            stage = stages[number]
            parsed = parse_settings(settings, stage.settings, name)
            if any(port.kind not in written for port in stage.inputs if stage.needs(parsed, port)):
                return False
            if stage.problem(parsed, stages[number + 1 :]):
                return False
            written.add(stage.output)
    except RecipeError:
        return False
    return Card.inputs[0].kind in written


def citation(manifest: DatasetManifest, manifest_sum: str) -> str:
    """Return a BibTeX entry; the checksum identifies the exact bytes. It has no date: the build records none."""
    key = "".join(c for c in manifest.name if c.isalnum()) or "dataset"
    pairs = sum(shard.pairs for shard in manifest.shards)
    samples = sum(shard.samples for shard in manifest.shards)
    version = manifest.tools.get("openwit", "")
    return (
        f"@misc{{{key},\n"
        f"  title = {{{manifest.name}}},\n"
        f"  note = {{{samples:,} images with {pairs:,} texts, built with OpenWIT {version}.\n"
        f"          sha256 of manifest.json: {manifest_sum}}}\n"
        "}"
    )


def attribution_columns() -> list[dict[str, str]]:
    """Return the columns of a sample's metadata that state where it comes from, with their meanings."""
    comments = {column.name: column.comment for column in SAMPLES.columns}
    return [{"column": name, "comment": comments[name]} for name in ATTRIBUTION_COLUMNS]


def attribution(sample: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return a credit line for a sample, as (words, URL to link or None) parts."""
    parts: list[tuple[str, str | None]] = [(f"“{sample['text']}”, image from ", None), (sample["url"], sample["url"])]
    if sample["page_url"]:
        parts += [(", found on ", None), (sample["page_url"], sample["page_url"])]
    if sample["license"]:
        parts += [(", licence stated: ", None), (sample["license"], sample["license"])]
    else:
        parts.append((", no licence stated", None))
    return parts
