"""The commands and their options, as argparse reads them; `mutandis COMMAND --help` shows them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import mutandis
from mutandis.cli import values

_ABOUT = """Search programs, and look at what was found.

  mutandis run train.py:program --algorithm REA --trials 100 --study s.db --workers 4
  mutandis show s.db
  mutandis best s.db --format python
"""
_STUDY = "a file (s.db, s.jsonl) or the address of a server (postgresql://user@host/base)"
_TARGET = "SCRIPT.py:NAME or package.module:NAME"
_RUN = """Searches a program and keeps the trials in a study.

NAME is what holds hyper values (a symbolic object, a list, a dict), or a function without arguments that returns it.
The script is imported, here and by each worker, so that what it does when it is run belongs under
`if __name__ == "__main__":`. The objective is the child's run(), or calling it, or --objective.

  mutandis run train.py:program --trials 20
  mutandis run train.py:program --algorithm REA --set population_size=50 --set tournament_size=10 --study s.db
  mutandis run train.py:program --algorithm 'Deduped(NSGA2(40))' --objectives accuracy,-latency_ms --study s.db
  mutandis run train.py:space --objective train.py:score --workers 4 --trial-timeout 10m --memory 4GB
  mutandis run train.py:program --scheduler ASHA --scheduler-set min_fidelity=1 --scheduler-set max_fidelity=81

`mutandis algorithms` lists algorithms and their settings. The same command on the same study continues it.
"""
_RESUME = """Continues a study with the program, algorithm, seed, objectives and objective that it records.

An option says anew what is not recorded, or shall be another from here on.

  mutandis resume s.db
  mutandis resume s.db --trials 200 --workers 8
  mutandis resume s.db train.py:program --objective train.py:score
