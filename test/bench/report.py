#!/usr/bin/env python3
"""usage: report.py DOCUMENT LINES...
Fills the tables of DOCUMENT (doc/performance.md) from lines of JSON as the benchmarks print them on standard output
("bench", "name", "value", ...), and writes it back. In a row whose first cell is a `name`, the cells below "measured",
"against", "ratio" and "size" are filled from the last line with that name; rows without a line stay as they are.
Lines of windows and restarts of BENCH=size, and whatever is no JSON, are passed over."""
import json
import re
import sys


def read_lines(paths):
    figures = {}
    for path in paths:
        with open(path) as f:
            for text in f:
                if text.startswith("{"):
                    line = json.loads(text)
                    if "value" in line and "name" in line:
                        figures[line["name"]] = line
    return figures


def number(value):
    if value is None:
        return "-"
    return format(round(value), ",") if abs(value) >= 1000 else "%.3g" % value


def cells(row):
    return [c.strip() for c in row.strip().strip("|").split("|")]


def filled(figure):
    unit = figure.get("unit") or ""
    against = number(figure["peer_value"]) if figure.get("peer_value") else "-"
    note = figure.get("note", "").replace("(", "").replace(")", "")
    return {**{engine: number(value) for engine, value in figure.get("all", {}).items()},
            "measured": (number(figure["value"]) + " " + unit).strip(),
            "against": (against + " " + note).strip(),
            "ratio": number(figure["ratio"]) if figure.get("ratio") else "-",
            "size": figure.get("size") or "as named"}


def fill(document, figures):
    out, head = [], []
    used = set()
    for row in document:
        if not row.startswith("|"):
            head = []
        elif not head:
            head = cells(row)
        else:
            mine = cells(row)
            name = re.match(r"`([^`]+)`$", mine[0])
            if name and name.group(1) in figures and len(mine) == len(head):
                used.add(name.group(1))
                values = filled(figures[name.group(1)])
                mine = [values.get(h, c) for h, c in zip(head, mine)]
                row = "| " + " | ".join(mine) + " |\n"
        out.append(row)
    return out, used


def main(argv):
    if len(argv) < 2 or argv[0].startswith("-"):
        sys.exit(__doc__)
    figures = read_lines(argv[1:])
    with open(argv[0]) as f:
        document = f.readlines()
    out, used = fill(document, figures)
    with open(argv[0], "w") as f:
        f.writelines(out)
    print("%d rows filled, no row for: %s" % (len(used), ", ".join(sorted(set(figures) - used)) or "none"))


if __name__ == "__main__":
    main(sys.argv[1:])
