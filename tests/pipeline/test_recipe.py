"""Recipes: the ones that users copy are valid; steps are named, joined by kind, and refused in one sentence."""

from pathlib import Path

import pytest
import yaml

from openwit.pipeline.recipe import Recipe, load_recipe
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.step import Step
from openwit.schemas.common.errors import RecipeError

RECIPES = sorted((Path(__file__).parents[2] / "workflows").rglob("*.yaml"))

QUERIES = {"queries": {"tables": ["q.txt"]}}
CANDIDATES = {"candidates": {"inputs": ["a.parquet"]}}
CHAIN = [QUERIES, CANDIDATES, {"select": {"cap": 5}}, "fetch", "dedup", {"shard": {"samples": 7}}, {"card": None}]


# The trainer's files.
OTHERS = ("train", "suite", "experiment")


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if not p.name.startswith(OTHERS)], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_recipes_of_workflows_load(path):
    assert load_recipe(path, []).name


def parse(*steps, overrides=(), **further):
    return Recipe.parse({"name": "r", "steps": list(steps), **further}, "r.yaml", overrides)


def test_the_standard_chain_is_the_one_written_out():
    queries, candidates = QuerySettings(tables=["q.txt"]), CandidateSettings(inputs=["a.parquet"])
    standard = Recipe.standard(name="r", queries=queries, candidates=candidates)
    assert standard == parse(QUERIES, CANDIDATES, "select", "fetch", "dedup", "shard", "card")
    again = Recipe.standard(name="r", queries=queries, candidates=candidates, select=SelectSettings(oversample=1.5))
    assert [step.name for step in again.steps][-4:] == ["dedup", "redraw", "shard", "card"]
    assert again.sources_of(again.step("shard")) == {"survivors": ["redraw"]}