"""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        "mutandis", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_traceback(parser, default=False)
    parser.add_argument("--version", action="version", version=f"mutandis {mutandis.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)

    def command(name: str, summary: str, about: str | None = None) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name,
            help=summary,
            description=about or summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_traceback(made, default=argparse.SUPPRESS)  # What was said before the command stands.
        return made

    _add_run(command("run", "search a program", _RUN))
    _add_resume(command("resume", "continue a study", _RESUME))
    _add_show(command("show", "how far a study is, and its trials"))
    _add_best(command("best", "the best trial of a study: a table, JSON, Python code or a tree"))
    _add_importances(command("importances", "which decisions matter: the share of the variance that each explains"))
    _add_report(command("report", "write a study as one HTML page that needs nothing else"))
    _add_export(command("export", "write a study as CSV or JSON, or into a storage of Optuna"))
    _add_dashboard(command("dashboard", "serve optuna-dashboard over a study"))
    _add_space(command("space", "describe the search space of a program: decisions, size, default child"))
    _add_algorithms(command("algorithms", "list the algorithms, or the settings of one"))
    return parser


def with_joined_values(argv: Sequence[str]) -> list[str]:
    """Returns arguments with `--objectives -loss` written as `--objectives=-loss`, which argparse understands."""
    made: list[str] = []
    for text in argv:
        if made and made[-1] in ("--objectives", "--of") and text.startswith("-") and text[1:2] not in "-":
            made[-1] = f"{made[-1]}={text}"
        else:
            made.append(text)
    return made


def _add_traceback(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument("--traceback", action="store_true", default=default, help="show where an error comes from")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help=_STUDY)
    _add_name(parser)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="which study, where the file or server holds several")


def _add_imports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="SCRIPT",
        help="import a script or module first, so that the classes of the program are known; may be repeated",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` and `resume` have in common; None stands for what was not said."""
    what = parser.add_argument_group("what is searched")
    what.add_argument("--objective", metavar="SCRIPT:FUNCTION", help="a function of the child that returns the reward "
                      "or a dict of metrics; by default the child's run(), or calling it")  # fmt: skip
    what.add_argument("--objectives", type=values.names, metavar="NAMES", help="metrics that count, with a minus where "
                      "smaller is better: accuracy,-latency_ms (default: reward)")  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument("--algorithm", metavar="NAME", help="such as Random, RegularizedEvolution (REA), TPE, "
                     "GaussianProcess (BO), or 'Deduped(REA(50, 10))' (default: RegularizedEvolution, and NSGA2 for "
                     "several objectives)")  # fmt: skip
    how.add_argument("--set", dest="settings", type=values.assignment, action="append", default=[],
                     metavar="NAME=VALUE", help="a setting of the algorithm; may be repeated")  # fmt: skip
    how.add_argument("--scheduler", metavar="NAME", help="says how long trials go on: ASHA, Median, Hyperband, ...")
    how.add_argument("--scheduler-set", dest="scheduler_settings", type=values.assignment, action="append", default=[],
                     metavar="NAME=VALUE", help="a setting of the scheduler; may be repeated")  # fmt: skip
    how.add_argument("--seed", type=int, metavar="INT", help="seed of the search (default: 0)")
    how.add_argument("--deterministic", action="store_true", default=None,
                     help="the same decisions for any number of workers up to 8")  # fmt: skip
    limits = parser.add_argument_group("how much")
    limits.add_argument("--trials", type=values.count, metavar="N",
                        help="how many trials the study shall have in all (default: 100)")  # fmt: skip
    limits.add_argument("--timeout", type=values.seconds, metavar="TIME",
                        help="begin no trial after that time: 90 (seconds), 10m, 1h30m")  # fmt: skip
    limits.add_argument("--trial-timeout", type=values.seconds, metavar="TIME",
                        help="a trial that runs longer fails")  # fmt: skip
    limits.add_argument("--memory", dest="memory_bytes", type=values.memory_bytes, metavar="SIZE",
                        help="a trial that takes more fails: 4GB, 512MiB")  # fmt: skip
    limits.add_argument("--max-failures", type=values.count, metavar="N",
                        help="give up after so many failed trials in a row (default: 10)")  # fmt: skip
    where = parser.add_argument_group("where")
    where.add_argument("--workers", type=values.count, metavar="N", help="trials at the same time (default: 1)")
    where.add_argument("--executor", metavar="NAME", help="processes (default), inline or ray")
    _add_json(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=_TARGET)
    parser.add_argument("--study", metavar="STUDY", help=f"where the trials are kept: {_STUDY}")
    _add_name(parser)
    _add_search(parser)


def _add_resume(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("target", nargs="?", metavar="TARGET", help=f"the program, where it is not recorded: {_TARGET}")
    _add_imports(parser)
    _add_search(parser)


def _add_show(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--top", type=values.count, default=10, metavar="N", help="the N best trials (default: 10)")
    which.add_argument("--all", action="store_true", help="all trials by number")
    which.add_argument("--front", action="store_true", help="the trials that no other one dominates")
    _add_json(parser)


def _add_best(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--format", choices=("table", "json", "python", "tree"), default="table",
                       help="python: code that rebuilds the program; tree: the program as text")  # fmt: skip
    which.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    _add_imports(parser)


def _add_importances(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("--of", metavar="OBJECTIVE", help="of which objective (default: the first)")
    _add_json(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")
    _add_imports(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="a row per trial (default: standard output)")
    form.add_argument("--json", nargs="?", const="-", metavar="FILE", help="everything (default: standard output)")
    form.add_argument("--optuna", metavar="URL", help="a storage of Optuna, such as sqlite:///optuna.db")


def _add_dashboard(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone")
    parser.add_argument("--port", type=values.port, default=8080, help="default: 8080")


def _add_space(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=_TARGET)
    _add_json(parser)


def _add_algorithms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("algorithm", nargs="?", metavar="NAME", help="list the settings of this one")
    parser.add_argument("--schedulers", action="store_true", help="list the schedulers instead")
    _add_json(parser)


__all__ = ["make_parser", "with_joined_values"]
