"""Every Python block of the README and of the guides runs, and its promises hold."""

from __future__ import annotations

import difflib
import functools
import re
import sys
import types
from pathlib import Path

import pytest

import mutandis as mu
from mutandis.testing import AlgorithmContract

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


GUIDES = sorted((ROOT / "docs").glob("*.md"))


@functools.cache
def run_block(block):
    """Runs a block as a module of its own, and returns its names."""
    module = types.ModuleType(f"readme_{BLOCKS.index(block) if block in BLOCKS else 'part'}")
    sys.modules[module.__name__] = module
    exec(compile(block, "README.md", "exec"), module.__dict__)
    return module.__dict__


@pytest.mark.parametrize("number", range(len(BLOCKS) - 1))
def test_a_block_runs_on_its_own(number, capsys):
    run_block(BLOCKS[number])


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_from_its_first_line_to_its_last(guide, capsys):
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    assert blocks
    run_block("\n".join(blocks))


def test_the_idea_is_a_twelve_line_program_in_the_first_twenty_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) == 12
    assert README.splitlines().index("```python") + len(BLOCKS[0].splitlines()) < 20


def test_the_first_program_finds_what_it_looks_for():
    program = run_block(BLOCKS[0].split("for child")[0])["program"]
    loop = mu.sample(program, mu.algorithms.RegularizedEvolution(10, 3), trials=50)
    for child, feedback in loop:
        feedback(child.score())
    best = loop.study.best.child()
    assert best.model.out_features == 32
    assert 0.001 < best.lr < 0.1


def test_the_shown_difference_is_the_real_one():
    before, after = ((ROOT / "examples" / name).read_text().splitlines()
                     for name in ("existing_code_before.py", "existing_code.py"))  # fmt: skip
    real = [line for line in list(difflib.unified_diff(before, after, lineterm="", n=0))[2:] if line[0] in "+-"]
    shown = re.search(r"```diff\n(.*?)```", README, re.DOTALL).group(1).splitlines()
    assert [line for line in shown if line[0] in "+-"] == real


class TestTheAlgorithmOfTheReadme(AlgorithmContract):
    algorithm = run_block(next(block for block in BLOCKS if "class Greedy(" in block))["Greedy"]()
    test_proposals_are_the_same_in_another_process = None  # A block of text cannot be imported there.


def test_the_shown_error_is_the_real_one():
    from torch import nn

    with pytest.raises(mu.errors.MutandisError) as error:
        nn.Conv2d(3, mu.oneof([16, 32]), 3)
    shown = re.search(r"```\n(cannot .*?)```", README, re.DOTALL).group(1)
    assert str(error.value) == shown.rstrip()


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES], ids=lambda path: path.stem)
def test_a_link_leads_to_a_file(page):
    links = set(re.findall(r"\]\(([^)#]+)\)", page.read_text()))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
