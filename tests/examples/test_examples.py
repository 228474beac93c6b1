"""Every example runs at its smallest size, as a user would run it."""

from __future__ import annotations

import difflib
import importlib.util
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tables import SIZE, needs_size

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALLEST = {
    "prune_resnet.py": [
        "--epochs",
        "1",
        "--final-epochs",
        "1",
        "--runs",
        "1",
        "--train-size",
        "200",
        "--depth",
        "8",
        "--base",
        "4",
    ],
    "paper_table.py": ["--trials", "2", "--epochs", "1", "--shared-epochs", "1", "--runs", "1", "--train-size", "150"],
    "one_shot_fashion.py": ["--epochs", "1", "--final-epochs", "1", "--runs", "1", "--train-size", "200"],
    "hello.py": ["--trials", "3"],
    "existing_code_before.py": ["--epochs", "1", "--width", "4"],
    "existing_code.py": ["--epochs", "1", "--trials", "2"],
    "nats.py": ["--trials", "3"],
    "fcnet.py": ["--trials", "3"],
    "fashion_mnist.py": ["--trials", "3", "--epochs", "1", "--runs", "1", "--train-size", "200"],
}


def run(name, *arguments, cwd=None):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, cwd=cwd, env=environment,
        check=False,
    )  # fmt: skip


def lines(name):
    return (EXAMPLES / name).read_text().splitlines()


def changed(before, after):
    """Returns the lines that a diff shows, blank ones aside."""
    found = difflib.unified_diff(before, after, lineterm="", n=0)
    return [line for line in list(found)[2:] if line[0] in "+-" and line[1:].strip()]


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALLEST)


@pytest.mark.parametrize("name", SMALLEST)
def test_an_example_runs(name, tmp_path):
    result = run(name, *SMALLEST[name], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("name", [name for name in SMALLEST if name != "existing_code_before.py"])
def test_an_example_imports_nothing_of_the_package_but_its_top(name):
    imports = [line for line in lines(name) if "mutandis" in line and line.lstrip().startswith(("import", "from"))]
    assert imports == ["import mutandis as mu"]


def test_at_most_ten_lines_make_an_existing_script_searchable():
    assert 0 < len(changed(lines("existing_code_before.py"), lines("existing_code.py"))) <= 10


def test_another_algorithm_is_another_line(tmp_path):
    script = (EXAMPLES / "existing_code.py").read_text()
    swapped = script.replace("mu.algorithms.RegularizedEvolution(10, 3)", "mu.algorithms.Random()")
    assert len(changed(script.splitlines(), swapped.splitlines())) == 2  # One line: taken out, put in.
    (tmp_path / "swapped.py").write_text(swapped)
    result = run(tmp_path / "swapped.py", "--epochs", "1", "--trials", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("accuracy 0.")


def test_the_search_prints_both_programs_and_draws_its_curve(tmp_path):
    result = run("fashion_mnist.py", *SMALLEST["fashion_mnist.py"], "--algorithm", "HillClimb", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "The five best programs" in result.stdout
    assert "hand-written default" in result.stdout
    assert "best found (trial" in result.stdout
    assert (tmp_path / "search_curve.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_the_table_are_a_few_lines_apart():
    """A new space takes seven lines, another algorithm one, and the two spaces together one more."""
    spec = importlib.util.spec_from_file_location("paper_table", EXAMPLES / "paper_table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert [table.lines_changed(row) for row in table.ROWS] == [(0, 0), (7, 1), (1, 1), (1, 1), (7, 1), (1, 0)]


def idx(array_shape, values):
    return struct.pack(f">BBBB{len(array_shape)}I", 0, 0, 8, len(array_shape), *array_shape) + bytes(values)


@pytest.fixture
def folder(tmp_path):
    """Two dozen tiny images in torchvision's layout."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 5)):
        pixels = [(7 * i) % 251 for i in range(count * 64)]
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx((count, 8, 8), pixels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx((count,), [i % 10 for i in range(count)]))
    return tmp_path


def test_the_search_reads_idx_files(folder, tmp_path):
    result = run(
        "fashion_mnist.py", "--data", str(folder), "--trials", "2", "--epochs", "1", "--runs", "1", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "best found (trial" in result.stdout


def test_a_folder_without_data_is_refused_by_name(tmp_path):
    result = run("fashion_mnist.py", "--data", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 1
    assert "no file train-images-idx3-ubyte or train-images-idx3-ubyte.gz below" in result.stderr


@needs_size
def test_the_size_space_is_searched_too(tmp_path):
    result = run("nats.py", "--space", "size", "--table", str(SIZE), "--epochs", "90", "--trials", "4", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "of 32,768" in result.stdout


def test_a_fidelity_that_was_not_measured_is_refused_in_words(tmp_path):
    result = run("nats.py", "--epochs", "7", "--trials", "1", cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot look up valid results after 7 epochs" in result.stderr
    assert "Traceback" not in result.stderr
