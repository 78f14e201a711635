#!/usr/bin/env python3
"""Predictions against the tables that ship with the source: what must hold, row by row, and what hostile tables must not do.

usage: run.py PLIMSOLL DATA_DIR
"""
import csv
import functools
import json
import os
import subprocess
import sys
import tempfile

PLIMSOLL, DATA = sys.argv[1], sys.argv[2]
FAULTS: list[str] = []


def check(holds: bool, what: str) -> None:
    if not holds:
        FAULTS.append(what)


def validate(table: str, rows: str = "", *more: str) -> tuple[int, str, str]:
    words = [PLIMSOLL, "validate", table, *more] + (["--rows", rows] if rows else [])
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@functools.cache
def rows_of(table: str) -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "rows.csv")
        code, _, talk = validate(table, out)
        check(code == 0, f"{table}: exit {code}: {talk}")
        check(os.listdir(folder) == ["rows.csv"], f"{table}: something lies beside the rows")
        with open(out, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def error(row: dict[str, str]) -> float:
    return abs(float(row["predicted"]) - float(row["measured"])) / abs(float(row["measured"]))


def count_rows(table: str) -> int:
    with open(table, newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def every_row_is_there() -> None:
    """Nothing is dropped: each row of a table has a line, each line that is not predicted a reason."""
    for name in ("measurements/llamacpp_memory.csv", "measurements/serving_memory.csv", "models/gguf_sizes.csv",
                 "models/safetensors_sizes.csv", "models/gguf_tensor_sums.csv", "models/models.csv", "measurements/startup.csv",
                 "measurements/served_power.csv", "measurements/power_perf.csv"):
        table = os.path.join(DATA, name)
        lines = rows_of(table)
        check(len({line["id"] for line in lines}) == count_rows(table), f"{name}: rows are missing")
        for line in lines:
            check(line["status"] in ("ok", "flagged", "unmapped"), f"{name}: {line['id']}: status {line['status']}")
            check(line["status"] == "ok" or line["reason"] != "", f"{name}: {line['id']}: no reason")


def parameters() -> None:
    """Every published count within 0.1 %, or explained in the data."""
    lines = rows_of(os.path.join(DATA, "models/models.csv"))
    predicted = [line for line in lines if line["status"] == "ok"]
    check(len(predicted) >= 300, f"only {len(predicted)} counts are compared")
    for line in predicted:
        check(error(line) <= 0.001, f"{line['id']}: {line['predicted']} parameters, {line['measured']} published")


def weights() -> None:
    """Tensor bytes of 16-bit and 8-bit GGUF files within 0.1 %; whole repositories likewise in nine of ten rows."""
    for line in rows_of(os.path.join(DATA, "models/gguf_tensor_sums.csv")):
        if line["status"] == "ok":
            check(error(line) <= 0.001, f"gguf_tensor_sums: {line['id']}: {line['metric']} off by {error(line):.2%}")
    for name, least in (("models/safetensors_sizes.csv", 0.9), ("models/gguf_sizes.csv", 0.5)):
        lines = [line for line in rows_of(os.path.join(DATA, name)) if line["status"] == "ok"]
        near = sum(error(line) <= 0.001 for line in lines)
        check(near >= least * len(lines), f"{name}: {near} of {len(lines)} within 0.1 %")


def caches() -> None:
    """Caches of llama.cpp's own logs equal the printed buffers: half of the last printed digit for each device."""
    lines = [line for line in rows_of(os.path.join(DATA, "measurements/llamacpp_memory.csv"))
             if line["metric"] == "context_bytes" and line["status"] == "ok" and "engine=llama.cpp;" in line["class"]]
    check(len(lines) >= 15, f"only {len(lines)} caches are compared")
    for line in lines:
        check(abs(float(line["predicted"]) - float(line["measured"])) <= 0.02 * 2**20,
              f"{line['id']}: context {line['predicted']}, printed {line['measured']}")


def quantile(values: list[float], q: float) -> float:
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def pools() -> None:
    """vLLM's cache in tokens, where the log states enough: median error at most 1 %, nine of ten within 5 %; and the summary
    says what the rows say."""
    table = os.path.join(DATA, "measurements/serving_memory.csv")
    errors = [error(line) for line in rows_of(table)
              if line["metric"] == "kv_cache_tokens" and line["status"] == "ok" and "engine=vllm;" in line["class"]]
    check(len(errors) >= 12, f"only {len(errors)} pools are compared")
    check(quantile(errors, 0.5) <= 0.01, f"pools: median error {quantile(errors, 0.5):.2%}")
    check(quantile(errors, 0.9) <= 0.05, f"pools: P90 error {quantile(errors, 0.9):.2%}")
    summed = [c for c in json.loads(validate(table, "", "--json")[1])["accuracy"]
              if c["metric"] == "kv_cache_tokens" and c["class"] == "engine=vllm"]
    check(len(summed) == 1 and summed[0]["n_ok"] == len(errors), "the summary counts other rows")
    check(abs(summed[0]["median_error_frac"] - quantile(errors, 0.5)) < 1e-9, "the summary has another median")
    check(abs(summed[0]["p90_error_frac"] - quantile(errors, 0.9)) < 1e-9, "the summary has another P90")


def printed_weights() -> None:
    """Weights of llama.cpp's own logs in a plain precision, devices and host, to a tenth of a percent."""
    for line in rows_of(os.path.join(DATA, "measurements/llamacpp_memory.csv")):
        if line["metric"] in ("model_bytes", "host_model_bytes") and line["status"] == "ok" and "engine=llama.cpp;" in line["class"]:
            check(error(line) <= 0.001, f"{line['id']}: {line['metric']} {line['predicted']}, printed {line['measured']}")


def compute() -> None:
    """Compute buffers of llama.cpp's own logs: median error at most 2 %."""
    errors = [error(line) for line in rows_of(os.path.join(DATA, "measurements/llamacpp_memory.csv"))
              if line["metric"] == "compute_bytes" and line["status"] == "ok" and "engine=llama.cpp;" in line["class"]]
    check(len(errors) >= 8, f"only {len(errors)} compute buffers are compared")
    check(quantile(errors, 0.5) <= 0.02, f"compute buffers: median error {quantile(errors, 0.5):.2%}")


def errors_of(name: str, metric: str) -> list[float]:
    found = [error(r) for r in rows_of(os.path.join(DATA, name)) if r["metric"] == metric and r["status"] == "ok"]
    check(len(found) > 5, f"{name}: {metric}: {len(found)} predicted")
    return found or [9.9]


def watts_and_starts() -> None:
    """Bounds a little above today's errors: watts, speed under a cap over speed without, stages of a start."""
    for name, metric, most in (("served_power", "power_w", 0.18), ("power_perf", "decode_w", 0.15), ("power_perf", "decode_capped_frac", 0.05),
                               ("power_perf", "prefill_capped_frac", 0.05), ("startup", "load_cached_s", 0.15),
                               ("startup", "compile_s", 0.35), ("startup", "compile_cached_s", 0.25), ("startup", "init_s", 0.3)):
        median = quantile(errors_of(f"measurements/{name}.csv", metric), 0.5)
        check(median <= most, f"{name}: {metric}: median error {median:.3f}, at most {most} is expected")


LOCAL = {"source_url": "https://example.org/a", "date": "2026-05-01", "engine": "llama.cpp", "backend": "CUDA", "gpu": "NVIDIA GeForce RTX 3090",
         "n_gpu": "1", "model": "llama 7B", "params_b": "6.74", "quant": "Q4_0", "size_gib": "3.56", "ngl": "99", "test": "tg128", "depth": "0",
         "tok_s": "130"}


def local_rows() -> None:
    """Speeds that contradict each other, physics or the catalogue are named row by row; what is left is predicted."""
    cases = {
        "plain": ({"date": "2026-04-01"}, "ok", ""),
        "once": ({"tok_s": "100"}, "flagged", "apart"), "again": ({"tok_s": "130"}, "flagged", "apart"),
        "too fast": ({"tok_s": "900", "date": "2026-04-02"}, "flagged", "faster than memory"),
        "too fast a prompt": ({"tok_s": "99999", "test": "pp512"}, "flagged", "faster than the card"),
        "unknown card": ({"gpu": "WARP 9"}, "unmapped", "WARP 9"), "unknown model": ({"model": "nobody's", "params_b": "", "size_gib": ""}, "unmapped", "nobody's"),
        "no number": ({"tok_s": "fast"}, "unmapped", "tok_s"), "below zero": ({"tok_s": "-5"}, "flagged", "above zero"),
        "no test": ({"test": "xx"}, "unmapped", "xx"),
        "too large": ({"model": "llama 70B", "params_b": "70.55", "quant": "Q4_K - Medium", "size_gib": "39.6"}, "unmapped", "PCIe"),
        "too large again": ({"model": "llama 70B", "params_b": "70.55", "quant": "Q4_K - Medium", "size_gib": "39.6", "tok_s": "3"}, "unmapped", "PCIe"),
    }
    with open(os.path.join(DATA, "measurements/local_perf.csv"), encoding="utf-8") as file:
        columns = file.readline().strip().split(",")
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, "t.csv"), os.path.join(folder, "out.csv")
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, restval="")
            table.writeheader()
            for name, (cells, _, _) in cases.items():
                table.writerow({**LOCAL, "id": name, **cells})
        code, _, talk = validate(path, out)
        check(code == 0, f"local rows: exit {code}: {talk}")
        with open(out, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                _, status, reason = cases[row["id"]]
                check(row["status"] == status and reason in row["reason"], f"local rows: '{row['id']}': {row['status']}: {row['reason']}")


def hostile() -> None:
    for table in ("llamacpp_memory", "startup", "served_power", "power_perf"):
        hostile_table(table)


def hostile_table(table: str) -> None:
    """Tables that lie: a sentence and the right exit code, or lines with reasons; never a crash, never half a file."""
    with open(os.path.join(DATA, f"measurements/{table}.csv"), encoding="utf-8") as file:
        good = file.read()
    header = good.split("\n", 1)[0]
    columns = header.split(",")
    kept = len(columns) * 3 // 4
    cut = "\n".join(",".join(line.split(",")[:kept]) for line in [header, *(["X1" + "," * (kept - 1)] * 3)])
    cases = {
        "empty": ("", 3), "no header": ("\n\n", 3), "not a table": ("\x00\x01\x02" * 1000, 3), "other columns": ("a,b,c\n1,2,3\n", 3),
        "twice": (header + "," + columns[0] + "\n", 3), "only header": (header + "\n", 0), "missing columns": (cut, 0),
        "short row": (header + "\nX1,2,3\n", 0), "long row": (header + "\n" + "," * 200 + "\n", 0),
        "open quote": (header + '\nX1,"' + good[:5000], 0), "nonsense": (good.replace("4096", "many").replace("CUDA", "WARP9").replace(",1,", ",-7,"), 0),
        "huge": (header + "\n" + ",".join(["1e308"] * len(columns)) + "\n", 0),
        "negative": (header + "\n" + ",".join(["-1"] * len(columns)) + "\n", 0),
        "nan": (header + "\n" + ",".join(["nan"] * len(columns)) + "\n", 0),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (text, want) in cases.items():
            path, out = os.path.join(folder, "t.csv"), os.path.join(folder, "out.csv")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            code, shown, talk = validate(path, out, "--json")
            check(code == want, f"{table}: hostile '{name}': exit {code}, expected {want}: {talk[:200]}")
            check(want == 0 or len(talk.strip().split("\n")) == 1, f"{table}: hostile '{name}': {talk[:200]}")
            if want == 0:
                check(isinstance(json.loads(shown)["n_rows"], int), f"{table}: hostile '{name}': no JSON")
                os.remove(out)
            check(sorted(os.listdir(folder)) == ["t.csv"], f"{table}: hostile '{name}': {os.listdir(folder)}")
        check(validate(os.path.join(folder, "none.csv"))[0] == 4, "a missing file is no exit 4")
        check(validate(os.path.join(DATA, "models/models.csv"), os.path.join(folder, "no", "out.csv"))[0] == 4, "an unwritable file is no exit 4")


for test in (every_row_is_there, parameters, weights, caches, printed_weights, compute, pools, local_rows, watts_and_starts, hostile):
    test()
for fault in FAULTS[:40]:
    print(fault)
sys.exit(1 if FAULTS else 0)
