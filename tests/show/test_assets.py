"""Modules laid together from their parts: whole, each part once, no name twice."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from vizlib.show.assets import asset, module, packed

PARTS = sorted(path.name for path in files("vizlib.show").joinpath("web").iterdir() if path.name.endswith(".js"))
NAMED = re.compile(r"^(?:export )?(?:const|let|function|class) (\w+)", re.MULTILINE)
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";', re.MULTILINE)


@pytest.mark.parametrize("part", PARTS)
def test_a_module_is_whole_and_has_no_name_twice(part):
    text = module(part)
    assert not re.findall(r"^import\b", text, re.MULTILINE)
    names = NAMED.findall(text)
    assert len(names) == len(set(names))
    assert len(re.findall(r"^export default", text, re.MULTILINE)) <= 1


@pytest.mark.parametrize("part", PARTS)
def test_what_is_imported_is_exported_and_used(part):
    text = asset(part)
    body = IMPORT.sub("", text)
    for names, source in IMPORT.findall(text):
        offered = set(re.findall(r"^export (?:const|function|class) (\w+)", asset(source), re.MULTILINE))
        wanted = {name.strip() for name in names.split(",") if name.strip()}
        assert wanted <= offered
        assert {name for name in wanted if not re.search(rf"\b{name}\b", body)} == set()


def test_a_state_cannot_end_its_script_element():
    assert packed({"name": "</script>", "raw": b"\x00\xff"}) == '{"name": "\\u003c/script>", "raw": "AP8="}'
