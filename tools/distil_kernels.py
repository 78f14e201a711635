#!/usr/bin/env python3
"""Distils the kernel tables of ai-dynamo/aiconfigurator (Apache-2.0) into the small curves of data/kernels.

usage: distil_kernels.py REPOSITORY OUT_DIR        (needs git, pandas, pyarrow; run by hand, never by the build)

REPOSITORY is a clone, bare or not. For each system, operation and engine the newest version's table is read.
A row becomes a utilisation: time on the roofline of the spec peaks / measured time. Of the engines' kernels
for one shape the fastest stands (attention, matrix products), because host-bound rows are slow ones; MoE keeps
its engine, since there the kernels differ in kind. Rows above 1.02 of the peak are dropped as impossible.
Cells are medians over half an octave either side of the grid point; empty cells take their neighbour's value.
"""
import io
import os
import re
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pandas as pd

BASE = "aic-core/src/aiconfigurator_core/systems/data/"
# Dense spec peaks: TFLOP/s of bf16, fp8, fp4, int8; TB/s. RTX PRO 6000 at its boost clock.
SPEC = {
    "a100_sxm": (312, 0, 0, 624, 2.039), "h100_sxm": (989, 1978, 0, 1978, 3.35), "h200_sxm": (989, 1978, 0, 1978, 4.8),
    "b200_sxm": (2250, 4500, 9000, 4500, 7.7), "b300_sxm": (2250, 4500, 14000, 0, 7.75),
    "gb200": (2500, 5000, 10000, 0, 8), "gb300": (2500, 5000, 15000, 0, 8), "l40s": (362.05, 733, 0, 733, 0.864),
    "rtx_pro_6000_server": (503.8, 1007.6, 2015, 0, 1.792), "b60": (98.3, 0, 0, 197, 0.456)}
# The catalogue's cards that are this system, and the compute capability whose other cards are its kin.
CARDS = {
    "a100_sxm": ("nvidia-a100-sxm-40 nvidia-a100-sxm-80 nvidia-a800-sxm-80", "8.0"),
    "h100_sxm": ("nvidia-h100-sxm-80 nvidia-h800-sxm-80 nvidia-gh200-96", "9.0"),
    "h200_sxm": ("nvidia-h200-sxm-141 nvidia-gh200-144", "9.0"), "b200_sxm": ("nvidia-b200-180", "10.0"),
    "b300_sxm": ("nvidia-b300-288", "10.3"), "gb200": ("nvidia-gb200", "10.0"), "gb300": ("nvidia-gb300", "10.3"),
    "l40s": ("nvidia-l40s", "8.9"), "b60": ("intel-arc-pro-b60", "bmg-g21"),
    "rtx_pro_6000_server": ("nvidia-rtx-pro-6000-bw-server nvidia-rtx-pro-6000-bw", "12.0")}
# Bytes of a weight (with its scales) and of an activation; index of the peak its product runs at.
TYPES = {"bfloat16": (2, 2, 0), "fp8": (1, 1, 1), "fp8_block": (1, 1, 1), "nvfp4": (.5625, .5625, 2),
         "int4_wo": (.53, 2, 0), "int8_wo": (1, 2, 0), "sq": (1, 1, 3), "w4a16_mxfp4": (.53125, 2, 0),
         "w4a8_mxfp4_mxfp8": (.53125, 1, 1)}
NAMES = {"bfloat16": "bf16", "sq": "int8", "w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4_fp8"}
MOST = 1.02


def git(repo, *args):
    return subprocess.run(["git", "-C", repo, *args], stdout=subprocess.PIPE, check=True).stdout


def newest(repo):
    """(system, operation) -> [(engine, version, path)]: the newest version of each engine."""
    found = defaultdict(list)
    for path in git(repo, "ls-tree", "-r", "--name-only", "HEAD", BASE).decode().split("\n"):
        part = path[len(BASE):].split("/")
        if len(part) >= 4 and part[-1].endswith("_perf.parquet"):
            version = tuple(int(x) for x in re.findall(r"\d+", part[3]))
            found[part[0], part[-1][:-len("_perf.parquet")], part[2]].append((version, part[3], path))
    best = defaultdict(list)
    for (system, op, engine), have in sorted(found.items()):
        _, version, path = max(have)
        best[system, op].append((engine, version, path))
    return best


class Source:
    def __init__(self, repo):
        self.repo, self.files, self.used = repo, newest(repo), []

    def load(self, op):
        parts = []
        for (system, what), files in self.files.items():
            for engine, version, path in files if what == op else ():
                table = pd.read_parquet(io.BytesIO(git(self.repo, "show", "HEAD:" + path)))
                table["system"], table["engine"] = system, engine
                parts.append(table)
                self.used.append((system, op, engine, version, len(table)))
        rows = pd.concat(parts, ignore_index=True)
        if "latency" in rows:
            rows["t"] = rows.latency * 1e-3
        return rows


