"""Card: what the dataset holds and how it came to be, as `card.html` (self-contained) and `card.json`."""

import json
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pipeline.card.examples import example_pairs
from pipeline.card.facts import curve, gather
from pipeline.card.plots import curve_svg
from pipeline.columnar.stage import Job
from pipeline.recipe import CardSettings
from schemas.atomic import atomic_write, sha256_of
from schemas.manifest import MANIFEST_NAME, DatasetManifest

HTML = "card.html"
JSON = "card.json"
_CHARTS = (
    ("Text sources", "text_sources"),
    ("Languages", "languages"),
    ("Text length in characters", "text_length"),
    ("Short side in pixels", "short_side"),
    ("Hosts", "hosts"),
    ("Formats as served", "formats"),
    ("Licences stated", "licenses"),
)


def run(job: Job, settings: CardSettings, dataset: Path) -> bool:
    """Writes the card of a dataset folder unless it is there for this very manifest; returns whether it did."""
    manifest = DatasetManifest.load(dataset)
    identity = {"manifest": sha256_of(dataset / MANIFEST_NAME), "card": settings.model_dump(mode="json")}
    if _identity_of(dataset) == identity and (dataset / HTML).exists():
        return False
    with job.console.status("Writing the card"):
        facts = gather(dataset, manifest)
        atomic_write(dataset / HTML, render(dataset, manifest, facts, settings))
        # The JSON goes last: it says which manifest the page was made of.
        card = json.dumps({"made_of": identity, **facts}, indent=1, ensure_ascii=False)
        atomic_write(dataset / JSON, card + "\n")
    return True


def render(dataset: Path, manifest: DatasetManifest, facts: dict[str, Any], settings: CardSettings) -> str:
    """The page of a dataset card."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.card", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    curves = curve(dataset)
    # What t came to, where the recipe asked for a number of pairs or a share instead.
    cap = manifest.notes.get("select", {}).get("cap") or manifest.recipe.get("select", {}).get("cap")
    return environment.get_template("card.html.j2").render(
        facts=facts,
        description=manifest.description,
        curve=curve_svg(curves, cap) if curves else None,
        charts=[(title, facts[key]) for title, key in _CHARTS if facts[key]],
        examples={s: example_pairs(dataset, manifest, s, settings.examples) for s in manifest.splits()},
        recipe_yaml=yaml.safe_dump({"name": manifest.name, **manifest.recipe}, sort_keys=False, allow_unicode=True),
    )


def _identity_of(dataset: Path) -> Any:
    try:
        return json.loads((dataset / JSON).read_text()).get("made_of")
    except (FileNotFoundError, ValueError):
        return None
