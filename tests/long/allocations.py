#!/usr/bin/env python3
"""Lets every allocation of a command fail in turn, alone and with all that follow: the program ends with one of its exit codes,
never by a signal, and never claims success without its output.

usage: allocations.py PLIMSOLL FAIL_ALLOC.so [MOST-RUNS-A-COMMAND]
"""
import os
import subprocess
import sys
import tempfile

PLIMSOLL, LIBRARY = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MOST = int(sys.argv[3]) if len(sys.argv) > 3 else 400
CODES = {0, 1, 2, 3, 4, 70}
COMMANDS = [
    ["plan", "model.gguf", "--on", "2x rtx3090, ram 64GiB"],
    ["plan", "model.gguf", "--on", "rtx4090", "--json"],
    ["plan", "Qwen/Qwen3-32B", "--quant", "gptq-int4", "--on", "2x v100-sxm2-16gb, nvlink, ram 64GiB"],
    ["plan", "deepseek-ai/DeepSeek-R1", "--on", "box.yaml", "--json"],
    ["inspect", "model.gguf", "--tensors"],
    ["inspect", "model.gguf", "--json", "--tensors"],
    ["show", "gpu", "4090", "--json"],
    ["show", "model"],
    ["synth", "llama3.2-1b", "--quant", "q8_0", "--sparse", "--force", "-o", "out.gguf"],
]


def run(folder, words, **env):
    return subprocess.run([PLIMSOLL, *words], cwd=folder, capture_output=True, timeout=60,
                          env={**os.environ, "LD_PRELOAD": LIBRARY, "LC_ALL": "C", **env})


def main():
    faults = n_runs = 0
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([PLIMSOLL, "synth", "llama3.1-8b", "--quant", "q4_k_m", "--layers", "4", "--no-vocab", "--sparse", "-o", "model.gguf"],
                       cwd=folder, check=True, capture_output=True)
        with open(os.path.join(folder, "box.yaml"), "w", encoding="utf-8") as f:
            f.write("devices:\n  - name: h200-sxm\n    count: 8\nram: 2TiB\n")
        count = os.path.join(folder, "count")
        for words in COMMANDS:
            good = run(folder, words, COUNT_TO=count)
            with open(count, encoding="utf-8") as f:
                n = int(f.read())
            step = max(1, n // MOST)
            for at in range(1, n + 1, step):
                for on in ("0", "1"):
                    out = run(folder, words, FAIL_AT=str(at), FAIL_ON=on)
                    n_runs += 1
                    bad = out.returncode not in CODES or (out.returncode == good.returncode and out.stdout != good.stdout and words[0] != "plan")
                    bad = bad or (out.returncode not in (0, 1) and not out.stderr.strip())
                    if bad:
                        faults += 1
                        if faults <= 40:
                            print(f"FAIL_AT={at} FAIL_ON={on} {' '.join(words)}: exit {out.returncode}: {out.stderr.decode(errors='replace').strip()[-200:]}")
            print(f"{n:7} allocations, every {step}: {' '.join(words)}", flush=True)
            leftovers = [f for f in os.listdir(folder) if f not in ("model.gguf", "box.yaml", "count", "out.gguf")]
            if leftovers:
                faults += 1
                print("left behind:", leftovers)
    print(f"{n_runs} runs, {faults} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
