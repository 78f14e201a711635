#!/usr/bin/env python3
"""Turns the measured kernel curves of data/kernels into one C file of const tables.

usage: gen_kernels.py DATA_DIR OUT.c
"""
import csv
import math
import os
import sys

DATA, OUT = sys.argv[1:]
GRIDS = ["gemm", "decode_attention", "prefill_attention", "prefill_attention_64", "decode_mla", "prefill_mla"]
TYPES = ["bf16", "fp8", "fp8_block", "nvfp4", "int4_wo", "int8_wo", "int8", "mxfp4", "mxfp4_fp8"]
ENGINES = ["vllm", "sglang", "trtllm"]
POWER = ["memory", "prefill_attention", "matrix_16", "matrix_8", "matrix_4", "experts"]
OPS = ["all_reduce_graph", "all_reduce", "all_gather", "reduce_scatter", "alltoall", "dispatch", "combine"]


def rows(name):
    with open(os.path.join(DATA, name + ".csv"), newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    for line, row in enumerate(table[1:], 2):
        if len(row) != len(table[0]):
            sys.exit(f"{name}.csv:{line}: {len(row)} cells, the header has {len(table[0])}")
    return table[0], table[1:]


def axis(header, first):
    values = [float(h.rsplit("_", 1)[1]) for h in header[first:]]
    step = values[1] - values[0]
    if any(abs(b - a - step) > 1e-9 for a, b in zip(values, values[1:])):
        sys.exit(f"{header[first]}: unequal steps")
    return values[0], step


def number(value):
    text = f"{value:.5g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def log(text, scale=1.0):
    value = float(text) * scale
    if not value > 0:
        sys.exit(f"not a positive number: {text}")
    return number(math.log(value))


def grids(out, systems):
    lines = []
    for op, name in enumerate(GRIDS):
        header, table = rows(name)
        x0, dx = axis(header, 4)
        groups = {}
        for row in table:
            groups.setdefault((row[0], row[1]), []).append(row)
        for (system, kind), group in groups.items():
            y = [float(r[3]) for r in group]
            symbol = f"{name}_{system}_{kind}"
            cells = ", ".join(log(v) for r in group for v in r[4:])
            out.write(f"static const float {symbol}[] = {{{cells}}};\n")
            lines.append(f"{{{op}, {systems[system]}, {TYPES.index(kind)}, {len(y)}, {len(header) - 4}, {number(y[0])}, {number(y[1] - y[0])}, "
                         f"{number(x0)}, {number(dx)}, {log(group[0][2], 1e-6)}, {symbol}}}")
    out.write("static const struct pl_kernel_grid grids[] = {\n\t" + ",\n\t".join(lines) + "\n};\n")


def experts(out, systems):
    header, table = rows("moe")
    out.write("static const struct pl_kernel_experts experts[] = {\n")
    for r in table:
        key = ", ".join(number(math.log2(float(v))) for v in r[3:8])
        out.write(f"\t{{{systems[r[0]]}, {ENGINES.index(r[1])}, {TYPES.index(r[2])}, {{{key}}}, "
                  f"{{{', '.join(log(v, 1e-6) for v in r[8:])}}}}},\n")
    out.write("};\n")
    if axis(header, 8) != (0, 2) or len(header) != 16:
        sys.exit("moe.csv: speed/kernels.h expects microseconds at 1, 4, 16 … 16384 tokens")


def deepep(out, systems):
    """Microseconds at bytes that one GPU sends (dispatch, 1 byte a value) or gets back (combine, 2), on the grid of the messages:
    between measured tokens in logarithms, below the least as long as that, above the most in proportion."""
    _, table = rows("deepep")
    for system in sorted({r[0] for r in table}):
        own = [r for r in table if r[0] == system]
        for op, column, width in (("dispatch", 5, 1), ("combine", 6, 2)):
            at = [(math.log2(int(r[4]) * int(r[3]) * int(r[2]) * width), math.log(float(r[column]))) for r in own]
            cells = []
            for x in range(9, 33, 2):
                above = [i for i, p in enumerate(at) if p[0] >= x]
                if not above:
                    y = at[-1][1] + (x - at[-1][0]) * math.log(2)
                elif above[0] == 0:
                    y = at[0][1]
                else:
                    (x0, y0), (x1, y1) = at[above[0] - 1], at[above[0]]
                    y = y0 + (x - x0) / (x1 - x0) * (y1 - y0)
                cells.append(log(math.exp(y), 1e-6))
            out.write(f"\t{{{systems[system]}, {OPS.index(op)}, {int(own[0][1])}, {{{', '.join(cells)}}}}},\n")


def messages(out, systems):
    header, table = rows("collectives")
    out.write("static const struct pl_kernel_message messages[] = {\n")
    for r in table:
        out.write(f"\t{{{systems[r[0]]}, {OPS.index(r[1])}, {int(r[2])}, {{{', '.join(log(v, 1e-6) for v in r[3:])}}}}},\n")
    deepep(out, systems)
    out.write("};\n")
    if axis(header, 3) != (9, 2) or len(header) != 15:
        sys.exit("collectives.csv: speed/kernels.h expects microseconds at 512, 2048 … 2 GiB")


def power(out, systems):
    """Shares of the board power; "all" and "gddr" are for cards nobody measured."""
    header, table = rows("power")
    at = [float(h.rsplit("_", 1)[1]) for h in header[3:]]
    if at != sorted(at) or at[0] != 0 or at[-1] != 1 or len(at) != 10:
        sys.exit("power.csv: speed/kernels.h expects ten utilisations from 0 to 1")
    out.write(f"static const float power_at[] = {{{', '.join(number(v) for v in at)}}};\n")
    out.write("static const struct pl_kernel_power power[] = {\n")
    other = {"all": "PL_POWER_ANY", "gddr": "PL_POWER_GDDR"}
    for r in table:
        if any(not 0 < float(v) <= 1 for v in r[3:]):
            sys.exit(f"power.csv: {r[0]} {r[1]}: a share is not within 0 and 1")
        out.write(f"\t{{{other.get(r[0]) or systems[r[0]]}, {POWER.index(r[1])}, {{{', '.join(number(float(v)) for v in r[3:])}}}}},\n")
    out.write("};\n")
    if sorted(r[1] for r in table if r[0] == "all") != sorted(POWER):
        sys.exit("power.csv: a cause has no row of all systems")


def main():
    header, table = rows("systems")
    systems = {row[0]: i for i, row in enumerate(table)}
    with open(OUT, "w", encoding="utf-8") as out:
        out.write("/* Generated from data/kernels by tools/gen_kernels.py. */\n#include \"speed/kernels.h\"\n\n")
        out.write("static const struct pl_kernel_system systems[] = {\n")
        for r in table:
            peaks = ", ".join(f"{float(v):g}e12" for v in r[3:])
            out.write(f"\t{{\"{r[0]}\", \"{r[1]}\", \"{r[2]}\", {{{peaks}}}}},\n")
        out.write("};\n")
        grids(out, systems)
        experts(out, systems)
        messages(out, systems)
        power(out, systems)
        out.write("static const struct pl_kernel_tables tables = {systems, grids, experts, messages, power, power_at,\n"
                  "\tsizeof systems / sizeof *systems, sizeof grids / sizeof *grids, sizeof experts / sizeof *experts,\n"
                  "\tsizeof messages / sizeof *messages, sizeof power / sizeof *power};\n"
                  "const struct pl_kernel_tables *pl_kernel_tables(void)\n{\n\treturn &tables;\n}\n")


if __name__ == "__main__":
    main()
