#!/usr/bin/env python3
"""plan, up, bench, watch, verify, calibrate, down: with llama.cpp itself, on this machine, and a model of true shapes and dummy
weights. What was predicted is printed beside what was measured. Memory must agree to 3 %; speed is only printed: a machine
that tests is seldom quiet.

usage: end_to_end.py PLIMSOLL BUILD-FOLDER [MODEL [OPTION…]]
LLAMA_SERVER names the engine's program; else it is found through PATH where there is a GPU, else it is Debian's package.
Exit 77 where no engine can be had.
"""
import csv
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

PLIMSOLL, BUILD = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MODEL = sys.argv[3:4] or ["HuggingFaceTB/SmolLM2-135M"]
# Debian's engine is built without GGML_LLAMAFILE: of the plain types it has tiles for this one alone
OPTIONS = sys.argv[4:] or ["--quant", "q4_0"]
HERE = os.path.dirname(os.path.abspath(__file__))
LOAD = ["--requests", "3", "--prompt", "64", "--answer", "12"]
SKIPPED = 77


def has_gpu():
    with tempfile.TemporaryDirectory() as folder:
        facts = os.path.join(folder, "plan.json")
        with open(facts, "w", encoding="utf-8") as f:
            subprocess.run([PLIMSOLL, "plan", *MODEL, "--json"], stdout=f, stderr=subprocess.DEVNULL, check=False)
        with open(facts, encoding="utf-8") as f:
            return bool(json.load(f)["memory"]["devices"])


def find_engine(folder):
    """A program called llama-server, as `up --program` wants it."""
    given = os.environ.get("LLAMA_SERVER") or (shutil.which("llama-server") if has_gpu() else None)
    if given:
        return given
    if has_gpu():
        print("end_to_end: a GPU, and no llama-server of its kind: name one with LLAMA_SERVER", file=sys.stderr)
        sys.exit(SKIPPED)
    code = subprocess.run([os.path.join(HERE, "get-llama"), os.path.join(BUILD, "llama.cpp")], check=False).returncode
    if code:
        sys.exit(code)
    path = os.path.join(folder, "llama-server")
    with open(path, "w", encoding="utf-8") as f:
        # threads that sleep instead of spinning: others test beside
        f.write(f'#!/bin/sh\nOMP_WAIT_POLICY=passive exec "{BUILD}/llama.cpp/run" llama-server "$@"\n')
    os.chmod(path, 0o755)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def shown(metric, value):
    if value is None:
        return "-"
    return f"{value / 2**20:.2f} MiB" if "bytes" in metric else f"{value:.4g}"


