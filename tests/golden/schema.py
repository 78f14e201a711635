#!/usr/bin/env python3
"""What --json prints follows docs/*.schema.json, over plans of every kind, and numbers in it agree with each other.

usage: schema.py PLIMSOLL
"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:  # a python of the user's own, without the system's packages
    if sys.executable == "/usr/bin/python3" or not os.path.exists("/usr/bin/python3"):
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLIMSOLL = os.path.abspath(sys.argv[1])
FAULTS = []

PLANS = [
    ["Qwen/Qwen3-32B", "--quant", "gptq-int4", "--on", "2x v100-sxm2-16gb, nvlink, ram 64GiB"],
    ["Qwen/Qwen3-32B", "--quant", "q4_k_m", "--on", "rtx4090, ram 64GiB", "--context", "32768", "--concurrency", "4"],
    ["deepseek-ai/DeepSeek-R1", "--on", "8x h200-sxm", "--context", "65536"],
    ["deepseek-ai/DeepSeek-R1", "--quant", "q4_k_m", "--on", "2x rtx3090, ram 64GiB"],
    ["openai/gpt-oss-120b", "--on", "gpu-24GiB"],
    ["Qwen/Qwen3-Next-80B-A3B-Instruct", "--quant", "q4_k_m", "--on", "2x rtx3090, ram 128GiB"],
    ["Qwen/Qwen3-8B", "--quant", "bf16", "--on", "cpu, ram 32GiB"],
    ["google/gemma-3-27b-it", "--quant", "q8_0", "--on", "mi300x, ram 256GiB"],
    ["openai/whisper-large-v3", "--on", "rtx4090"],
    ["model.gguf", "--on", "gpu-6GiB, ram 16GiB", "--gpu-layers", "999", "--context", "65536"],
    ["model.gguf", "--on", "cpu, ram 1GiB", "--no-mmap"],
    ["model.gguf"],
]
OTHERS = {
    "inspect": [["model.gguf"], ["model.gguf", "--tensors"], ["Qwen/Qwen3-32B"], ["unknown.gguf", "--tensors"]],
    "validate": [[os.path.join(ROOT, "data/measurements/serving_memory.csv")], [os.path.join(ROOT, "data/models/gguf_tensor_sums.csv")]],
    "synth": [["llama3.2-1b", "--quant", "q8_0", "--sparse", "-o", "one.gguf"]],
    "show": [["gpu"], ["gpu", "h100-sxm"], ["gpu", "m4-max"], ["node"], ["node", "dgx-h200"], ["cloud"], ["cloud", "aws:p5.48xlarge"], ["host"],
             ["host", "epyc-9004"], ["link"], ["link", "pcie4-x16"], ["precision", "volta"], ["model"], ["model", "Qwen/Qwen3-32B"], ["engine"],
             ["engine", "llama.cpp"], ["quant"]],
}


def sums(plan):
    """Members that must agree, whatever the engine."""
    memory = plan["memory"]
    for d in memory["devices"] + [memory["host"]]:
        if d["kv_bytes"] + d["state_bytes"] != d["context_bytes"]:
            yield f"{d.get('name', 'host')}: context is not KV and state"
    for d in memory["devices"]:
        if d["used_bytes"] != d["model_bytes"] + d["context_bytes"] + d["compute_bytes"] + d["overhead_bytes"]:
            yield f"{d['name']}: used is not the sum of its causes"
        if d["free_bytes"] != max(0, d["total_bytes"] - d["used_bytes"]):
            yield f"{d['name']}: free is not what is left"
    if memory["fits"] != (memory["missing_bytes"] == 0):
        yield "fits and missing_bytes disagree"
    if (plan["command"] is None) != (not plan["argv"]):
        yield "command and argv disagree"


def run(folder, command, words):
    return subprocess.run([PLIMSOLL, command, *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=60)


def check(folder, command, words, schema):
    out = run(folder, command, words)
    what = f"{command} {' '.join(words)}"
    if out.returncode not in (0, 1) or (out.returncode == 1 and command != "plan"):
        FAULTS.append(f"{what}: exit {out.returncode}: {out.stderr.strip()}")
        return
    value = json.loads(out.stdout)
    for fault in schema.iter_errors(value):
        FAULTS.append(f"{what}: {'/'.join(str(p) for p in fault.absolute_path)}: {fault.message[:300]}")
    if command == "plan":
        FAULTS.extend(f"{what}: {fault}" for fault in sums(value))
        if (value["verdict"] == "does_not_fit") != (out.returncode == 1):
            FAULTS.append(f"{what}: exit {out.returncode} with verdict {value['verdict']}")


def main():
    n = 0
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run([PLIMSOLL, "synth", "llama3.1-8b", "--quant", "q4_k_m", "--sparse", "-o", "model.gguf"], cwd=folder,
                              capture_output=True, check=True)
        assert made.returncode == 0
        os.symlink(os.path.join(ROOT, "tests/fuzz/corpus/gguf/y_unknown_architecture"), os.path.join(folder, "unknown.gguf"))
        for command, cases in {"plan": PLANS, **OTHERS}.items():
            with open(os.path.join(ROOT, f"docs/{command}.schema.json"), encoding="utf-8") as f:
                rules = json.load(f)
            kind = jsonschema.validators.validator_for(rules)
            kind.check_schema(rules)
            for words in cases:
                check(folder, command, words, kind(rules))
                n += 1
    for fault in FAULTS:
        print(fault)
    print(f"{n} results, {len(FAULTS)} faults")
    sys.exit(1 if FAULTS else 0)


if __name__ == "__main__":
    main()
