"""Tables as LaTeX (needs the package booktabs)."""

from collections.abc import Sequence

from randcond.report.tables import Metric, Part, paper_metrics

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "\n": " ",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(SPECIAL.get(character, character) for character in text)


def tabular(title: str, table: Sequence[Part], metrics: Sequence[Metric], paper_head: str, head: str, note: str) -> str:
    """A booktabs ``tabular`` with the paper's and the measured numbers side by side, a group of rows for each split."""
    reported = paper_metrics(table)
    groups = [(paper_head, len(reported)), (head, len(metrics))]
    heads, rules, end = [], [], 1
    for name, width in groups:
        if width:
            heads.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}")
            rules.append(rf"\cmidrule(lr){{{end + 1}-{end + width}}}")
        end += width
    lines = [
        *(f"% {' '.join(text.split())}" for text in (title, note)),
        rf"\begin{{tabular}}{{l{'r' * len(reported)}{'r' * len(metrics)}r}}",
        r"\toprule",
        " & " + " & ".join(heads) + r" & \\",
        " ".join(rules),
        _row(["", *(f"{m.name} {m.arrow}" for m in [*reported, *metrics]), "seeds"]),
    ]
    for part in table:
        lines.append(r"\midrule")
        if len(table) > 1:
            lines += [rf"\multicolumn{{{end + 1}}}{{l}}{{\emph{{{escape(part.split)}}}}} \\", r"\midrule"]
        for line in part.lines:
            cells = [line.paper_text(m) for m in reported] + [line.measured_text(m) for m in metrics]
            lines.append(_row([line.label, *cells, str(line.seeds)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
