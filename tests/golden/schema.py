#!/usr/bin/env python3
"""What --json prints follows docs/*.schema.json, over plans of every kind, and numbers in it agree with each other.

usage: schema.py PLIMSOLL
"""
import json
import os
import socket
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
    "emit": [[form, "Qwen/Qwen3-8B", "--on", "2x rtx4090, ram 64GiB", "--engine", "vllm"]
             for form in ("compose", "kubernetes", "lws", "systemd", "slurm", "ray", "shell")],
    "doctor": [["--facts", os.path.join(ROOT, "tests/fixtures/facts", name)] for name in ("two_v100.json", "desktop_4090.json")] + [["--no-disk-test"]],
    "gather": [["--no-disk-test"]],
    "status": [[]],
    "watch": [["--once"]],
    "verify": [["--log", "run.log", "model.gguf", "--on", "rtx4090, ram 64GiB"]],
    "calibrate": [["speeds.csv", "-o", "constants.csv"]],
    "bench": [["SERVER/ok", "--requests", "6", "--prompt", "20", "--answer", "8", "--store", "b.db"],
              ["SERVER/slow", "--rate", "20", "--requests", "6", "--prompt", "20", "--answer", "8", "--store", "b.db", "--slo-ttft", "200"],
              ["SERVER/ok", "--sweep", "1,2", "--requests", "4", "--prompt", "20", "--answer", "8", "--store", "b.db"]],
}
SAYS_NO = ("plan", "doctor", "verify")  # exit code 1 is an answer
# Lines as llama.cpp writes them, one of them far from the plan.
LOG = """\
load_tensors:        CUDA0 model buffer size =  4403.49 MiB
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
llama_kv_cache:      CUDA0 KV buffer size =  1024.00 MiB
sched_reserve:      CUDA0 compute buffer size =   900.00 MiB
"""


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
    return subprocess.run([PLIMSOLL, command, *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PLIMSOLL_STATE": os.path.join(folder, "state"), "no_proxy": "*"})


def serve(folder):
    """(process, address) of a server of completions."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    p = subprocess.Popen([sys.executable, os.path.join(ROOT, "tests/bench/server.py"), str(port)], stdout=subprocess.PIPE, cwd=folder)
    p.stdout.readline()
    return p, f"http://127.0.0.1:{port}"


def check(folder, command, words, schema):
    out = run(folder, command, words)
    what = f"{command} {' '.join(words)}"
    if out.returncode not in (0, 1) or (out.returncode == 1 and command not in SAYS_NO):
        FAULTS.append(f"{what}: exit {out.returncode}: {out.stderr.strip()}")
        return
    value = json.loads(out.stdout)
    for fault in schema.iter_errors(value):
        FAULTS.append(f"{what}: {'/'.join(str(p) for p in fault.absolute_path)}: {fault.message[:300]}")
    if command == "plan":
        FAULTS.extend(f"{what}: {fault}" for fault in sums(value))
        if (value["verdict"] == "does_not_fit") != (out.returncode == 1):
            FAULTS.append(f"{what}: exit {out.returncode} with verdict {value['verdict']}")


def prepare(folder):
    """What the cases name: a model, a model of an unknown kind, a log, a small table of speeds."""
    subprocess.run([PLIMSOLL, "synth", "llama3.1-8b", "--quant", "q4_k_m", "--sparse", "-o", "model.gguf"], cwd=folder, capture_output=True, check=True)
    os.symlink(os.path.join(ROOT, "tests/fuzz/corpus/gguf/y_unknown_architecture"), os.path.join(folder, "unknown.gguf"))
    with open(os.path.join(folder, "run.log"), "w", encoding="utf-8") as f:
        f.write(LOG)
    with open(os.path.join(ROOT, "data/measurements/local_perf.csv"), encoding="utf-8") as f:
        head = [next(f) for _ in range(25)]
    with open(os.path.join(folder, "speeds.csv"), "w", encoding="utf-8") as f:
        f.writelines(head)


def main():
    n = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        server, address = serve(folder)
        try:
            for command, cases in {"plan": PLANS, **OTHERS}.items():
                with open(os.path.join(ROOT, f"docs/{command}.schema.json"), encoding="utf-8") as f:
                    rules = json.load(f)
                kind = jsonschema.validators.validator_for(rules)
                kind.check_schema(rules)
                for words in cases:
                    check(folder, command, [w.replace("SERVER", address) for w in words], kind(rules))
                    n += 1
        finally:
            server.terminate()
            server.wait()
    for fault in FAULTS:
        print(fault)
    print(f"{n} results, {len(FAULTS)} faults")
    sys.exit(1 if FAULTS else 0)


if __name__ == "__main__":
    main()