def test_a_recipe_is_read_back_from_what_it_writes():
    recipe = parse(
        QUERIES,
        {"stage": "candidates", "name": "old", "settings": {"inputs": ["a.parquet"]}},
        {"stage": "candidates", "name": "new", "settings": {"inputs": ["b.parquet"]}},
        {"stage": "select", "from": {"candidates": ["old", "new"]}, "settings": {"cap": 5}},
        description="a pool of two",
    )
    assert recipe.sources_of(recipe.step("select")) == {"candidates": ["old", "new"], "queries": ["queries"]}
    assert Recipe.parse(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe
    nearest = parse(QUERIES, *({"stage": "candidates", "name": n, **_INPUTS} for n in ("old", "new")), "select")
    assert nearest.sources_of(nearest.step("select"))["candidates"] == ["new"]


_INPUTS = {"settings": {"inputs": ["a.parquet"]}}


def test_steps_in_python_are_checked_as_those_of_a_file():
    assert Step("select").settings == SelectSettings()
    with pytest.raises(RecipeError, match="step select: settings must be SelectSettings, got QuerySettings"):
        Step("select", QuerySettings(tables=["q.txt"]))
    with pytest.raises(RecipeError, match="the recipe has no steps"):
        Recipe(name="r", steps=[])


@pytest.mark.parametrize(
    ("steps", "ran"),
    [
        ([CANDIDATES, "fetch", "shard"], "candidates +select fetch +dedup shard"),
        (
            [QUERIES, CANDIDATES, "fetch", "dedup", "shard", "card"],
            "queries candidates +select fetch dedup shard card",
        ),
        ([CANDIDATES, "shard"], "candidates +select +fetch +dedup shard"),
        ([CANDIDATES, {"select": "all"}, {"dedup": "keep"}, "shard"], "candidates select +fetch dedup shard"),
        ([CANDIDATES, {"stage": "shard", "name": "dedup"}], "candidates +select +fetch +dedup-2 dedup"),
        (CHAIN, "queries candidates select fetch dedup shard card"),
    ],
)
def test_steps_that_are_left_out_pass_everything_on(steps, ran):
    recipe = parse(*steps)
    named = [f"{'+' * (step.name in recipe.inserted)}{step.name}" for step in recipe.steps]
    assert " ".join(named) == ran
    assert len(recipe.notes()) == ran.count("+")
    for step in recipe.steps:
        if step.name in recipe.inserted:
            assert (step.settings.model_dump().items()) >= step.load().neutral.items()
    again = Recipe.parse(yaml.safe_load(yaml.safe_dump(recipe.to_dict())))
    assert (again, again.inserted) == (recipe, ())


def test_an_inserted_selection_takes_every_pool_and_the_queries_that_are_there():
    pools = [{"stage": "candidates", "name": name, **_INPUTS} for name in ("old", "new")]
    recipe = parse(QUERIES, *pools, "fetch")
    assert recipe.sources_of(recipe.step("select")) == {"candidates": ["old", "new"], "queries": ["queries"]}
    assert recipe.notes() == [
        "The recipe has no step select: added `select: {balance: all}` (every pair is kept, once)."
    ]
    chosen = parse(CANDIDATES, {"select": "all"}, overrides=["select.seed=3"]).step("select").settings
    assert chosen == SelectSettings(balance="all", seed=3)
    assert Step("dedup", "keep").settings == Step("dedup", {"duplicates": "keep", "plain": "keep"}).settings
    assert Step("dedup", {"duplicates": "keep", "plain": "drop"}).settings.plain == "drop"


def test_set_addresses_a_step_by_its_name():
    long = {"stage": "select", "name": "draw.one", "settings": {"cap": 5}}
    overrides = ["draw.one.cap=9", "name=other", "description=new", "queries.bigrams=null"]
    recipe = parse(QUERIES, CANDIDATES, long, overrides=overrides)
    assert (recipe.name, recipe.description) == ("other", "new")
    assert recipe.step("draw.one").settings == SelectSettings(cap=9)
    assert recipe.step("queries").settings.bigrams is None
    raw = {"name": "r", "steps": [QUERIES]}
    Recipe.parse(raw, overrides=["queries.bigrams.top=3"])
    assert raw == {"name": "r", "steps": [{"queries": {"tables": ["q.txt"]}}]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selct.cap=3", r"override 'selct.cap=3': no step is named 'selct'; did you mean 'select'\?"),
        ("cap=3", r"override 'cap=3' must look like STEP.key=value"),
        ("select.cap", r"override 'select.cap' must look like STEP.key=value"),
        ("select.cap=0", r"key 'select.cap': "),
        ("fetch.size=3", r"unknown key 'fetch.size'; did you mean 'fetch.image.size'\?"),
        ("fetch.download.size=3", r"unknown key 'fetch.download.size'; did you mean 'fetch.image.size'\?"),
        ("select.capp=3", r"unknown key 'select.capp'; did you mean 'cap'\?"),
        ("select.cap.deep=3", r"setting 'select.cap.deep=3': 'cap' holds a value, not settings"),
    ],
)
def test_a_wrong_override_is_refused_in_a_sentence(override, message):
    with pytest.raises(RecipeError, match=message) as raised:
        parse(*CHAIN, overrides=[override])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([QUERIES, QUERIES], "two steps are named 'queries'"),
        (
            [QUERIES, "select"],
            r"step select: no earlier step writes candidates .*; add `- candidates: \{…\}` before it",
        ),
        ([QUERIES, "shard"], r"step shard: no earlier step writes survivors .*; add `- dedup: \{…\}` before it"),
        ([CANDIDATES, "select"], r"step select: no earlier step writes queries .*; add `- queries: \{…\}` before it"),
        (
            [CANDIDATES, {"select": "everything"}],
            "step select: its settings must be key: value, or 'all', got 'every",
        ),
        ([CANDIDATES, {"fetch": "all"}], "step fetch: its settings must be key: value, got 'all'"),
        (
            [CANDIDATES, {"select": "all"}, "fetch", "dedup", "redraw"],
            "step select: balance is all, .* leave out `redraw`",
        ),
        (
            [CANDIDATES, {"select": {"balance": "all", "oversample": 2, "target_pairs": 9}}],
            "balance is all, which keeps every pair: leave out target_pairs and oversample",
        ),
        (["select", QUERIES, CANDIDATES], "step select: no earlier step writes candidates"),
        ([QUERIES, "canddates"], r"step 2: unknown stage 'canddates'; did you mean 'candidates'\?"),
        ([{"stage": "nowhere.at.All"}], "step 1: .*nowhere"),
        (
            [*CHAIN[:2], {"stage": "select", "from": {"candidates": "fetch"}}, "fetch"],
            "'fetch', which does not run before",
        ),
        (
            [*CHAIN[:2], {"stage": "select", "from": {"candidates": "cand"}}],
            "`from` names 'cand', but no step has this name",
        ),
        (
            [*CHAIN[:2], {"stage": "select", "from": {"candidates": "queries"}}],
            "takes candidates, but step 'queries' writes",
        ),
        (
            [*CHAIN[:2], {"stage": "select", "from": {"pool": "queries"}}],
            "stage select has no input 'pool'; it has: cand",
        ),
        (
            [{"queries": {}, "candidates": {}}],
            "step 1 has the keys 'queries', 'candidates': begin each step with a dash",
        ),
        ([{"stage": "queries", "setings": {}}], r"step 1: unknown key 'setings'; did you mean 'settings'\?"),
        ([{"queries": 3}], "step queries: its settings must be key: value, got 3"),
        ([{"stage": "queries", "name": "a b", "settings": QUERIES["queries"]}], "'a b' is not a name for a step"),
        ([{"stage": "queries", "name": "steps", "settings": QUERIES["queries"]}], "a step cannot be named 'steps'"),
        ([{"queries": {"tables": []}}], "queries: name at least one source of queries"),
        ([*CHAIN[:5], "shard", {"stage": "shard", "name": "again"}], "steps shard and again both write the dataset"),
        (
            [QUERIES, CANDIDATES, {"select": {"oversample": 1.2}}, *CHAIN[3:]],
            r"step select: oversample is 1.2, .*: add `- redraw: \{\}` after dedup",
        ),
    ],
)
def test_steps_that_do_not_fit_are_refused_in_a_sentence(steps, message):
    with pytest.raises(RecipeError, match=message) as raised:
        parse(*steps)
    assert str(raised.value).startswith("r.yaml: ")
    assert "\n" not in str(raised.value)


