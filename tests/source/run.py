#!/usr/bin/env python3
"""Reads models from files, folders and loopback servers that behave well and badly, through the program itself.

usage: run.py PLIMSOLL
"""
import http.server
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

PLIMSOLL = os.path.abspath(sys.argv[1])
FAILED = []


def run(*words, env=None, timeout=60):
    clean = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_ENDPOINT", "http_proxy", "https_proxy")}
    clean["no_proxy"] = "127.0.0.1"
    return subprocess.run([PLIMSOLL, *words], capture_output=True, text=True, timeout=timeout, env={**clean, **(env or {})})


def check(name, condition, detail=""):
    print(("ok   " if condition else "FAIL ") + name)
    if not condition:
        FAILED.append(name)
        print("     ", detail)


def fails(name, result, code, words):
    """One sentence on stderr with the words in it, nothing on stdout, the right exit code."""
    lines = result.stderr.strip().splitlines()
    check(name, result.returncode == code and not result.stdout and len(lines) == 1 and words in result.stderr,
          (result.returncode, result.stdout[:200], result.stderr))


class Server(http.server.BaseHTTPRequestHandler):
    body = b""
    seen: list = []

    def log_message(self, *args):
        pass

    def do_GET(self):
        Server.seen.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self):
        body, span = Server.body, self.headers.get("Range")
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.path.startswith("/api/models/owner/repo-GGUF/tree"):
            names = ["README.md", "mmproj-f16.gguf", "m-Q8_0.gguf", "m-UD-Q4_K_XL.gguf", "big/m-BF16-00002-of-00002.gguf",
                     "big/m-BF16-00001-of-00002.gguf", "m-q4_k_m.gguf"]
            listing = json.dumps([{"type": "file", "path": n} for n in names]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(listing)))
            self.end_headers()
            self.wfile.write(listing)
            return None
        if self.path.startswith("/private"):
            return self.send_error(401)
        if self.path.startswith("/endless"):  # no length, no range, data for ever
            self.send_response(200)
            self.end_headers()
            for _ in range(4096):
                self.wfile.write(b"\0" * 65536)
            return None
        if self.path.startswith("/cut"):  # promises more than it sends
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100])
            return None
        if span and not self.path.startswith("/plain"):
            first, last = span.removeprefix("bytes=").split("-")
            piece = body[int(first):int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(piece) - 1}/{len(body)}")
        else:
            piece = body
            self.send_response(200)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece)
        return None


def remote(tmp):
    path = os.path.join(tmp, "tiny.gguf")
    with open(path, "rb") as file:
        Server.body = file.read()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    local = json.loads(run("inspect", path, "--json").stdout)
    result = run("inspect", f"{url}/tiny.gguf", "--json")
    check("a remote header says what the file says", result.returncode == 0 and
          {**json.loads(result.stdout), "name": ""} == {**local, "name": ""}, result.stderr)
    read = max(int(r.split("-")[1]) for _, r, _ in Server.seen if r)
    check("only the header is fetched", read < 8 << 20 and len(Server.body) > read, (read, len(Server.body)))
    fails("404 is said", run("inspect", f"{url}/missing.gguf"), 4, "404")
    fails("a wanted token is said", run("inspect", f"{url}/private.gguf"), 4, "HF_TOKEN")
    fails("a cut answer is said", run("inspect", f"{url}/cut.gguf"), 4, "")
    fails("endless zeros end", run("inspect", f"{url}/endless.gguf"), 3, "GGUF")
    fails("a server that ignores ranges is said", run("inspect", f"{url}/plain.gguf"), 4, "range")
    fails("nobody listens", run("inspect", "http://127.0.0.1:9/x.gguf"), 4, "")
    Server.seen.clear()
    result = run("inspect", "hf:owner/repo:tiny.gguf", env={"HF_ENDPOINT": url, "HF_TOKEN": "secret"})
    check("hf: goes to the endpoint with its token", result.returncode == 0 and
          Server.seen[0][0] == "/owner/repo/resolve/main/tiny.gguf" and Server.seen[0][2] == "Bearer secret", (result.stderr, Server.seen))
    for ref, file in {"": "m-q4_k_m.gguf", ":Q8_0": "m-Q8_0.gguf", ":bf16": "big/m-BF16-00001-of-00002.gguf",
                      ":UD-Q4_K_XL": "m-UD-Q4_K_XL.gguf"}.items():
        Server.seen.clear()
        run("inspect", "hf:owner/repo-GGUF" + ref, env={"HF_ENDPOINT": url})
        check(f"hf:…{ref} means {file}", Server.seen[1][0] == "/owner/repo-GGUF/resolve/main/" + file, Server.seen)
    fails("a precision that is not there", run("inspect", "hf:owner/repo-GGUF:Q2_K", env={"HF_ENDPOINT": url}), 3, "Q2_K")
    Server.seen.clear()
    result = run("plan", "--json", "--on", "cpu, ram 64GiB", "--", "llama-server", "-hf", "owner/repo-GGUF:Q8_0", "-c", "512",
                 env={"HF_ENDPOINT": url})
    check("a pasted -hf is read and said again", result.returncode in (0, 1) and "-hf owner/repo-GGUF:Q8_0 " in json.loads(result.stdout)["command"],
          (result.stdout[:300], result.stderr))
    Server.seen.clear()
    run("inspect", f"{url}/tiny.gguf", env={"HF_TOKEN": "secret"})
    check("the token goes nowhere else", all(a is None for _, _, a in Server.seen), Server.seen)
    fails("no way out of the repository", run("inspect", "hf:owner/../repo"), 2, "hf:")
    server.shutdown()


