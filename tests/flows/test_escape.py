"""Plain loops: an exception marks the trial failed, a break or a return abandons it."""

from __future__ import annotations

import contextlib

import pytest

import mutandis as mu
from mutandis.algorithms import Random


def plain(search):
    for _ in search():
        raise RuntimeError("body")


def deeper(search):
    def work():
        raise RuntimeError("body")

    for _ in search():
        work()


def enumerated(search):
    for _ in enumerate(search()):
        raise RuntimeError("body")


def zipped(search):
    for _ in zip(range(3), search()):
        raise RuntimeError("body")


def generated(search):
    def wrapper(inner):
        yield from inner

    for _ in wrapper(search()):
        raise RuntimeError("body")


def generated_twice(search):
    def wrapper(inner):
        for item in inner:  # noqa: UP028 - The plain loop is what tqdm does.
            yield item

    for _ in wrapper(wrapper(search())):
        raise RuntimeError("body")


def reraised(search):
    for _ in search():
        try:
            raise RuntimeError("body")
        except RuntimeError:
            raise


def chained(search):
    for _ in search():
        try:
            raise KeyError
        except KeyError as error:
            raise RuntimeError("body") from error


def with_finally(search):
    for _ in search():
        try:
            raise RuntimeError("body")
        finally:
            str(3)


def caught_around(search):
    with contextlib.suppress(RuntimeError):
        for _ in search():
            raise RuntimeError("body")
    raise RuntimeError("body")


def in_a_generator(search):
    def rows():
        for _, feedback in search():
            yield feedback.trial.id
            raise RuntimeError("body")

    list(rows())


@pytest.mark.parametrize(
    "body",
    [
        plain,
        deeper,
        enumerated,
        zipped,
        generated,
        generated_twice,
        reraised,
        chained,
        with_finally,
        caught_around,
        in_a_generator,
    ],
    ids=lambda body: body.__name__,
)
def test_a_body_that_raises_fails_its_trial(body):
    study = mu.Study()
    with pytest.raises(RuntimeError, match="body"):
        body(lambda: mu.sample(mu.boolv(), Random(), study=study))
    (trial,) = study.trials
    assert trial.state == "failed"
    assert trial.reason.startswith("an exception raised at ")
    assert __file__ in trial.reason


def test_the_reason_names_the_line_and_function_that_raised():
    study = mu.Study()
    with pytest.raises(RuntimeError):
        deeper(lambda: mu.sample(mu.boolv(), Random(), study=study))
    line = deeper.__code__.co_firstlineno + 2
    assert study.trials[0].reason == f"an exception raised at {__file__}:{line} in work"


def test_earlier_answers_stay_when_a_later_body_raises():
    study = mu.Study()

    def search():
        for _, feedback in mu.sample(mu.boolv(), Random(), study=study):
            feedback(1 / (2 - feedback.trial.id))

    with pytest.raises(ZeroDivisionError):
        search()
    assert [trial.state for trial in study.trials] == ["completed", "completed", "failed"]


def broken(search):
    for _ in search():
        break


def returned(search):
    for _ in search():
        return


def broken_after_a_caught_exception(search):
    for _ in search():
        try:
            raise RuntimeError("body")
        except RuntimeError:
            break


def broken_in_a_handler(search):
    try:
        raise RuntimeError("outside")
    except RuntimeError:
        for _ in search():
            break


def broken_wrapper(search):
    for _ in enumerate(search()):
        break


def broken_generator(search):
    def wrapper(inner):
        yield from inner

    for _ in wrapper(search()):
        break


@pytest.mark.parametrize(
    "body",
    [broken, returned, broken_after_a_caught_exception, broken_in_a_handler, broken_wrapper, broken_generator],
    ids=lambda body: body.__name__,
)
def test_a_body_that_leaves_abandons_its_trial(body):
    study = mu.Study()
    body(lambda: mu.sample(mu.boolv(), Random(), study=study))
    (trial,) = study.trials
    assert trial.state == "abandoned"
    assert trial.reason is None


def test_a_break_after_the_answer_leaves_nothing_open():
    study = mu.Study()
    for _, feedback in mu.sample(mu.boolv(), Random(), study=study):
        feedback(1)
        break
    assert study.counts() == {"completed": 1}


def test_a_loop_that_has_a_name_is_left_open_until_it_is_closed():
    loop = mu.sample(mu.boolv(), Random())
    for _ in loop:
        break
    assert loop.study.counts() == {"running": 1}
    loop.close()
    assert loop.study.counts() == {"abandoned": 1}
