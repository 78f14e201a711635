#!/usr/bin/env python3
"""up, status and down with an engine that does as it is told: answers, ends, hangs, holds the port, is killed.

usage: run.py PLIMSOLL
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

PLIMSOLL = os.path.abspath(sys.argv[1])

ENGINE = r'''#!/usr/bin/env python3
import http.server, os, signal, sys, time
words = sys.argv[1:]
open(os.environ["RECORD"], "w").write("\0".join(sys.argv))
how = os.environ.get("HOW", "answer")
if how == "oom":
    print("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 5120.00 MiB on device 0: cudaMalloc failed: out of memory", flush=True)
    sys.exit(1)
if how == "type":
    print("error loading model: unknown model architecture: 'dream9'", flush=True); sys.exit(1)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "full":
    print("write: No space left on device", flush=True); sys.exit(1)
if how == "hang":
    time.sleep(600)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = time.monotonic() - start > float(os.environ.get("LOADING", "0.3"))
        if how == "garbage":
            self.wfile.write(b"\x00\xff garbage\r\n"); return
        self.send_response(200 if ready else 503); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *a): pass
start = time.monotonic()
host, port = words[words.index("--host") + 1], int(words[words.index("--port") + 1])
print("key", os.environ.get("LLAMA_API_KEY", "none"), flush=True)
http.server.HTTPServer((host, port), Handler).serve_forever()
'''

DOCKER = r'''#!/usr/bin/env python3
import json, os, sys
with open(os.environ["RECORD"], "a") as f: f.write(json.dumps(sys.argv[1:]) + "\n")
if sys.argv[1] == "run" and os.environ.get("HOW") == "refuse":
    print("docker: no space left on device."); sys.exit(125)
sys.exit(0)
'''


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Up(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.port = free_port()
        self.engine = self.program("llama-server", ENGINE)
        self.record = os.path.join(self.folder, "record")
        self.model = os.path.join(self.folder, "m;$(touch pwned) 'x'.gguf")
        subprocess.run([PLIMSOLL, "synth", "qwen3-0.6b", "--quant", "q8_0", "--layers", "1", "--sparse", "-o", self.model], check=True,
                       capture_output=True)

    def tearDown(self):
        for engine in json.loads(self.run_it("status", "--json").stdout):
            self.run_it("down", engine["name"], "--patience", "1")
        for _ in range(100):  # a killed process takes a moment to go
            if not is_listening(self.port):
                break
            time.sleep(0.05)
        self.assertFalse(is_listening(self.port), "a socket is left")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "pwned")))

    def program(self, name, text):
        folder = os.path.join(self.folder, "bin-" + name)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o755)
        return path

    def environment(self, **more):
        return {**os.environ, "PLIMSOLL_STATE": os.path.join(self.folder, "state"), "RECORD": self.record, "HOW": "answer", **more}

    def run_it(self, *words, **more):
        return subprocess.run([PLIMSOLL, *words], capture_output=True, text=True, timeout=60, cwd=self.folder, env=self.environment(**more))

    def up(self, *words, name="one", **more):
        return self.run_it("up", self.model, "--name", name, "--port", str(self.port), "--program", self.engine, *words, **more)

    def state_file(self, name="one"):
        return os.path.join(self.folder, "state", "engines", name, "state.json")

    def test_starts_waits_and_ends(self):
        r = self.up("--json", LOADING="0.8")
        self.assertEqual(r.returncode, 0, r.stderr)
        one = json.loads(r.stdout)
        self.assertEqual(one["state"], "ready")
        self.assertGreaterEqual(one["ready_after_s"], 0.8)
        with open(self.record, encoding="utf-8") as f:
            words = f.read().split("\0")
        self.assertEqual(words[words.index("-m") + 1], self.model)  # no shell has seen it
        self.assertEqual(words[words.index("--host") + 1], "127.0.0.1")
        self.assertEqual(self.up().returncode, 3)  # the name is in use
        self.assertEqual(self.up(name="two").returncode, 3)  # the port is taken
        self.assertEqual(json.loads(self.run_it("status", "one", "--json").stdout)[0]["pid"], one["pid"])
        self.assertEqual(self.run_it("down", "one").returncode, 0)
        self.assertFalse(is_listening(self.port))
        self.assertEqual(self.run_it("down", "one").returncode, 3)
        self.assertEqual(oct(os.stat(os.path.dirname(self.state_file())).st_mode & 0o777), "0o700")

    def test_explains_what_went_wrong(self):
        for how, words in {"oom": "memory of a GPU", "type": "does not know this model", "killed": "killed", "full": "disk is full"}.items():
            r = self.up(HOW=how)
            self.assertEqual(r.returncode, 4, how)
            self.assertIn(words, r.stderr)
            self.assertFalse(os.path.exists(self.state_file()))
        self.assertIn("would work", self.up(HOW="oom").stderr)
        self.assertIn("cudaMalloc failed", self.up(HOW="oom").stderr)

    def test_gives_up_on_the_silent(self):
        for how in ("hang", "garbage"):
            r = self.up("--wait", "2", HOW=how)
            self.assertEqual(r.returncode, 4)
            self.assertIn("within 2 s", r.stderr)

    def test_ends_the_stubborn_by_force(self):
        self.assertEqual(self.up(HOW="stubborn").returncode, 0)
        began = time.monotonic()
        self.assertEqual(self.run_it("down", "one", "--patience", "1").returncode, 0)
        self.assertLess(time.monotonic() - began, 10)
        self.assertFalse(is_listening(self.port))

    def test_missing_program(self):
        r = self.run_it("up", self.model, "--program", "/nonexistent/llama-server", "--container", "never")
        self.assertEqual(r.returncode, 4)
        self.assertIn("not on this machine", r.stderr)

    def test_a_number_given_out_again_is_left_alone(self):
        self.assertEqual(self.up().returncode, 0)
        other = subprocess.Popen(["sleep", "60"], start_new_session=True)
        try:
            with open(self.state_file(), encoding="utf-8") as f:
                state = json.load(f)
            engine, state["pid"] = state["pid"], other.pid
            with open(self.state_file(), "w", encoding="utf-8") as f:
                json.dump(state, f)
            self.assertEqual(json.loads(self.run_it("status", "--json").stdout)[0]["state"], "exited")
            self.assertEqual(self.run_it("down", "one").returncode, 0)
            self.assertIsNone(other.poll())
        finally:
            other.kill()
            other.wait()
            os.kill(engine, signal.SIGKILL)

    def test_a_restarted_machine(self):
        self.assertEqual(self.up().returncode, 0)
        with open(self.state_file(), encoding="utf-8") as f:
            state = json.load(f)
        state["boot_id"] = "00000000-0000-0000-0000-000000000000"
        with open(self.state_file(), "w", encoding="utf-8") as f:
            json.dump(state, f)
        try:
            self.assertEqual(json.loads(self.run_it("status", "--json").stdout)[0]["state"], "gone")
            self.assertEqual(self.run_it("down", "one").returncode, 0)
            self.assertTrue(is_listening(self.port))  # this process was never that engine
        finally:
            os.kill(state["pid"], signal.SIGKILL)
            time.sleep(0.2)

    def test_interrupted_while_loading(self):
        p = subprocess.Popen([PLIMSOLL, "up", self.model, "--name", "one", "--port", str(self.port), "--program", self.engine],
                             stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment(LOADING="60"))
        for _ in range(100):
            if is_listening(self.port):
                break
            time.sleep(0.05)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 4)
        self.assertIn(b"given up", err)
        self.assertFalse(os.path.exists(self.state_file()))

    def test_a_killed_up_leaves_an_engine_that_down_ends(self):
        p = subprocess.Popen([PLIMSOLL, "up", self.model, "--name", "one", "--port", str(self.port), "--program", self.engine],
                             stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=self.environment(LOADING="60"))
        for _ in range(100):
            if is_listening(self.port):
                break
            time.sleep(0.05)
        p.kill()
        p.wait()
        self.assertEqual(json.loads(self.run_it("status", "--json").stdout)[0]["state"], "starting")
        self.assertEqual(self.run_it("down", "one").returncode, 0)

    def test_two_at_once(self):
        words = [PLIMSOLL, "up", self.model, "--name", "one", "--port", str(self.port), "--program", self.engine]
        both = [subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment(LOADING="1")) for _ in range(2)]
        codes = sorted(p.wait(timeout=30) for p in both)
        for p in both:
            p.stderr.close()
            p.stdout.close()
        self.assertEqual(codes, [0, 3])

    def test_beyond_this_machine_asks_for_a_key(self):
        r = self.up("--host", "0.0.0.0")
        self.assertEqual(r.returncode, 0, r.stderr)
        with open(os.path.join(os.path.dirname(self.state_file()), "log"), encoding="utf-8") as f:
            key = f.read().split()[1]
        self.assertRegex(key, "^[0-9a-f]{32}$")
        self.assertIn(key, r.stdout)
        with open(self.record, encoding="utf-8") as f:
            self.assertNotIn(key, f.read())  # command lines are visible to everybody
        self.assertEqual(self.run_it("down", "one").returncode, 0)
        self.assertEqual(self.up("--host", "0.0.0.0", PLIMSOLL_API_KEY="a b").returncode, 3)

    def test_container(self):
        docker = self.program("docker", DOCKER)
        path = os.path.dirname(docker) + ":/usr/bin:/bin"
        words = ["up", self.model, "--name", "one", "--port", str(self.port), "--container", "always", "--wait", "1"]
        r = self.run_it(*words, PATH=path)
        self.assertEqual(r.returncode, 4)  # nothing answers behind it
        with open(self.record, encoding="utf-8") as f:
            calls = [json.loads(line) for line in f]
        run = next(c for c in calls if c[0] == "run")
        self.assertIn(f"127.0.0.1:{self.port}:8080", run)
        self.assertIn(f'type=bind,"source={self.folder}",target=/models,readonly', run)
        self.assertIn("/models/" + os.path.basename(self.model), run)
        self.assertEqual(calls[-1], ["rm", "-f", "plimsoll-one"])
        r = self.run_it(*words, PATH=path, HOW="refuse")
        self.assertIn("no space left", r.stderr)


class Verify(unittest.TestCase):
    """Logs of runs elsewhere, beside the plan of the command that made them."""

    def verify(self, log, *words):
        with tempfile.NamedTemporaryFile("w", suffix=".log") as f:
            f.write(log)
            f.flush()
            r = subprocess.run([PLIMSOLL, "verify", "--log", f.name, "--json", *words], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        return {(c["metric"], c["where"]): c for c in json.loads(r.stdout)["checks"]}

    def test_llamacpp(self):
        # b11669, SmolLM2-135M in Q8_0, two slots of 1024 tokens, on a CPU
        log = ("I load_tensors:   CPU_Mapped model buffer size =   136.40 MiB\nI llama_context:        CPU  output buffer size =     0.38 MiB\n"
               "I llama_kv_cache:        CPU KV buffer size =    45.00 MiB\nI sched_reserve:        CPU compute buffer size =    15.64 MiB\n")
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "m.gguf")
            subprocess.run([PLIMSOLL, "synth", "HuggingFaceTB/SmolLM2-135M", "--quant", "q8_0", "--sparse", "-o", model], check=True,
                           capture_output=True)
            checks = self.verify(log, "--on", "cpu, ram 24GiB", "--", "llama-server", "-m", model, "-c", "2048", "-np", "2", "-fa", "on")
        self.assertEqual(set(checks), {(m + "_bytes", "host") for m in ("model", "context", "compute")})
        for c in checks.values():
            self.assertLess(abs(c["error_frac"]), 0.001, c)
            self.assertTrue(c["within"])

    def test_vllm(self):
        # vllm-project/vllm issue 10517: Llama 3.1 8B on an RTX 3090, prompts in one piece
        log = "INFO Loading model weights took 14.9888 GB\nINFO # GPU blocks: 1952, # CPU blocks: 2048\n"
        checks = self.verify(log, "--on", "rtx3090", "--", "vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct", "--max-model-len", "20000",
                             "--max-num-batched-tokens", "20000")
        self.assertLess(abs(checks["model_bytes", "fullest GPU"]["error_frac"]), 0.001)
        self.assertEqual(checks["num_gpu_blocks", None]["measured"], 1952)
        self.assertLess(abs(checks["num_gpu_blocks", None]["error_frac"]), 0.1)  # a release of 2024, planned by today's rules

    def test_a_log_of_something_else(self):
        with tempfile.NamedTemporaryFile("w", suffix=".log") as f:
            r = subprocess.run([PLIMSOLL, "verify", "--log", f.name, "Qwen/Qwen3-0.6B", "--on", "l40s"], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 3)
        self.assertIn("says nothing of its memory", r.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
