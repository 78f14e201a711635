#!/usr/bin/env python3
"""Runs transcripts and compares what is printed. A transcript shows a command and its output as a terminal would:

    $ plimsoll show gpu 9090            (lines that begin with "> " go on with the command)
    plimsoll: 9090: no GPU is called '9090'; near are …
    [exit 3]

In tests/golden/*.txt the whole file is one transcript; in Markdown each block marked ```console is one, and in blocks marked ```sh
every line that begins with `plimsoll` is run for its exit code alone (0 or 1), unless it ends in "# network" or names an address.
Commands run in a folder of their own, where model.gguf is a dummy model of 8 B parameters, rig.json the record of a machine,
without colour, 100 columns wide,
in English unless they say otherwise.

usage: run.py PLIMSOLL [--accept] [--only REGEX] [--docs] [--about] [FILE…]     without FILE: all of tests/golden, with --docs all Markdown
"""
import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Shell:
    def __init__(self, plimsoll):
        self.folder = tempfile.TemporaryDirectory(prefix="plimsoll-golden-")
        os.mkdir(self.path("bin"))
        os.symlink(os.path.abspath(plimsoll), self.path("bin/plimsoll"))
        os.mkdir(self.path("here"))
        os.mkdir(self.path("here/docs"))
        os.symlink(os.path.join(ROOT, "data"), self.path("here/data"))
        os.symlink(os.path.join(ROOT, "tests/fixtures/facts/two_v100.json"), self.path("here/rig.json"))
        keep = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        self.env = {**keep, "PATH": self.path("bin") + ":" + os.environ["PATH"], "COLUMNS": "100", "LC_ALL": "C.UTF-8", "HOME": self.path("here"),
                    "TERM": "dumb", "XDG_DATA_HOME": self.path("here/.local"), "no_proxy": "*"}
        self.run("plimsoll synth llama3.1-8b --quant q4_k_m --sparse -o model.gguf")

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run(self, command, timeout=120):
        """(lines of the transcript, exit code)"""
        out = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self.path("here"), env=self.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        lines = out.stdout.decode("utf-8", "replace").split("\n")
        if lines[-1] == "":
            lines.pop()
        code = 0 if out.returncode == 141 else out.returncode  # `| head` closed the pipe
        return lines + ([f"[exit {code}]"] if code else []), code


def replay(shell, lines):
    """The transcript as it comes out today."""
    out, i, used = [], 0, set()
    while i < len(lines):
        if not lines[i].startswith("$ "):
            if not out:  # a remark before the first command
                out.append(lines[i])
            i += 1
            continue
        command = lines[i][2:]
        out.append(lines[i])
        i += 1
        while i < len(lines) and lines[i].startswith("> "):
            out.append(lines[i])
            command += "\n" + lines[i][2:]
            i += 1
        used.add(command)
        out += shell.run(command)[0]
        blank = i
        while blank < len(lines) and not lines[blank].startswith("$ "):
            blank += 1
        if blank < len(lines) and lines[blank - 1] == "":
            out.append("")
        i = blank
    while out and out[-1] == "":
        out.pop()
    return out


def run_only(shell, lines, where, faults):
    for line in lines:
        command = re.sub(r"^\$ ", "", line)
        if not command.startswith("plimsoll ") or re.search(r"# network|https?://|hf:", command):
            continue
        got, code = shell.run(command)
        if code not in (0, 1):
            faults.append(f"{where}: {command}: exit {code}: {got[-2:]}")


def document(shell, text, where, faults):
    """The text with every console block as it comes out today."""
    def block(m):
        kind, body = m.group(2), m.group(3).split("\n")
        if kind == "console":
            return m.group(1) + "\n".join(replay(shell, body[:-1])) + "\n```"
        if kind == "sh":
            run_only(shell, body, where, faults)
        return m.group(0)
    return re.sub(r"(^```(\w*)\n)(.*?)^```$", block, text, flags=re.S | re.M)


def blurred(text):
    """For documents: numbers move with every improvement of an engine, sentences do not."""
    text = re.sub(r"[█▓▒░▚·┃]+", "=", text)
    text = re.sub(r"\d[\d,.]*", "#", text)
    return re.sub(r"#( [KMGT]iB)?|[ \t]+", lambda m: "#" if m.group().startswith("#") else " ", text)


def documents():
    """The Markdown of the tree, without what builds leave."""
    found = []
    for path, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "build")) and f != "node_modules")
        found += [os.path.join(path, n) for n in sorted(names) if n.endswith(".md")]
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("plimsoll")
    ap.add_argument("--accept", action="store_true")
    ap.add_argument("--only", default="")
    ap.add_argument("--docs", action="store_true")
    ap.add_argument("--about", action="store_true", help="numbers may differ, sentences may not")
    ap.add_argument("files", nargs="*")
    args = ap.parse_args()
    golden = os.path.join(ROOT, "tests/golden")
    files = args.files or (documents() if args.docs else sorted(os.path.join(golden, f) for f in os.listdir(golden) if f.endswith(".txt")))
    files = [f for f in files if re.search(args.only, os.path.basename(f))]
    failed = 0
    for path in files:
        shell, faults = Shell(args.plimsoll), []
        where = os.path.relpath(path, ROOT)
        with open(path, encoding="utf-8") as f:
            want = f.read()
        if path.endswith(".md"):
            got = document(shell, want, where, faults)
        else:
            got = "\n".join(replay(shell, want.split("\n"))) + "\n"
        same = got == want or (args.about and blurred(got) == blurred(want))
        if not same and args.accept:
            with open(path, "w", encoding="utf-8") as f:
                f.write(got)
            print(f"accepted {where}")
        elif not same:
            sys.stdout.writelines(difflib.unified_diff(want.splitlines(True), got.splitlines(True), where, "printed now"))
        for fault in faults:
            print(fault)
        failed += (not same and not args.accept) or bool(faults)
    print(f"{len(files)} files, {failed} differ; `make accept` takes the new output, the diff is the review" if failed else f"{len(files)} files")
    sys.exit(1 if failed or not files else 0)


if __name__ == "__main__":
    main()
