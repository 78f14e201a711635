#!/usr/bin/env python3
"""llama.cpp's programs list exactly the flags that our table says they take, each with a value where the table says so.

usage: flags.py BUILD-FOLDER SOURCE-FOLDER      exit 77: the programs cannot be had (tests/engine/get-llama)
"""
import os
import re
import subprocess
import sys

BUILD, ROOT = sys.argv[1], sys.argv[2]
RUN = os.path.join(BUILD, "llama.cpp", "run")
ROW = re.compile(r'X\((\w+), (\w+), "([^"]*)", "([^"]*)", "([^"]*)", (.*)\)$')
NAME = re.compile(r"-{1,2}[A-Za-z][\w.-]*")
BITS = {"P_SERVER": 1, "P_CLI": 2, "P_COMPLETION": 4, "P_PERPLEXITY": 8, "P_FIT": 16, "P_BATCHED": 32, "P_EMBEDDING": 64, "P_IMATRIX": 128,
        "P_MTMD": 256, "P_SPECULATIVE": 512, "P_OTHER": 1024, "P_ALL": 2047}
PROGRAMS = {"llama-server": 1, "llama-cli": 2, "llama-completion": 4, "llama-perplexity": 8, "llama-fit-params": 16,
            "llama-batched-bench": 32, "llama-imatrix": 128, "llama-mtmd-cli": 256}


def table(name):
    rows = []
    with open(os.path.join(ROOT, "src/engine", name), encoding="utf-8") as f:
        for line in f:
            m = ROW.match(line.rstrip())
            if m:
                rows.append((m[2], m[3].split() + m[4].split(), eval(m[6], {}, BITS)))  # pylint: disable=eval-used
    return rows


def listed(program):
    """{name: takes a value} of the lines of --help that start with a flag; the text stands from column 40 on."""
    out = subprocess.run([RUN, program, "--help"], capture_output=True, text=True, check=False).stdout
    flags = {}
    for line in out.splitlines():
        line = line.strip() if program == "llama-bench" else line
        if not NAME.match(line) or line.startswith("-----"):
            continue
        head, at, names = line, 0, []
        while True:
            m = NAME.match(head, at)
            if not m:
                break
            names.append(m[0])
            at = m.end()
            gap = re.match(r",\s*|\s(?=-)", head[at:])
            if not gap:
                break
            at += gap.end()
        rest = head[at:]
        value = bool(rest[:2].strip())
        for name in names:
            flags[name] = flags.get(name, False) or value
    return flags


def compare(program, rows, bit):
    said = listed(program)
    if not said:
        return None
    ours = {name: kind not in ("NONE", "BOOL") for kind, names, bits in rows if bits & bit for name in names}
    faults = [f"{program}: {n} is not in the table" for n in sorted(set(said) - set(ours))]
    faults += [f"{program}: {n} is in the table, not in its help" for n in sorted(set(ours) - set(said))]
    faults += [f"{program}: {n} takes {'a' if said[n] else 'no'} value" for n in sorted(set(said) & set(ours)) if said[n] != ours[n]]
    return faults


def main():
    if subprocess.run([os.path.join(ROOT, "tests/engine/get-llama"), os.path.dirname(RUN)], check=False).returncode:
        print("llama.cpp is not here")
        return 77
    faults, seen = [], 0
    rows = table("llamacpp_flags.def")
    for program, bit in PROGRAMS.items():
        found = compare(program, rows, bit)
        seen += found is not None
        faults += found or []
    found = compare("llama-bench", table("llamabench_flags.def"), 1)
    seen += found is not None
    faults += found or []
    print("\n".join(faults))
    print(f"{seen} programs, {len(faults)} faults")
    return 1 if faults or not seen else 0


sys.exit(main())
