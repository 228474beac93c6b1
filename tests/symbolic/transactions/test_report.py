"""Reports read well."""

from __future__ import annotations

from mutandis.symbolic.transactions.report import Reinitialised, Report


def test_a_report_lists_what_happened():
    report = Report(
        result=None,
        rebuilt=("model", ""),
        reinitialised=(Reinitialised("model.a", (2,), (3,)), Reinitialised("b", None, (1,)),
                       Reinitialised("c", (4, 4), None)),
        kept=5,
        carried=("epoch",),
        dormant=("layers[3]",),
        warnings=("look out",),
    )  # fmt: skip
    assert str(report) == (
        "rebind: 2 rebuilt, 5 tensors kept, 3 made anew\n"
        "  rebuilt:   model\n"
        "  rebuilt:   (the root)\n"
        "  made anew: model.a: (2,) -> (3,)\n"
        "  made anew: b: new (1,)\n"
        "  made anew: c: gone (4, 4)\n"
        "  carried:   epoch\n"
        "  dormant:   layers[3]\n"
        "  warning:   look out"
    )
