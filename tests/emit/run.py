#!/usr/bin/env python3
"""Every manifest through a real parser, with names that would break out of a careless one.

usage: run.py PLIMSOLL BUILD-FOLDER

docker-compose, Kubernetes' schemas, systemd-analyze and shellcheck read what is written; scripts are run with programs
that only write down the words they were given.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
PLIMSOLL, BUILD = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
HOSTILE = "it's \"a\" $(touch pwned);`touch pwned` %h ${HOME} &\nx.gguf"
ON = "2x rtx3090, ram 64GiB"

RECORD = """#!/bin/sh
# Writes down its own name and words, a NUL after each.
{ printf '%s\\0' "${0##*/}" "$@"; } >"$RECORD.${0##*/}.$$"
"""


def emit(*words, code=0, cwd=None):
    r = subprocess.run([PLIMSOLL, "emit", *words], capture_output=True, text=True, timeout=60, cwd=cwd)
    if r.returncode != code:
        raise AssertionError(f"emit {words}: exit {r.returncode}: {r.stderr}")
    return r


def files(*words, cwd=None):
    out = json.loads(emit(*words, "--json", cwd=cwd).stdout)
    return {f["name"]: f["text"] for f in out["files"]}


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model = os.path.join(cls.folder, HOSTILE)
        subprocess.run([PLIMSOLL, "synth", "qwen3-0.6b", "--quant", "q8_0", "--sparse", "-o", cls.model], check=True,
                       capture_output=True)
        plan = subprocess.run([PLIMSOLL, "plan", cls.model, "--on", "rtx3090, ram 64GiB", "--json"], check=True,
                              capture_output=True, text=True)
        cls.words = json.loads(plan.stdout)["argv"]
        cls.node = os.path.join(BUILD, "manifest-checks")
        if not os.path.isdir(os.path.join(cls.node, "node_modules", "kubernetes-models")):
            os.makedirs(cls.node, exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(os.path.join(HERE, name), cls.node)
            try:
                subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=cls.node, check=True, timeout=300)
            except (OSError, subprocess.SubprocessError) as fault: # no network: say so and skip, as with the engine
                print(f"the schemas of Kubernetes cannot be had: {fault}", file=sys.stderr)
                sys.exit(77)
        shutil.copy(os.path.join(HERE, "check_kubernetes.mjs"), cls.node)

    def write(self, name, text):
        path = os.path.join(tempfile.mkdtemp(dir=self.folder), name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def recorded(self, script, programs, env=None):
        """The words each program was started with when the script ran."""
        bin_dir = tempfile.mkdtemp(dir=self.folder)
        for name in programs:
            path = os.path.join(bin_dir, name)
            with open(path, "w", encoding="utf-8") as f:
                f.write(RECORD)
            os.chmod(path, 0o755)
        variables = {**os.environ, "PATH": bin_dir + ":" + os.environ["PATH"], "RECORD": os.path.join(bin_dir, "words"), **(env or {})}
        subprocess.run(script, cwd=bin_dir, env=variables, timeout=60, check=True, capture_output=True)
        self.assertFalse(os.path.exists(os.path.join(bin_dir, "pwned")), "a name became a command")
        out = []
        for name in sorted(os.listdir(bin_dir)):
            if name.startswith("words."):
                with open(os.path.join(bin_dir, name), encoding="utf-8") as f:
                    out.append(f.read().split("\0")[:-1])
        return out

    def expect_words(self, got, inner=None, host="127.0.0.1", port="8080"):
        """The plan's words behind the program, the model's path replaced, then the address."""
        want = [inner if w == self.model and inner else w for w in self.words[1:]]
        self.assertEqual(got, want + ["--host", host, "--port", port, "--metrics"])

    def test_compose(self):
        out = files("compose", self.model, "--on", ON, "--replicas", "2", "--power-cap", "250")
        self.assertIn("nginx.conf", out)
        path = self.write("compose.yaml", out["compose.yaml"])
        subprocess.run(["docker-compose", "-f", path, "config", "-q"], check=True, timeout=60, capture_output=True)
        services = yaml.safe_load(out["compose.yaml"])["services"]
        ids = []
        for r in range(2):
            service = list(services.values())[r]
            words = [w.replace("$$", "$") for w in service["command"]]
            self.expect_words(words, inner="/models/" + HOSTILE, host="0.0.0.0")
            self.assertEqual(service["volumes"][0]["source"].replace("$$", "$"), self.folder)
            ids += service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        self.assertEqual(ids, ["0", "1"])
        self.assertEqual(services["power-cap"]["command"], ["-i", "0,1", "-pl", "250"])
        for name in services:
            self.assertRegex(name, r"^[a-z][a-z0-9-]*$")

    def kubernetes(self, text):
        path = self.write("k.yaml", text)
        r = subprocess.run(["node", "check_kubernetes.mjs", path], cwd=self.node, capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def test_kubernetes(self):
        out = files("kubernetes", self.model, "--on", "rtx3090, ram 64GiB", "--replicas", "3", "--power-cap", "200")
        words = self.kubernetes(out["kubernetes.yaml"])
        self.assertEqual(words[0], "/app/llama-server")
        self.expect_words([w.replace("$$(", "$(") for w in words[1:]], inner="/models/" + HOSTILE, host="0.0.0.0")
        deployment = next(yaml.safe_load_all(out["kubernetes.yaml"]))
        self.assertEqual(deployment["spec"]["replicas"], 3)
        limits = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        self.assertEqual(limits["nvidia.com/gpu"], "1")

    def test_leader_worker_set(self):
        words = ["Qwen/Qwen3-235B-A22B", "--on", "2x hgx-h100", "--engine", "vllm", "--tensor-parallel", "8",
                 "--pipeline-parallel", "2", "--context", "8192"]
        leader, worker = self.kubernetes(files("lws", *words)["leaderworkerset.yaml"])
        self.assertIn("--tensor-parallel-size", leader[2])
        got = self.recorded(leader, ["ray", "vllm"])
        self.assertEqual(got[0], ["ray", "start", "--head", "--port=6379"])
        self.assertEqual(got[1][:3], ["vllm", "serve", "Qwen/Qwen3-235B-A22B"])
        self.assertEqual(got[1][-2:], ["--distributed-executor-backend", "ray"])
        got = self.recorded(worker, ["ray"], {"LWS_LEADER_ADDRESS": "leader.of.group"})
        self.assertEqual(got[0], ["ray", "start", "--address=leader.of.group:6379", "--block"])

    def test_systemd(self):
        out = files("systemd", self.model, "--on", ON, "--replicas", "2", "--power-cap", "250")
        units = [name for name in out if name.endswith(".service")]
        self.assertEqual(len(units), 2)
        for r, name in enumerate(units):
            path = self.write(name, out[name])
            check = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60)
            self.assertEqual((check.returncode, check.stderr.strip()), (0, ""))
            line = re.search(r"^ExecStart=(.*)$", out[name], re.M).group(1)
            self.assertEqual(line.split()[:2], ["/usr/bin/env", "llama-server"])
            words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
            words = [re.sub(r"\\x([0-9a-f]{2})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], q) if q else bare for q, bare in words]
            words = [w.replace("%%", "%").replace("$$", "$") for w in words]
            self.expect_words(words[2:], port=str(8080 + r))
            self.assertIn(f"CUDA_VISIBLE_DEVICES={r}\n", out[name])

    def test_shell(self):
        out = files("shell", self.model, "--on", ON, "--replicas", "2")
        path = self.write("start.sh", out["start.sh"])
        subprocess.run(["shellcheck", "-S", "warning", path], check=True, timeout=60)
        got = self.recorded(["sh", path], ["llama-server"])
        self.assertEqual(sorted(words[words.index("--port") + 1] for words in got), ["8080", "8081"])
        for words in got:
            self.expect_words(words[1:], port=words[words.index("--port") + 1])

    def test_slurm(self):
        out = files("slurm", self.model, "--on", "rtx3090, ram 64GiB", "--host", "127.0.0.1", "--replicas", "4")
        path = self.write("job.sbatch", out["job.sbatch"])
        subprocess.run(["shellcheck", "-S", "warning", path], check=True, timeout=60)
        self.assertIn("#SBATCH --array=0-3\n", out["job.sbatch"])
        got = self.recorded(["bash", path], ["srun"])
        self.assertEqual(got[0][:3], ["srun", "env", "llama-server"])
        self.expect_words(got[0][3:])

    def test_several_hosts(self):
        words = ["Qwen/Qwen3-235B-A22B", "--on", "2x hgx-h100", "--engine", "vllm", "--tensor-parallel", "8", "--pipeline-parallel", "2", "--context", "8192"]
        for what, name in (("slurm", "job.sbatch"), ("ray", "ray.sh")):
            path = self.write(name, files(what, *words)[name])
            subprocess.run(["shellcheck", "-S", "warning", path], check=True, timeout=60)
        r = emit("compose", *words, code=3)
        self.assertIn("2 hosts", r.stderr)

    def test_refusals(self):
        self.assertIn("no manifest", emit("helm", self.model, "--on", ON, code=3).stderr)
        self.assertIn("need", emit("compose", self.model, "--on", ON, "--replicas", "3", code=3).stderr)
        self.assertIn("does not fit", emit("compose", "qwen3-32b", "--quant", "q8_0", "--on", "rtx3060, ram 8GiB", "--gpu-layers", "99", code=1).stderr)
        self.assertIn("image", emit("compose", "qwen3-8b", "--quant", "q4_k_m", "--on", "m3 ultra 512gb", code=3).stderr)

    def test_written_files(self):
        folder = os.path.join(self.folder, "out put")
        emit("shell", self.model, "--on", ON, "-o", folder)
        self.assertEqual(os.listdir(folder), ["start.sh"])
        self.assertTrue(os.access(os.path.join(folder, "start.sh"), os.X_OK))
        self.assertIn("cannot be made", emit("shell", self.model, "--on", ON, "-o", "/proc/none", code=4).stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