def test_the_layout_of_earlier_releases_is_refused_with_the_new_one():
    with pytest.raises(RecipeError, match=r"'queries' is at the top level, .* under `steps:`, as `- queries: \{…\}`"):
        Recipe.parse({"name": "r", **QUERIES, **CANDIDATES}, "r.yaml")
    with pytest.raises(RecipeError, match=r"r.yaml: unknown key 'step'; did you mean 'steps'\?"):
        Recipe.parse({"name": "r", "step": []}, "r.yaml")
    with pytest.raises(RecipeError, match="key 'name' is missing"):
        Recipe.parse({"steps": CHAIN}, "r.yaml")
    with pytest.raises(RecipeError, match="key 'steps' must hold a list"):
        Recipe.parse({"name": "r", "steps": QUERIES}, "r.yaml")


@pytest.mark.parametrize("match", ["words", "metaclip"])
def test_the_way_of_matching_is_one_for_the_list_and_its_selection(match):
    recipe = parse(QUERIES, CANDIDATES, {"select": {"match": match}}, "fetch", "dedup", "shard")
    assert recipe.step("queries").settings.match == match
    assert Recipe.parse(recipe.to_dict()) == recipe
    assert parse(QUERIES).step("queries").settings.match is None
    other = "words" if match == "metaclip" else "metaclip"
    listed = {"queries": {"tables": ["q.txt"], "match": other}}
    with pytest.raises(RecipeError, match=f"step select: match is '{match}', but '{other}' in step queries"):
        parse(listed, CANDIDATES, {"select": {"match": match}})