class EndToEnd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.program = find_engine(cls.folder)
        cls.model = os.path.join(cls.folder, "model.gguf")
        cls.plimsoll("synth", *MODEL, *OPTIONS, "--sparse", "-o", cls.model)
        cls.port = free_port()
        cls.asked = [cls.model, "-c", "1024", "-n", "2", "--prompt-tokens", "64"]
        cls.plan = json.loads(cls.plimsoll("plan", *cls.asked, "--json"))
        cls.addClassCleanup(cls.plimsoll, "down", "one", fails=True)
        cls.up = json.loads(cls.plimsoll("up", *cls.asked, "--name", "one", "--port", str(cls.port), "--program", cls.program, "--json"))
        cls.shared = os.path.join(cls.folder, "shared.csv")
        cls.truth = json.loads(cls.plimsoll("verify", "one", *LOAD, "--share", cls.shared, "--json"))

    @classmethod
    def plimsoll(cls, *words, fails=False):
        env = {**os.environ, "PLIMSOLL_STATE": os.path.join(cls.folder, "state"), "LC_ALL": "C.UTF-8"}
        r = subprocess.run([PLIMSOLL, *words], capture_output=True, text=True, timeout=240, cwd=cls.folder, env=env, check=False)
        if r.returncode and not fails:
            raise AssertionError(f"plimsoll {' '.join(words)}: {r.returncode}\n{r.stdout}{r.stderr}")
        return r.stdout

    def check(self, metric, where=None):
        found = [c for c in self.truth["checks"] if c["metric"] == metric and (where is None or c["where"] == where)]
        self.assertTrue(found, f"{metric} was not verified")
        return found[0]

    def test_1_the_table(self):
        print(f"\n{self.plan['model']['name']}, {self.plan['model']['quantization']}, on {self.plan['hardware']}; "
              f"{self.plan['engine']}, answers after {self.up['ready_after_s']:.1f} s")
        print(f"  {'':16} {'':16} {'by':7} {'predicted':>12} {'measured':>12} {'error':>9}")
        for c in self.truth["checks"]:
            error = "-" if c["error_frac"] is None else f"{100 * c['error_frac']:+.2f} %"
            interval = f"   80 %: {c['low']:.4g} to {c['high']:.4g}" if c["low"] is not None else ""
            print(f"  {c['metric']:16} {c['where'] or '':16} {c['source']:7} {shown(c['metric'], c['predicted']):>12} "
                  f"{shown(c['metric'], c['measured']):>12} {error:>9}{interval}" + (f"\n    {c['cause']}" if c["cause"] else ""))

    def test_memory(self):
        by_log = [c for c in self.truth["checks"] if c["source"] == "log" and c["metric"].endswith("_bytes")]
        self.assertEqual({c["metric"] for c in by_log}, {"model_bytes", "context_bytes", "compute_bytes"})
        for c in by_log:
            self.assertLessEqual(abs(c["error_frac"]), 0.03, c)
        self.assertTrue(self.check("resident_bytes")["within"], self.check("resident_bytes"))

    def test_speed_stands_beside_an_interval(self):
        for metric in ("decode_tok_s", "prefill_tok_s", "ttft_s"):
            c = self.check(metric)
            self.assertGreater(c["measured"], 0)
            self.assertLess(c["low"], c["predicted"])
            self.assertLess(c["predicted"], c["high"])
            self.assertEqual(c["within"], c["low"] <= c["measured"] <= c["high"])
            self.assertAlmostEqual(c["predicted"], self.plan["speed"][metric]["median"], delta=1e-9 * c["predicted"])

    @unittest.skipIf("--layers" in OPTIONS, "a model of fewer layers is none of the catalogue")
    def test_what_is_shared_can_be_fitted(self):
        with open(self.shared, encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
        with open(os.path.join(os.path.dirname(os.path.dirname(HERE)), "data/measurements/local_perf.csv"), encoding="utf-8") as f:
            self.assertEqual(list(rows[0]), next(csv.reader(f)))
        self.assertEqual(rows[0]["test"], "gen12")
        self.assertRegex(rows[1]["test"], "^prefill[5-7][0-9]$")
        self.assertTrue(all(r["build"].startswith("b") and r["backend"] for r in rows), rows)
        self.assertNotIn(self.folder, str(rows))
        scored = os.path.join(self.folder, "rows.csv")
        self.plimsoll("validate", self.shared, "--rows", scored)
        with open(scored, encoding="utf-8", newline="") as f:
            for r in csv.DictReader(f):
                self.assertNotEqual(r["status"], "unmapped", r)
        mine = os.path.join(self.folder, "mine.csv")
        self.plimsoll("calibrate", self.shared, "-o", mine)
        fitted = json.loads(self.plimsoll("plan", *self.asked, "--calibration", mine, "--json"))
        measured = self.check("decode_tok_s")["measured"]
        before, after = (abs(math.log(p["speed"]["decode_tok_s"]["median"] / measured)) for p in (self.plan, fitted))
        self.assertLess(after, before + 1e-9)

    def test_bench_and_watch(self):
        env = {**os.environ, "PLIMSOLL_STATE": os.path.join(self.folder, "state")}
        p = subprocess.Popen([PLIMSOLL, "bench", "one", "--requests", "1", "--warmup", "0", "--prompt", "16", "--answer", "48", "--json"],
                             env=env, stdout=subprocess.PIPE, text=True)
        seen = []
        until = time.monotonic() + 60
        while p.poll() is None and time.monotonic() < until:
            seen.append(json.loads(self.plimsoll("watch", "one", "--once", "--json")))
        out, _ = p.communicate(timeout=120)
        self.assertEqual(p.returncode, 0)
        self.assertEqual(json.loads(out)["loads"][0]["n_ok"], 1, out)
        busy = [s for s in seen if s["engine"]["phase"] == "generating"]
        self.assertTrue(busy, seen)
        self.assertGreater(busy[0]["host"]["engine_rss_bytes"], 0)
        self.assertAlmostEqual(busy[0]["engine"]["planned_decode_tok_s"], self.plan["speed"]["decode_tok_s"]["median"])
        after = json.loads(self.plimsoll("watch", "one", "--once", "--json"))
        self.assertEqual(after["engine"]["phase"], "loaded")
        self.assertGreaterEqual(after["engine"]["generated_tokens"], 48)

    def test_its_log_is_enough(self):
        log = json.loads(self.plimsoll("verify", "--log", self.up["log"], *self.asked, "--json"))
        kept = {(c["metric"], c["where"]): c for c in log["checks"]}
        for c in self.truth["checks"]:
            if c["source"] == "log":
                self.assertEqual(kept[c["metric"], c["where"]]["measured"], c["measured"])

    def test_z_ends(self):
        self.assertEqual(json.loads(self.plimsoll("status", "one", "--json"))[0]["state"], "ready")
        self.plimsoll("down", "one")
        self.assertEqual(json.loads(self.plimsoll("status", "--json")), [])
        if os.path.exists(f"/proc/{self.up['pid']}/status"):  # only as a name that nobody has asked for yet
            with open(f"/proc/{self.up['pid']}/status", encoding="utf-8") as f:
                self.assertIn("State:\tZ", f.read())
        with socket.socket() as s:
            self.assertNotEqual(s.connect_ex(("127.0.0.1", self.port)), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