def peak(rows, types):
    which = types.map(lambda t: TYPES[t][2])
    return np.array([(SPEC[s][w] or SPEC[s][0]) * 1e12 for s, w in zip(rows.system, which)])


def bandwidth(rows):
    return rows.system.map(lambda s: SPEC[s][4] * 1e12)


def possible(rows, sol):
    rows = rows.assign(u=sol / rows.t)
    return rows[(rows.u <= MOST) & (rows.u > 0)]


def rising(table, per_y, per_x):
    """Time never falls with size: utilisation grows at most as fast as the roofline's time, per grid step."""
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            if i:
                table[i, j] = min(table[i, j], table[i - 1, j] + per_y)
            if j and per_x:
                table[i, j] = min(table[i, j], table[i, j - 1] + per_x)
    return table


def grid(rows, keys, y, x, ys, xs, out, name, per_x=None):
    """One CSV line per (keys, y grid point): floor in us, then the median utilisation at each x grid point."""
    worst = []
    with open(os.path.join(out, name + ".csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write(",".join([*keys, "floor_us", y, *(f"{x}_{v:g}" for v in xs)]) + "\n")
        for key, group in rows.groupby(keys, sort=True):
            table = np.full((len(ys), len(xs)), np.nan)
            gy, gx = group[y].to_numpy(), group[x].to_numpy()
            lu = np.log(group.u.to_numpy())
            for i, v in enumerate(ys):
                dy = np.abs(gy - v) <= (ys[1] - ys[0]) / 2
                for j, w in enumerate(xs):
                    sel = lu[dy & (np.abs(gx - w) <= (xs[1] - xs[0]) / 2)]
                    if len(sel) >= 3:
                        table[i, j] = np.median(sel)
            if np.isnan(table).all():
                continue
            table = filled(table)
            if per_x is not None:
                table = rising(table, (ys[1] - ys[0]) * np.log(2), per_x)
            guess = bilinear(table, ys, xs, gy, gx)
            worst.append(np.abs(np.expm1(lu - guess)))
            floor = group.t.quantile(.02) * 1e6
            for i, v in enumerate(ys):
                file.write(",".join([*key, f"{floor:.3g}", f"{v:g}", *(f"{np.exp(u):.3g}" for u in table[i])]) + "\n")
    miss = np.concatenate(worst)
    print(f"{name}: {len(miss)} rows, median error {np.median(miss):.3f}, P90 {np.quantile(miss, .9):.3f}")


def filled(table):
    """Empty cells take the nearest value along the row, then along the column."""
    for lines in (table, table.T):
        for line in lines:
            have = np.flatnonzero(~np.isnan(line))
            if len(have):
                near = have[np.abs(np.arange(len(line))[:, None] - have[None, :]).argmin(1)]
                line[:] = line[near]
    return table


def bilinear(table, ys, xs, y, x):
    fy = np.clip((y - ys[0]) / (ys[1] - ys[0]), 0, len(ys) - 1.000001)
    fx = np.clip((x - xs[0]) / (xs[1] - xs[0]), 0, len(xs) - 1.000001)
    i, j = fy.astype(int), fx.astype(int)
    a, b = fy - i, fx - j
    return (1 - a) * ((1 - b) * table[i, j] + b * table[i, j + 1]) + a * ((1 - b) * table[i + 1, j] + b * table[i + 1, j + 1])


def gemm(source, out):
    r = source.load("gemm")
    # vLLM's block-scaled products were timed with their Python around them: 50 to 295 us where others take 2 to 12.
    r = r[~((r.engine == "vllm") & (r.gemm_dtype == "fp8_block"))]
    r = r.groupby(["system", "gemm_dtype", "m", "n", "k"], as_index=False).t.min()
    wb, ab = (r.gemm_dtype.map(lambda t, i=i: TYPES[t][i]) for i in (0, 1))
    m, n, k = (r[c].astype(float) for c in "mnk")
    r = possible(r, np.maximum(2 * m * n * k / peak(r, r.gemm_dtype), (n * k * wb + m * k * ab + 2 * m * n) / bandwidth(r)))
    r = r.assign(type=r.gemm_dtype.map(lambda t: NAMES.get(t, t)), log2_nk=np.log2(r.n.astype(float) * r.k), log2_m=np.log2(r.m))
    grid(r, ["system", "type"], "log2_nk", "log2_m", np.arange(14, 33, 1.), np.arange(0, 16, 1.), out, "gemm")


def decode_attention(source, out):
    r = source.load("generation_attention")
    w = r.window_size.fillna(0)
    length = (r.isl + r.step).astype(float)
    r["past"] = np.where(w > 0, np.minimum(length, w), length)
    keys = ["system", "kv_cache_dtype", "batch_size", "num_heads", "num_key_value_heads", "head_dim", "past"]
    r = r.groupby(keys, as_index=False).t.min()
    b, h = r.batch_size.astype(float), r.head_dim.astype(float)
    kv = 2 * b * r.num_key_value_heads * r.past * h * np.where(r.kv_cache_dtype == "fp8", 1, 2)
    peaks = r.system.map(lambda s: SPEC[s][0] * 1e12)
    r = possible(r, np.maximum((kv + 4 * b * r.num_heads * h) / bandwidth(r), 4 * b * r.num_heads * h * r.past / peaks))
    r = r.assign(type=r.kv_cache_dtype.map(lambda t: NAMES.get(t, t)), log2_kv_bytes=np.log2(kv[r.index]), log2_past=np.log2(r.past))
    grid(r, ["system", "type"], "log2_kv_bytes", "log2_past", np.arange(12, 34, 1.), np.arange(4, 18, 2.), out, "decode_attention", 0)


def prefill_attention(source, out):
    r = source.load("context_attention")
    r = r[r.window_size.fillna(0) == 0]
    keys = ["system", "attn_dtype", "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim"]
    r = r.groupby(keys, as_index=False).t.min()
    b, s, n, h = (r[c].astype(float) for c in ("batch_size", "isl", "num_heads", "head_dim"))
    kv = np.where(r.num_key_value_heads == 0, n, r.num_key_value_heads)
    r["pair"] = b * n
    r = possible(r, np.maximum(2 * b * n * s * s * h / peak(r, r.attn_dtype), (4 * b * n * s * h + 4 * b * kv * s * h) / bandwidth(r)))
    r = r.assign(type=r.attn_dtype.map(lambda t: NAMES.get(t, t)), log2_pair=np.log2(r.pair), log2_new=np.log2(r.isl))
    r = r[r.isl >= 16]
    grid(r[r.head_dim >= 128], ["system", "type"], "log2_pair", "log2_new", np.arange(0, 15, 2.), np.arange(4, 15, 1.), out, "prefill_attention", np.log(4))
    grid(r[r.head_dim == 64], ["system", "type"], "log2_pair", "log2_new", np.arange(0, 15, 2.), np.arange(4, 15, 1.), out, "prefill_attention_64", np.log(4))


def mla(source, out):
    r = source.load("generation_mla")
    r["past"] = (r.isl + r.step).astype(float)
    r = r.groupby(["system", "kv_cache_dtype", "num_heads", "batch_size", "past"], as_index=False).t.min()
    b, n = r.batch_size.astype(float), r.num_heads.astype(float)
    kv = b * r.past * 576 * np.where(r.kv_cache_dtype == "fp8", 1, 2)
    peaks = r.system.map(lambda s: SPEC[s][0] * 1e12)
    r = possible(r, np.maximum(kv / bandwidth(r), 2 * b * n * r.past * (576 + 512) / peaks))
    r = r.assign(type=r.kv_cache_dtype.map(lambda t: NAMES.get(t, t)), log2_kv_bytes=np.log2(kv[r.index]), log2_heads=np.log2(r.num_heads))
    grid(r, ["system", "type"], "log2_kv_bytes", "log2_heads", np.arange(14, 34, 1.), np.arange(0, 8, 1.), out, "decode_mla", 0)
    r = source.load("context_mla")
    r = r[r.step == 0].groupby(["system", "num_heads", "batch_size", "isl"], as_index=False).t.min()
    b, n, s = r.batch_size.astype(float), r.num_heads.astype(float), r.isl.astype(float)
    peaks = r.system.map(lambda x: SPEC[x][0] * 1e12)
    # Keys of 192, values of 128: (192 + 128) multiply-adds a pair, half of the square.
    r = possible(r, np.maximum(b * n * s * s * 320 / peaks, 2 * b * n * s * (2 * 192 + 2 * 128) / bandwidth(r)))
    r = r.assign(type="bf16", log2_pair=np.log2(r.batch_size * r.num_heads), log2_new=np.log2(r.isl))
    grid(r, ["system", "type"], "log2_pair", "log2_new", np.arange(0, 15, 2.), np.arange(4, 15, 1.), out, "prefill_mla", np.log(4))


def moe(source, out):
    """Experts differ too much by shape for one curve: a line a shape, microseconds at powers of four tokens."""
    r = source.load("moe")
    r = r[~r.kernel_source.str.contains("nongated") & (r.distribution == "power_law_1.01")]
    r = r[((r.moe_tp_size == 1) | (r.moe_ep_size == 1)) & (r.moe_tp_size * r.moe_ep_size <= 16) & ~r.system.isin(["gb200", "gb300"])]
    wb, ab = (r.moe_dtype.map(lambda t, i=i: TYPES[t][i]) for i in (0, 1))
    t, e, k = (r[c].astype(float) for c in ("num_tokens", "num_experts", "topk"))
    shard = r.moe_tp_size * r.moe_ep_size * 1.0
    # Routing that is uneven touches fewer experts than uniform routing would, hence weights once at most as a bound.
    size = 3.0 * r.hidden_size * r.inter_size
    r = possible(r, np.maximum(2 * t * k * size / shard / peak(r, r.moe_dtype), k * size * wb / shard / r.moe_ep_size / bandwidth(r)))
    r = r.assign(type=r.moe_dtype.map(lambda x: NAMES.get(x, x)), inter_rank=r.inter_size // r.moe_tp_size)
    keys = ["system", "engine", "type", "hidden_size", "inter_rank", "topk", "num_experts", "moe_ep_size"]
    r = r.groupby([*keys, "num_tokens"], as_index=False).t.min()
    xs = list(range(0, 15, 2))
    n = 0
    with open(os.path.join(out, "moe.csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write("system,engine,type,hidden,inter_rank,topk,experts,ep," + ",".join(f"us_log2_tokens_{x}" for x in xs) + "\n")
        for key, group in r.groupby(keys, sort=True):
            line = group.sort_values("num_tokens")
            x, y = np.log2(line.num_tokens.to_numpy()), np.log(line.t.to_numpy() * 1e6)
            if len(x) < 5 or x[0] > 2 or x[-1] < 11:
                continue
            slope = min(1.0, max(0.0, (y[-1] - y[-2]) / (x[-1] - x[-2]) / np.log(2))) * np.log(2)
            cell = [np.interp(v, x, y) if v <= x[-1] else y[-1] + slope * (v - x[-1]) for v in xs]
            file.write(",".join(str(v) for v in key) + "," + ",".join(f"{np.exp(c):.3g}" for c in cell) + "\n")
            n += 1
    print(f"moe: {n} shapes")


def collectives(source, out):
    a = source.load("custom_allreduce")
    graph = ~a.kernel_source.str.contains("eager")
    a = a[graph | (a.system == "b60")].assign(op="all_reduce_graph", log2_bytes=np.log2(a.message_size.astype(float) * 2))
    n = source.load("nccl")
    n = n[n.nccl_dtype == "half"].assign(op=n.op_name, log2_bytes=np.log2(n.message_size.astype(float) * 2))
    r = pd.concat([a, n])[["system", "op", "num_gpus", "log2_bytes", "t"]]
    r = r.groupby(["system", "op", "num_gpus", "log2_bytes"], as_index=False).t.min()
    xs = list(range(9, 32, 2))
    with open(os.path.join(out, "collectives.csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write(",".join(["system", "op", "num_gpus", *(f"us_log2_bytes_{x}" for x in xs)]) + "\n")
        for (system, op, gpus), group in r.groupby(["system", "op", "num_gpus"], sort=True):
            line = group.sort_values("log2_bytes")
            x, y = line.log2_bytes.to_numpy(), np.log(line.t.to_numpy() * 1e6)
            grow = (y[-1] - y[-3]) / (x[-1] - x[-3])
            cell = [np.interp(v, x, y) if v <= x[-1] else y[-1] + (v - x[-1]) * max(grow, np.log(2)) for v in xs]
            file.write(f"{system},{op},{gpus}," + ",".join(f"{np.exp(c):.3g}" for c in cell) + "\n")
    d = source.load("wideep_deepep_ll")
    d["us"] = d.dispatch_avg_t_us + d.combine_avg_t_us
    d["gpus"] = d.node_num * 8
    with open(os.path.join(out, "deepep.csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write("system,num_gpus,hidden,topk,tokens,dispatch_us,combine_us\n")
        for key, g in d.groupby(["system", "gpus", "hidden_size", "num_topk", "num_token"], sort=True):
            if key[3] == 8 and key[2] == 7168:
                file.write(",".join(str(v) for v in key) + f",{g.dispatch_avg_t_us.median():.3g},{g.combine_avg_t_us.median():.3g}\n")


def main():
    repo, out = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    source = Source(repo)
    for work in (gemm, decode_attention, prefill_attention, mla, moe, collectives):
        work(source, out)
    with open(os.path.join(out, "systems.csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write("system,gpus,capability,bf16_tflops,fp8_tflops,fp4_tflops,int8_tops,mem_tb_per_s\n")
        for system, row in SPEC.items():
            file.write(",".join([system, *CARDS[system], *(f"{v:g}" for v in row)]) + "\n")
    with open(os.path.join(out, "sources.csv"), "w", encoding="utf-8", newline="\n") as file:
        file.write("system,op,engine,version,rows\n")
        for row in source.used:
            file.write(",".join(str(v) for v in row) + "\n")
    print(git(repo, "rev-parse", "HEAD").decode().strip())


if __name__ == "__main__":
    main()
