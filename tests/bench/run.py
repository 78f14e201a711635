#!/usr/bin/env python3
"""The load client against servers that answer and servers that misbehave.

usage: run.py PLIMSOLL
"""
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PLIMSOLL = os.path.abspath(sys.argv[1])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.port = free_port()
        cls.server = cls.start(cls.port)

    @classmethod
    def start(cls, port, *words):
        p = subprocess.Popen([sys.executable, os.path.join(HERE, "server.py"), str(port), *words], stdout=subprocess.PIPE)
        p.stdout.readline()
        cls.addClassCleanup(p.stdout.close)
        cls.addClassCleanup(p.wait)
        cls.addClassCleanup(p.kill)
        return p

    def words(self, how, *words):
        target = how if "://" in how else f"http://127.0.0.1:{self.port}/{how}"
        return [PLIMSOLL, "bench", target, "--prompt", "64", "--answer", "20", "--store", os.path.join(self.folder, "b.db"), "--json", *words]

    def bench(self, how, *words, code=0):
        r = subprocess.run(self.words(how, *words), capture_output=True, text=True, timeout=120)
        self.assertEqual(r.returncode, code, r.stderr)
        return json.loads(r.stdout)["loads"] if r.stdout else r.stderr

    def test_a_model_may_say_anything(self):
        one, = self.bench("nul", "--requests", "2")
        self.assertEqual((one["n_ok"], one["n_failed"]), (2, 0))

    def test_a_short_context(self):
        one, = self.bench("short", "--requests", "2")  # the first request asks for less the second time
        self.assertEqual((one["n_ok"], one["n_failed"]), (2, 0))
        one, = self.bench("short", "--requests", "2", "--prompt", "500")
        self.assertEqual(one["faults"], {"http": 2})

    def test_counts_and_times(self):
        one, = self.bench("ok", "--clients", "4", "--requests", "40")
        self.assertEqual((one["n_ok"], one["n_failed"]), (40, 0))
        self.assertGreater(one["tpot_s"]["p50"], 0.0019)
        self.assertLessEqual(one["ttft_s"]["p50"], one["ttft_s"]["p99"])
        self.assertLess(abs(one["mean_concurrency"] - 4), 0.8)  # Little's law: four clients that never rest
        with sqlite3.connect(os.path.join(self.folder, "b.db")) as db:
            point = db.execute("SELECT max(point) FROM request").fetchone()[0]
            rows = db.execute("SELECT prompt_tokens, output_tokens, fault FROM request WHERE point = ?", (point,)).fetchall()
        self.assertEqual(len(rows), 40)
        self.assertEqual({r[1] for r in rows}, {20})
        # the server counts five tokens for four words: found out, so that prompts have the length asked for
        self.assertTrue(all(abs(r[0] - 64) <= 2 for r in rows), rows[:3])

    def test_open_loop_counts_from_the_planned_time(self):
        one, = self.bench("slow", "--rate", "50", "--requests", "100")
        self.assertEqual(one["n_ok"], 100)
        self.assertGreater(one["ttft_s"]["p50"], 0.3)
        self.assertLess(one["ttft_s"]["p50"], 0.5)  # nobody waits for the one before
        self.assertGreater(one["mean_concurrency"], 10)
        self.assertLess(one["lag_s"]["p50"], 0.01)

    def test_every_fault_by_its_kind(self):
        for how, kind in {"garbage": "garbage", "endless": "endless", "half": "broken", "empty": "empty", "refuse": "http", "error": "garbage"}.items():
            # the first request tells words from tokens; here it must not stand in the way
            r = subprocess.run(self.words(how, "--requests", "4", "--warmup", "0"), capture_output=True, text=True, timeout=60)
            self.assertEqual(r.returncode, 4, how)
            self.assertIn("first request failed", r.stderr)
            self.assertIn(kind, r.stderr)
        one, = self.bench("ok", "--requests", "4", "--timeout", "600")
        self.assertEqual(one["n_failed"], 0)
        drip = subprocess.run(self.words("drip", "--requests", "2", "--timeout", "1"), capture_output=True, text=True, timeout=60)
        self.assertIn("timeout", drip.stderr)

    def test_nothing_there(self):
        self.assertIn("nothing answers", self.bench(f"http://127.0.0.1:{free_port()}", code=4))
        self.assertIn("no engine was started", subprocess.run([PLIMSOLL, "bench", "no-such-name"], capture_output=True, text=True,
                                                               env={**os.environ, "PLIMSOLL_STATE": self.folder}).stderr)

    def test_certificates_are_checked(self):
        cert, key = os.path.join(self.folder, "c.pem"), os.path.join(self.folder, "k.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"],
                       check=True, capture_output=True)
        port = free_port()
        self.start(port, cert, key)
        self.assertIn("nothing answers", self.bench(f"https://127.0.0.1:{port}/ok", code=4))
        self.assertIn("tls", self.bench(f"https://127.0.0.1:{port}/ok", "--model", "m", code=4))
        one, = self.bench(f"https://127.0.0.1:{port}/ok", "--insecure", "--model", "m", "--requests", "4")
        self.assertEqual(one["n_ok"], 4)

    def test_interrupted_sweep_goes_on(self):
        words = self.words("ok", "--sweep", "1,2,3", "--requests", "150", "--seed", "7")
        p = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(400):  # until the first load is kept
            with sqlite3.connect(os.path.join(self.folder, "b.db")) as db:
                try:
                    if db.execute("SELECT count(*) FROM point JOIN run ON run.id = run WHERE config LIKE '%\"seed\":7,%'").fetchone()[0]:
                        break
                except sqlite3.OperationalError:
                    pass
            time.sleep(0.05)
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        out, _ = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 4)
        before = json.loads(out)["loads"]
        self.assertEqual(before[0]["n_ok"], 150)
        self.assertTrue(before[-1]["interrupted"])
        self.assertGreater(before[-1]["n_ok"], 0)  # what was complete is kept
        r = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=60)
        after = json.loads(r.stdout)["loads"]
        self.assertEqual([x["n_ok"] for x in after], [150, 150, 150])
        self.assertEqual(after[0]["wall_s"], before[0]["wall_s"])  # not measured again

    def test_lengths_and_traces(self):
        trace = os.path.join(self.folder, "t.csv")
        with open(trace, "w", encoding="utf-8") as f:
            f.write("arrival_s,prompt_tokens,output_tokens\n10.0,32,5\n10.2,40,6\n10.4,48,7\n")
        one, = self.bench("ok", "--trace", trace, "--rate", "1", "--requests", "3")
        self.assertEqual(one["n_ok"], 3)
        self.assertGreater(one["wall_s"], 0.4)
        self.assertLess(one["wall_s"], 2)
        one, = self.bench("ok", "--prompt", "lognormal:64,0.5", "--answer", "5-15", "--requests", "50", "--clients", "5")
        self.assertEqual(one["n_ok"], 50)
        for bad in (["--prompt", "0"], ["--prompt", "9-3"], ["--answer", "lognormal:x"], ["--rate", "-1"], ["--sweep", "1,x"]):
            self.assertEqual(subprocess.run(self.words("ok", *bad), capture_output=True, timeout=20).returncode, 2, bad)
        with open(trace, "w", encoding="utf-8") as f:
            f.write("arrival_s,prompt_tokens\n1,2\n")
        self.assertIn("no column output_tokens", self.bench("ok", "--trace", trace, code=3))

    def test_a_thousand_streams(self):
        one, = self.bench("slow", "--clients", "1000", "--requests", "1000", "--warmup", "0", "--answer", "10")
        self.assertEqual(one["n_ok"], 1000)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
