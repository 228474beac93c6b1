"""The page of a study: whole, self-contained, and what a browser makes of it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.flows.studies.objectives import parse_objectives
from mutandis.plots import report, save_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "br"}


@mu.symbolize
class Model:
    def __init__(self, width, note="<b>bold</b>"):
        self.width, self.note = width, note


@pytest.fixture(scope="module")
def study():
    loop = mu.sample(
        Model(mu.oneof([8, 16, 32], default=8), mu.oneof(["<i>", "plain"])),
        mu.algorithms.Random(),
        trials=30,
        study=mu.Study(name="My <search>"),
        objectives=("accuracy", "-cost"),
    )
    for child, feedback in loop:
        feedback({"accuracy": 1 - 1 / child.width, "cost": child.width})
    return loop.study


class Checker(HTMLParser):
    """Collects the tags, and refuses ones that are closed wrongly."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing(study):
    page = report(study)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert not [tag for tag, _ in checker.seen if tag in ("script", "iframe", "img")]
    links = [value for _, attrs in checker.seen for name, value in attrs.items() if name in ("src", "href")]
    assert links == ["data:,"]
    assert "url(" not in page


def test_the_page_shows_every_part(study):
    page = report(study)
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads[:6] == ["Search: accuracy", "Search: cost", "cost against accuracy", "What matters",
                         "All decisions at once", "Who worked when"]  # fmt: skip
    assert {"The best trials", f"The program of trial {study.best.id}"} <= set(heads)
    assert "Trials without a reward" not in page
    assert "width: 8 -&gt; 32" in page  # The difference from the default.
    assert "program = Model(" in page


def test_names_and_values_are_escaped(study):
    page = report(study)
    assert "<title>My &lt;search&gt;</title>" in page
    assert "<i>" not in page
    assert "<b>bold</b>" not in page


def test_a_search_by_points_alone_has_no_program_to_show(study):
    bare = mu.Study(name="bare")
    bare.open(study.space.bare(), study.objectives)
    for trial in study.trials:
        bare.finish(dataclasses.replace(bare.add(trial.dna), state="completed", rewards=trial.rewards))
    page = report(bare)
    assert "The best trials" in page
    assert "The program" not in page


def test_a_program_that_cannot_be_shown_says_why(study, monkeypatch):
    def broken(*_):
        raise ValueError("too large")

    monkeypatch.setattr("mutandis.plots.page.to_python", broken)
    assert "not shown: ValueError: too large" in report(study)


def test_a_study_in_which_nothing_has_ended_is_refused():
    study = mu.Study(name="empty")
    with pytest.raises(SettingError) as error:
        report(study)
    assert str(error.value) == (
        "cannot report on a study\n"
        "  at:       empty\n"
        "  got:      'no trials' (str)\n"
        "  expected: at least one trial that has ended\n"
        "  fix:      run the search first"
    )
    study.open(mu.space(mu.intv(0, 3)), parse_objectives("reward"))
    study.add(study.space.random(0))
    with pytest.raises(SettingError, match="running"):
        report(study)


def test_a_study_whose_trials_all_failed_tells_why():
    loop = mu.sample(Model(mu.intv(1, 9)), mu.algorithms.Random(), trials=5)
    for _, feedback in loop:
        feedback.fail("no <memory>") if feedback.trial.id < 3 else feedback.skip("too wide")
    page = report(loop.study)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Who worked when", "Trials without a reward"]
    assert "<td>3</td><td>failed</td><td>0</td><td>no &lt;memory&gt;</td>" in page
    assert "<td>2</td><td>skipped</td><td>3</td><td>too wide</td>" in page


def test_a_long_search_says_that_not_every_dot_is_shown(study, monkeypatch):
    assert "One dot in" not in report(study)
    monkeypatch.setattr("mutandis.plots.charts.MOST_DOTS", 10)
    assert "One dot in 3 is shown, and each trial that was the best so far." in report(study)


def test_a_program_that_cannot_be_built_here_says_why(tmp_path):
    study = mu.Study(tmp_path / "s.db")
    for _, feedback in mu.sample(Model(mu.intv(1, 9)), mu.algorithms.Random(), trials=1, study=study):
        feedback(1.0)
    assert "program = Model(" in report(study)
    code = ("import sys, mutandis as mu\nfrom mutandis.plots import report\n"
            f"print(report(mu.Study({str(tmp_path / 's.db')!r})))")  # fmt: skip
    page = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "<h2>The program of trial 0</h2>\n<pre>not shown: SchemaError: cannot use a name from JSON" in page
    assert "import the module that defines it" in page


def test_a_default_that_cannot_be_built_leaves_the_rest(study, monkeypatch):
    monkeypatch.setattr(type(study.space), "default", lambda self: 1 / 0)
    page = report(study)
    assert "not shown: ZeroDivisionError" in page and "program = Model(" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("scheme", "is_dark"), [("1", False), ("0", True)])
def test_a_browser_shows_it_light_and_dark_without_a_complaint(study, tmp_path, scheme, is_dark):
    image = pytest.importorskip("matplotlib.image")
    path = save_report(study, tmp_path / "report.html")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         "--enable-logging=stderr", f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1100,1600",
         f"--screenshot={tmp_path / 'shot.png'}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    pixels = image.imread(tmp_path / "shot.png")[..., :3]
    assert bool(pixels[5, 5].mean() < 0.5) is is_dark
    assert pixels.std() > 0.02  # Something is drawn.
    blue = (pixels[..., 2] - pixels[..., 0]) > 0.25
    assert blue.sum() > 2000  # Lines and bars.


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_no_name_makes_the_page_wider_than_a_phone(tmp_path):
    name = "n" * 200
    loop = mu.sample({name: mu.oneof([name, "b"])}, mu.algorithms.Random(), trials=20, objectives=("o" * 100,),
                     study=mu.Study(name=name))  # fmt: skip
    for _, feedback in loop:
        feedback(1.0) if feedback.trial.id else feedback.skip(name)
    script = "<script>document.title = 'wide ' + document.documentElement.scrollWidth</script></body>"
    path = tmp_path / "report.html"
    path.write_text(report(loop.study).replace("</body>", script))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=600,800", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert int(re.search("<title>wide ([0-9]+)", done.stdout)[1]) <= 600
