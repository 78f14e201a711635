#!/usr/bin/env python3
"""Distils the watts in the kernel tables of ai-dynamo/aiconfigurator (Apache-2.0) into data/kernels/power.csv.

usage: distil_power.py REPOSITORY OUT_DIR        (needs git, pandas, pyarrow; run by hand, never by the build)

Tables with the columns power and power_limit are read, every version of them. A cell is a share of the board power that kernels
of a cause draw at a utilisation: of memory bandwidth where reading takes longer on the roofline, of the matrix peak where
arithmetic does; `experts` goes by rows an expert over 256. The reading is a mean over a window that may hold pauses, which only
lower it: the upper quartile stands for a busy card, the lower one, at no utilisation, for one that waits. Decode attention is
left out: its rows are short and read half of what products of the same bandwidth do. The system "all" is the median of the measured systems.
"""
import io
import os
import sys

import numpy as np
import pandas as pd

import distil_kernels as dk

GRID = [0, .05, .1, .2, .3, .4, .5, .6, .8, 1]
FEWEST = 20
BUSY, WAITING = .75, .25  # quantiles


class Source:
    def __init__(self, repo):
        self.repo, self.rows = repo, 0
        self.paths = dk.git(repo, "ls-tree", "-r", "--name-only", "HEAD", dk.BASE).decode().split("\n")

    def load(self, op):
        parts = []
        for path in self.paths:
            if not path.endswith("/" + op + "_perf.parquet"):
                continue
            table = pd.read_parquet(io.BytesIO(dk.git(self.repo, "show", "HEAD:" + path)))
            if "power" in table:
                part = path[len(dk.BASE):].split("/")
                parts.append(table.assign(system=part[0], engine=part[2]))
        rows = pd.concat(parts, ignore_index=True)
        self.rows += len(rows)
        return rows.assign(t=rows.latency * 1e-3, share=rows.power / rows.power_limit)


def sides(rows, memory, compute):
    """The side of the roofline that rules, and how much of it is reached; impossible rows dropped."""
    um, uc = memory / rows.t, compute / rows.t
    rows = rows.assign(reads=um > uc, u=np.maximum(um, uc))
    return rows[rows.u <= dk.MOST]


def gemm(source):
    r = source.load("gemm")
    r = r[~((r.engine == "vllm") & (r.gemm_dtype == "fp8_block"))]  # timed with their Python around them
    wb, ab = (r.gemm_dtype.map(lambda t, i=i: dk.TYPES[t][i]) for i in (0, 1))
    m, n, k = (r[c].astype(float) for c in "mnk")
    r = sides(r, (n * k * wb + m * k * ab + 2 * m * n) / dk.bandwidth(r), 2 * m * n * k / dk.peak(r, r.gemm_dtype))
    bits = r.gemm_dtype.map(lambda t: {"bfloat16": "16", "nvfp4": "4"}.get(t, "8"))
    return r.assign(cause=np.where(r.reads, "memory", "matrix_" + bits))


def attention(source):
    r = source.load("context_attention")
    r = r[(r.window_size.fillna(0) == 0) & (r.isl >= 16)]
    b, s, n, h = (r[c].astype(float) for c in ("batch_size", "isl", "num_heads", "head_dim"))
    r = sides(r, 8 * b * n * s * h / dk.bandwidth(r), 2 * b * n * s * s * h / dk.peak(r, r.attn_dtype))
    return r[~r.reads].assign(cause="prefill_attention")


def moe(source):
    r = source.load("moe")
    r = r[(r.distribution == "power_law_1.01") & (r.moe_tp_size * r.moe_ep_size <= 16)]
    each = r.num_tokens.astype(float) * r.topk / r.num_experts
    return r.assign(cause="experts", u=np.minimum(1, each / 256))


def gddr(path):
    board = {"3090": 350, "4090": 450, "5090": 575}
    r = pd.read_csv(path)
    tdp = r.gpu.map(lambda g: next(w for name, w in board.items() if name in g))
    cap = r.notes.str.extract(r"power cap (\d+)", expand=False).astype(float).fillna(1e9)
    r = r.assign(tdp=tdp, each=r.power_w / r.n_gpu, clock=r.notes.str.extract(r"sm clock (\d+)", expand=False).astype(float),
                 run=r.gpu + r.model + r.quant.astype(str) + r.engine + r.test.str[:3] + r.n_gpu.astype(str), free=(cap > 1.05 * r.power_w / r.n_gpu) | (cap >= tdp))
    waits = []
    for _, g in r[r.clock < 1300].groupby("run"):
        if len(g) >= 3:
            waits.append(np.polyfit(g.clock, g.each / g.tdp, 1)[1])
    busy = r[r.free & r.test.str.startswith("gen")].groupby("run").apply(lambda g: (g.each / g.tdp).median(), include_groups=False)
    print(f"gddr: waiting {np.round(waits, 2)}, busy {busy.round(2).to_dict()}")
    line = np.full(len(GRID), min(1, busy.median()))
    line[0] = np.median(waits)
    return line, len(r)


def cells(rows):
    """Quantiles around the grid points, rising with utilisation as watts do; gaps are bridged."""
    have, at = [], []
    for i, u in enumerate(GRID):
        low = (GRID[i - 1] + u) / 2 if i else -1
        high = (u + GRID[i + 1]) / 2 if i + 1 < len(GRID) else 2
        inside = rows.share[(rows.u > low) & (rows.u <= high)]
        if len(inside) >= FEWEST:
            have.append(inside.quantile(BUSY if i else WAITING))
            at.append(u)
    return np.maximum.accumulate(np.minimum(np.interp(GRID, at, have), 1)) if at else None


def main():
    repo, out = sys.argv[1:]
    source = Source(repo)
    rows = pd.concat([part[["system", "cause", "u", "share", "t"]] for part in (gemm(source), attention(source), moe(source))])
    table, used = {}, {}
    for (system, cause), group in rows.groupby(["system", "cause"]):
        line = cells(group)
        if line is not None:
            table[system, cause], used[system, cause] = line, len(group)
            miss = np.abs(np.interp(group.u, GRID, line) - group.share)
            print(f"{system} {cause}: {len(group)} rows, error of the share: median {miss.median():.3f}, P90 {miss.quantile(.9):.3f}")
    for cause in sorted({c for _, c in table}):
        lines = [line for (_, c), line in table.items() if c == cause]
        table["all", cause] = np.median(lines, axis=0)
        used["all", cause] = sum(n for (s, c), n in used.items() if c == cause)
        for s, c in [k for k in table if k[1] == cause and k[0] != "all"]:
            others = [line for (o, d), line in table.items() if d == c and o not in (s, "all")]
            if others:
                group = rows[(rows.system == s) & (rows.cause == c)]
                miss = np.abs(np.interp(group.u, GRID, np.median(others, axis=0)) - group.share)
                print(f"{s} {c} from the others: median {miss.median():.3f}, P90 {miss.quantile(.9):.3f}")
    table["gddr", "memory"], used["gddr", "memory"] = gddr(os.path.join(out, "..", "measurements", "power_perf.csv"))
    with open(os.path.join(out, "power.csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write("system,cause,rows," + ",".join(f"share_{u:g}" for u in GRID) + "\n")
        for (system, cause), line in sorted(table.items()):
            file.write(f"{system},{cause},{used[system, cause]}," + ",".join(f"{v:.3f}" for v in line) + "\n")
    print(source.rows, "rows read;", dk.git(repo, "rev-parse", "HEAD").decode().strip())


if __name__ == "__main__":
    main()