def shard(path, tensors):
    header, at, data = {"__metadata__": {"format": "pt"}}, 0, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at + data)


def folders(tmp):
    folder = os.path.join(tmp, "model dir; $(false) 'q'")
    os.mkdir(folder)
    config = {"model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 16, "intermediate_size": 128, "moe_intermediate_size": 32, "num_experts": 2, "num_experts_per_tok": 1,
              "vocab_size": 256, "torch_dtype": "bfloat16", "tie_word_embeddings": True,
              "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}
    first = {"model.embed_tokens.weight": ("BF16", [256, 64], 32768), "model.norm.weight": ("BF16", [64], 128),
             "model.layers.0.self_attn.q_proj.qweight": ("I32", [8, 64], 2048), "model.layers.0.self_attn.q_proj.scales": ("F16", [2, 64], 256),
             "model.layers.0.self_attn.q_proj.qzeros": ("I32", [2, 8], 64), "model.layers.0.self_attn.q_proj.g_idx": ("I32", [64], 256)}
    second = {f"model.layers.0.mlp.experts.{e}.{p}_proj.qweight": ("I32", [8, 32] if p != "down" else [4, 64], 1024)
              for e in range(2) for p in ("gate", "up", "down")}
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    shard(os.path.join(folder, names[0]), first)
    shard(os.path.join(folder, names[1]), second)
    index = {"weight_map": {**{k: names[0] for k in first}, **{k: names[1] for k in second}}}
    for name, value in (("config.json", config), ("model.safetensors.index.json", index)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(value, file)
    result = run("inspect", folder, "--json", "--tensors")
    out = json.loads(result.stdout) if result.returncode == 0 else {}
    total = sum(size for part in (first, second) for _, _, size in part.values())
    check("weights are the bytes of the files", out.get("weight_bytes") == total, (result.stderr, out.get("weight_bytes"), total))
    tensors = {t["name"]: t for t in out.get("tensors", [])}
    q = [t for n, t in tensors.items() if "q_proj" in n]
    check("the pieces of a packed weight are one tensor", len(q) == 1 and q[0]["bytes"] == 2624 and q[0]["parameters"] == 4096, q)
    gate = [t for n, t in tensors.items() if "gate_proj" in n]
    check("the experts of a matrix are one tensor", len(gate) == 1 and gate[0]["parameters"] == 2 * 64 * 32 and gate[0]["layer"] == 0, gate)
    result = run("plan", folder, "--on", "gpu-24GiB", "--json")
    check("a folder with an ugly name can be planned", result.returncode in (0, 1), result.stderr)
    os.unlink(os.path.join(folder, names[1]))
    fails("a missing shard is named", run("inspect", folder), 4, names[1])
    index["weight_map"]["x"] = "../../../etc/passwd"
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
        json.dump(index, file)
    fails("an index cannot leave its folder", run("inspect", folder), 3, "etc/passwd")


def files(tmp):
    path = os.path.join(tmp, "tiny.gguf")
    result = run("synth", "llama3.2-1b", "--quant", "q8_0", "--layers", "1", "--sparse", "-o", path)
    check("synth writes a file", result.returncode == 0 and os.path.getsize(path) > 1 << 20, result.stderr)
    fails("synth replaces nothing unasked", run("synth", "llama3.2-1b", "--sparse", "-o", path), 4, "force")
    fails("synth needs a folder that is there", run("synth", "llama3.2-1b", "--sparse", "-o", os.path.join(tmp, "no", "x.gguf")), 4, "")
    fails("a quantised file has its precision", run("inspect", path, "--quant", "q4_k_m"), 3, "already")
    fails("a folder without a model", run("inspect", tempfile.mkdtemp(dir=tmp)), 3, "neither")
    fails("a missing file", run("inspect", os.path.join(tmp, "none.gguf")), 4, "none.gguf")
    fails("a missing part", run("inspect", os.path.join(tmp, "m-00001-of-00002.gguf")), 4, "m-00001-of-00002.gguf")
    os.mkfifo(os.path.join(tmp, "pipe.gguf"))
    fails("a pipe is no model", run("inspect", os.path.join(tmp, "pipe.gguf")), 4, "regular")
    fails("an empty name", run("inspect", ""), 2, "empty")
    machine = os.path.join(tmp, "box.yaml")
    with open(machine, "w", encoding="utf-8") as file:
        file.write("devices:\n  - name: rtx4090\n    count: 2\n  - memory: 12GiB\nram: 64GiB\nlink: pcie\n")
    result = run("plan", path, "--on", machine, "--json")
    check("a machine as YAML", result.returncode == 0 and len(json.loads(result.stdout)["memory"]["devices"]) == 3, result.stderr)
    with open(machine, "w", encoding="utf-8") as file:
        file.write("devices: [\n")
    fails("broken YAML has its line", run("plan", path, "--on", machine), 3, "line")


def corpus(tmp):
    """The headers of the fuzz corpus through the program: the verdict is in the name."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fuzz/corpus/gguf")
    path = os.path.join(tmp, "corpus.gguf")
    for name in sorted(os.listdir(folder)):
        shutil.copyfile(os.path.join(folder, name), path)
        result = run("inspect", path)
        if name.startswith("y_"):
            check(f"{name} is read", result.returncode == 0 and result.stdout and not result.stderr, result.stderr)
        elif name.startswith("n_"):
            fails(f"{name} is refused", result, 3, "")
        else:
            check(f"{name} is read or refused", result.returncode in (0, 3), (result.returncode, result.stderr))


def splits(tmp):
    """Parts of a split model that are cut, repeated or out of place."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fuzz/corpus/gguf")
    with open(os.path.join(folder, "n_split_without_second"), "rb") as file:
        first = file.read()
    names = [os.path.join(tmp, f"s-0000{i}-of-00002.gguf") for i in (1, 2)]
    for second, what in ((first, "the first part twice"), (first[:200], "a cut second part"), (b"", "an empty second part")):
        for path, data in zip(names, (first, second)):
            with open(path, "wb") as file:
                file.write(data)
        fails(what, run("inspect", names[0]), 3, "")
    os.unlink(names[1])
    os.symlink(names[1], names[1])
    fails("a part that is a link to itself", run("inspect", names[0]), 4, "")


def main():
    started = time.time()
    with tempfile.TemporaryDirectory() as tmp:
        files(tmp)
        remote(tmp)
        folders(tmp)
        corpus(tmp)
        splits(tmp)
    print(f"{len(FAILED)} failed in {time.time() - started:.1f} s")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
