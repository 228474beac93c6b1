"""The layout of the package: every module has its test, and the public names are a decision."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mutandis as mu

ROOT = Path(__file__).parents[1]
TESTS_OF_MORE_THAN_ONE_MODULE = {
    "algorithms/test_behaviour.py",
    "algorithms/test_contract.py",
    "benchmarks/test_bench_foundation.py",
    "benchmarks/test_executors.py",
    "benchmarks/test_replication.py",
    "benchmarks/test_supernet.py",
    "benchmarks/test_hpo.py",
    "benchmarks/test_nats.py",
    "benchmarks/test_multifidelity.py",
    "errors/test_messages.py",
    "examples/test_examples.py",
    "flows/test_scheduling.py",
    "flows/test_trials_on_shared_weights.py",
    "flows/test_searches_together.py",
    "flows/test_stores_in_trouble.py",
    "integration/test_supernet.py",
    "integration/test_torch.py",
    "properties/test_properties.py",
    "test_layout.py",
    "test_readme.py",
}
NOT_DECIDED = {"TYPE_CHECKING", "Any", "algorithms", "annotations", "cli", "errors", "flows", "hyper", "importlib",
               "integrations", "models", "plots", "progress", "symbolic", "testing"}  # fmt: skip


def public_names():
    """Returns the stored public names by module."""
    lines = (Path(__file__).parent / "public_names.txt").read_text().replace("\n    ", " ").splitlines()
    return {module: names.split() for module, names in (line.split(":") for line in lines)}


PUBLIC = public_names()
TOP_LEVEL = PUBLIC.pop("mutandis")


def modules():
    return {path.relative_to(ROOT / "mutandis") for path in (ROOT / "mutandis").rglob("*.py")}


def test_every_module_with_code_has_its_test():
    without = [path for path in modules() if path.name != "__init__.py"
               and not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()]  # fmt: skip
    assert without == []


def test_every_test_belongs_to_a_module():
    mirrored = {str(path.parent / f"test_{path.name}") for path in modules()}
    found = {str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")}
    assert found - mirrored <= TESTS_OF_MORE_THAN_ONE_MODULE


@pytest.mark.parametrize("room", [path.parent for path in sorted(modules()) if path.name == "__init__.py"], ids=str)
def test_a_room_has_at_most_fifteen_files(room):
    files = [path for path in (ROOT / "mutandis" / room).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 15


def test_the_top_level_has_the_names_that_were_decided_on():
    assert len(TOP_LEVEL) <= 40
    assert sorted(name for name in dir(mu) if not name.startswith("_") and name not in NOT_DECIDED) == TOP_LEVEL


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_top_level_name_leads_to_something_documented(name):
    assert getattr(mu, name).__doc__


@pytest.mark.parametrize("name", PUBLIC)
def test_a_room_has_the_names_that_were_decided_on(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    assert all(getattr(module, public).__doc__ for public in module.__all__)


def test_a_wrong_name_suggests_the_right_one():
    with pytest.raises(AttributeError, match=r"no attribute 'floatvs'; did you mean 'floatv' or 'plots' or 'flows'\?"):
        _ = mu.floatvs


def test_importing_the_package_loads_neither_torch_nor_the_optional_packages():
    heavy = "torch torchvision numpy sklearn matplotlib pandas rich"
    code = f"import sys, mutandis; print([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_spaces_and_algorithms_run_without_torch():
    code = (
        "import sys, mutandis as mu; loop = mu.sample({'x': mu.oneof([1, 2])}, mu.algorithms.Random(), trials=3)\n"
        "for child, feedback in loop: feedback(child['x'])\n"
        "print(len(loop.study), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]
