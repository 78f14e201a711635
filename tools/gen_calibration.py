#!/usr/bin/env python3
"""Turns data/calibration.csv, the output of `plimsoll calibrate`, into one C file of sorted const rows.

usage: gen_calibration.py SOURCE_ROOT OUT.c
Columns: kind,name,scope,context,value,spread,n_devices. kind effect: name is a constant, value the ln of a factor;
kind interval: name is an answer class, context a kinship (0 to 3), value and spread the lower and upper ln.
"""
import csv
import os
import re
import sys

ROOT = sys.argv[1]


def names(path: str, column: int) -> list[str]:
    """The column-th argument of every X(...) row."""
    found = []
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        for line in file:
            if line.startswith("X("):
                found.append(re.split(r",\s*", line[2:].rstrip().rstrip(")"))[column].strip().strip('"'))
    return found


def column(path: str, name: str) -> list[str]:
    with open(os.path.join(ROOT, path), newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


FAMILIES = names("src/speed/constants.def", 1)
STACKS = [""] + names("src/speed/stacks.def", 1)
TYPES = [""] + names("include/plimsoll/dtype.def", 1)
DEVICES = [""] + column("data/gpus.csv", "id")
ARCHS = [""] + list(dict.fromkeys(column("data/gpus.csv", "arch")))
SCOPES = ["base", "stack", "arch", "stack_arch", "stack_type", "device", "stack_line"]
CLASSES = ["decode", "prefill", "offload_decode", "offload_prefill", "multi_decode", "multi_prefill", "served_tpot",
           "served_ttft", "served_rate", "split_ttft", "split_tpot"]


def key(row: dict[str, str]) -> int:
    scope, stack, index = SCOPES.index(row["scope"]), 0, 0
    head, _, tail = row["context"].partition(" ")
    if scope in (1, 3, 4, 6):
        stack = STACKS.index(head)
    if scope == 2:
        index = ARCHS.index(row["context"])
    elif scope == 3:
        index = ARCHS.index(tail)
    elif scope == 4:
        index = TYPES.index(tail)
    elif scope == 5:
        index = DEVICES.index(row["context"])
    elif scope == 6:  # the first architecture of the line
        index = next(i for i, a in enumerate(ARCHS) if i and re.match(r"[^0-9 -]*", a).group() == tail)
    return FAMILIES.index(row["name"]) << 26 | scope << 22 | stack << 14 | index


def main() -> int:
    effects, intervals = [], {}
    with open(os.path.join(ROOT, "data", "calibration.csv"), newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for row in reader:
            try:
                value, spread = float(row["value"]), float(row["spread"])
                if row["kind"] == "effect":
                    effects.append((key(row), value, spread, int(row["n_devices"])))
                else:
                    intervals[CLASSES.index(row["name"]), int(row["context"])] = (value, spread)
            except (ValueError, KeyError) as fault:
                print(f"calibration.csv:{reader.line_num}: {fault}", file=sys.stderr)
                return 1
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write("/* Generated from data/calibration.csv by tools/gen_calibration.py. */\n#include \"speed/constants.h\"\n\n")
        out.write("static const struct pl_effect effects[] = {\n")
        for k, value, spread, n in sorted(effects):
            out.write(f"\t{{{k}u, {value!r}f, {spread!r}f, {n}}},\n")
        out.write("\t{UINT32_MAX, 0, 0, 0},\n};\n\nstatic const struct pl_constants shipped = {\n"
                  "\t.effects = effects,\n\t.n_effects = sizeof effects / sizeof *effects - 1,\n\t.spread = {\n")
        for c in range(len(CLASSES)):
            cells = ", ".join("{%r, %r}" % intervals.get((c, k), (-0.35, 0.35)) for k in range(4))
            out.write(f"\t\t{{{cells}}},\n")
        out.write("\t},\n};\n\nconst struct pl_constants *pl_constants_shipped(void)\n{\n\treturn &shipped;\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
