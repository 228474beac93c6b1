"""What people are told of a run."""

from __future__ import annotations

import sys
import warnings

import pytest

from mutandis.errors import MissingDependency, MutandisWarning
from mutandis.flows.oneshot.logbook import Logbook, scalars, summary
from mutandis.flows.oneshot.result import Epoch


def epoch(number=1, share=None, **changes):
    fields = {"number": number, "loss": 1.5, "outcome": None, "learning_rate": 0.1, "num_skipped": 0,
              "entropy": {"a": 0.5, "b": 1.5}, "likeliest": {"a": "conv", "b": 3}, "free_share": share,
              "seconds": 1.0, **changes}  # fmt: skip
    return Epoch(**fields)


class Writer:
    def __init__(self):
        self.seen, self.is_closed = [], False

    def add_scalar(self, name, value, step):
        self.seen.append((name, value, step))

    def close(self):
        self.is_closed = True


def logbook(**changes):
    return Logbook(8, 4, **{"collapse": 0.8, "progress": False, "tensorboard": None, **changes})


def test_the_summary_is_short():
    assert summary(epoch()) == "entropy 1.00  best conv 3"
    many = {f"d{i}": i for i in range(9)}
    assert summary(epoch(likeliest=many)).endswith("best 0 1 2 3 4 5 (+3)")
    assert summary(epoch(likeliest={}, entropy={})) == ""


def test_the_numbers_of_an_epoch_have_names():
    assert scalars(epoch(share=0.5)) == {"loss": 1.5, "learning_rate": 0.1, "free_share": 0.5, "entropy/a": 0.5,
                                         "entropy/b": 1.5}  # fmt: skip


def test_a_collapse_late_in_the_run_is_warned_about_once():
    book = logbook()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        book.epoch(epoch(1, 1.0))
        assert not caught  # Early in the run the policy knows nothing yet.
        book.epoch(epoch(2, 0.8))
        book.epoch(epoch(3, 1.0))
    assert [w.category for w in caught] == [MutandisWarning]
    assert str(caught[0].message) == (
        "the likeliest architecture after epoch 2 takes candidates without weights (such as skip connections) at 80% "
        "of the choices: a known failure of relaxed search; stop earlier, or compare with an algorithm that trains "
        "single paths, such as RSPS()"
    )


def test_a_share_below_the_limit_is_no_collapse():
    book = logbook()
    for number in range(1, 5):
        book.epoch(epoch(number, 0.79))


def test_a_writer_gets_every_number_and_stays_open():
    writer = Writer()
    book = logbook(tensorboard=writer)
    book.epoch(epoch(2, outcome=0.25))
    book.close()
    assert ("outcome", 0.25, 2) in writer.seen and ("entropy/b", 1.5, 2) in writer.seen
    assert not writer.is_closed


def test_a_writer_that_takes_text_gets_the_likeliest_architecture():
    class Full(Writer):
        def add_text(self, name, text, step):
            self.seen.append((name, text, step))

    writer = Full()
    book = logbook(tensorboard=writer)
    book.epoch(epoch(2))
    book.epoch(epoch(3, likeliest={}))
    assert ("likeliest", "a: conv  \nb: 3", 2) in writer.seen
    assert [step for name, _, step in writer.seen if name == "likeliest"] == [2]


def test_a_folder_gets_events(tmp_path):
    pytest.importorskip("tensorboard")
    book = logbook(tensorboard=tmp_path / "run")
    book.epoch(epoch())
    book.close()
    assert any("tfevents" in path.name for path in (tmp_path / "run").iterdir())


def test_tensorboard_that_is_missing_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency) as caught:
        logbook(tensorboard=str(tmp_path))
    assert str(caught.value) == (
        "cannot write for TensorBoard\n"
        "  at:       one_shot.tensorboard\n"
        "  expected: tensorboard to be installed\n"
        "  fix:      pip install 'mutandis[trackers]'"
    )


def test_the_bar_shows_loss_and_the_best_so_far(capsys):
    book = logbook(progress=True)
    book.epoch(epoch())
    book.tell(8, 0.1234)
    book.close()
    shown = capsys.readouterr().err
    assert "loss 0.123" in shown and "best conv 3" in shown
