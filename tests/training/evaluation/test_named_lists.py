import json
from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.training.evaluation.class_names import read_class_names
from openwit.training.evaluation.prompts import NAMED, filled, read_prompts

LISTS = {"cifar10": ["airplane", "automobile"], "fgvc_aircraft": ["707-320", "A330-200"]}
TEMPLATES = {"cifar10": ["a photo of a {c}.", "a {c}"], "imagenet1k": ["art of {c}"]}
METADATA = """
OPENAI_IMAGENET_TEMPLATES = (
    lambda c: f'a bad photo of a {c}.',
    lambda c: f'a photo of many {c}.',
)
SIMPLE_IMAGENET_TEMPLATES = (lambda c: f'itap of a {c}.',)
IMAGENET_CLASSNAMES = ("tench", "goldfish")
"""
PROMPTS_MD = """# Prompts
## CIFAR10

```bash
classes = [
    'airplane',
    'automobile',
]

templates = [
    'a photo of a {}.',
]
```

## FGVCAircraft

```bash
classes = ['707-320', 'A330-200']
templates = ['a photo of a {}, a type of aircraft.']
```
"""


def test_clip_benchmarks_files_hold_a_list_for_each_dataset(tmp_path: Path) -> None:
    names, templates = tmp_path / "en_classnames.json", tmp_path / "en_templates.json"
    names.write_text(json.dumps(LISTS))
    templates.write_text(json.dumps(TEMPLATES))
    assert read_class_names(names, ["FGVC-Aircraft", "aircraft"]) == ["707-320", "A330-200"]
    assert read_class_names(tmp_path / "en_classnames.json#cifar10") == ["airplane", "automobile"]
    assert read_prompts(str(templates), ["cifar10"]) == tuple(TEMPLATES["cifar10"])
    assert read_prompts(f"{templates}#imagenet1k") == ("art of {c}",)
    with pytest.raises(OpenWITError, match=r"holds 2 lists by name \(cifar10, fgvc_aircraft\).*json#cifar10"):
        read_class_names(names, ["mnist"])
    with pytest.raises(OpenWITError, match="has no list mnist of classes"):
        read_class_names(tmp_path / "en_classnames.json#mnist")
    names.write_text(json.dumps({"a": {"cat": ["one"]}, "b": ["x"]}))
    with pytest.raises(OpenWITError, match="templates for each class of its own"):
        read_prompts(f"{names}#a")
    with pytest.raises(OpenWITError, match="no file of class names"):
        read_class_names(tmp_path / "none.json#a")


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "lists.yaml"
    path.write_text("cifar10: [airplane, automobile]\nmnist:\n  - 0\n  - 1\n")
    assert read_class_names(path, ["mnist"]) == ["0", "1"]
    path.write_text("- cat\n- 'dog: brown'\n")
    assert read_class_names(path) == ["cat", "dog: brown"]
    path.write_text("1: dog\n0: cat\n")
    assert read_class_names(path) == ["cat", "dog"]
    path.write_text("- a photo of a {label}.\n- '{} in snow'\n")
    assert [filled(each, "x") for each in read_prompts(str(path))] == ["a photo of a x.", "x in snow"]
    for content, message in [
        ("- [", "no valid YAML"),
        ("just words", "neither a list of texts"),
        ("1: dog\n2: cat\n", "not from 0 without gaps"),
        ("- yes\n- no\n", "entry 1 is True, not a text"),
        ("a: []\n", "holds no list of texts"),
    ]:
        path.write_text(content)
        with pytest.raises(OpenWITError, match=message):
            read_class_names(path)


def test_open_clips_module(tmp_path: Path) -> None:
    path = tmp_path / "zero_shot_metadata.py"
    path.write_text(METADATA)
    assert read_class_names(path) == ["tench", "goldfish"]
    assert read_prompts(f"{path}#simple_imagenet_templates") == ("itap of a {c}.",)
    with pytest.raises(OpenWITError, match="holds 2 lists by name"):
        read_prompts(str(path))


def test_openais_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.md"
    path.write_text(PROMPTS_MD)
    assert read_class_names(path, ["cifar10"]) == ["airplane", "automobile"]
    assert read_prompts(f"{path}#FGVCAircraft") == ("a photo of a {}, a type of aircraft.",)
    with pytest.raises(OpenWITError, match="holds 2 lists by name .CIFAR10, FGVCAircraft."):
        read_prompts(str(path))


def test_sets_by_domain_are_whole_sentences() -> None:
    assert {"photo", "texture", "satellite", "digit", "action", "food", "pet", "geo", "ocr", "sketch"} <= set(NAMED)
    for name, templates in NAMED.items():
        assert len(set(templates)) == len(templates), name
        assert all(filled(template, "QQ").count("QQ") == 1 for template in templates), name
