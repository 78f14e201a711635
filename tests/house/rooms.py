#!/usr/bin/env python3
"""Keeps the house in order, by the table of rooms in ARCHITECTURE.md:

- a file includes headers of its own room and of rooms above it in the table only, own headers and public ones alike;
- the pure rooms read no file, clock or environment, print nothing, end nothing and hold no variable of their own;
- public headers include public headers and the C library only, and each compiles alone.

usage: rooms.py SOURCE-FOLDER [LIBRARY.a]
"""
import os
import re
import subprocess
import sys

ROOT = sys.argv[1]
FAULTS = []

IMPURE = r"""printf fprintf vprintf vfprintf dprintf puts fputs putchar putc fputc perror fopen fdopen freopen fread fwrite fclose
open openat creat read write pread pwrite mmap stat fstat lstat opendir readdir unlink rename exit _exit quick_exit time clock
clock_gettime gettimeofday localtime gmtime getenv secure_getenv setenv rand srand random srandom drand48 getrandom system popen
fork execve execvp socket connect setlocale getcwd isatty ioctl sleep usleep nanosleep signal sigaction""".split()
IMPURE_CALL = re.compile(r"(?<![\w.>])(" + "|".join(IMPURE) + r")\s*\(")
IMPURE_WORD = re.compile(r"(?<!\w)(stdin|stdout|stderr|errno|environ)(?!\w)")
# The one variable of the pure rooms: who translates messages (include/plimsoll/error.h).
VARIABLES = {"translator"}


def fault(text):
    FAULTS.append(text)


def table():
    """[(rank, room, pure, public headers)] from ARCHITECTURE.md; rooms of one rank do not see each other."""
    rows, rank = [], 0
    with open(os.path.join(ROOT, "ARCHITECTURE.md"), encoding="utf-8") as f:
        text = f.read()
    part = text.split("<!-- rooms -->")[1]
    for line in part.splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if not line.startswith("| `"):
            continue
        rank += 1
        headers = re.findall(r"`([\w.]+)`", cells[2])
        rooms = re.findall(r"`(\w+)`", cells[0])
        for room in rooms:
            rows.append((rank, room, cells[1] == "pure", [h for h in headers if len(rooms) == 1 or h.split(".")[0] == room]))
    return rows


def sources(folder):
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith((".c", ".h", ".def")):
                yield os.path.join(path, name)


def code(path):
    """The text without comments, strings and characters; lines stay where they are."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return text, pattern.sub(lambda m: '""' + "\n" * m.group().count("\n"), text)


def check_includes(path, rank, room, ranks, owner):
    where = os.path.relpath(path, ROOT)
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            m = re.match(r'\s*#\s*include\s+(?:"(\w+)/([\w./]+)"|<plimsoll/([\w.]+)>)', line)
            if not m:
                if re.match(r'\s*#\s*include\s+"', line):
                    fault(f"{where}:{n}: write an include with its room: \"room/file.h\"")
                continue
            other = m.group(1) or owner.get(m.group(3)) or m.group(3).split(".")[0]
            if other not in ranks:
                fault(f"{where}:{n}: '{other}' stands in no row of the table of rooms: {line.strip()}")
            elif other != room and ranks[other] >= rank:
                fault(f"{where}:{n}: {room} may not include {other}: {line.strip()}")


def check_pure(path):
    where = os.path.relpath(path, ROOT)
    for n, line in enumerate(code(path)[1].splitlines(), 1):
        m = IMPURE_CALL.search(line) or IMPURE_WORD.search(line)
        if m and not line.lstrip().startswith("#"):
            fault(f"{where}:{n}: a pure room may not use {m.group(1)}")


def check_public():
    folder = os.path.join(ROOT, "include/plimsoll")
    for path in sources(folder):
        where = os.path.relpath(path, ROOT)
        with open(path, encoding="utf-8") as f:
            for n, line in enumerate(f, 1):
                m = re.match(r'\s*#\s*include\s+([<"][\w./]+[>"])', line)
                if m and not re.match(r"<(plimsoll/[\w.]+|std\w+\.h|inttypes\.h|limits\.h|math\.h|string\.h)>", m.group(1)):
                    fault(f"{where}:{n}: a public header may not include {m.group(1)}")
        if path.endswith(".h"):
            out = subprocess.run(["cc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", os.path.join(ROOT, "include"), "-x", "c", path],
                                 capture_output=True, text=True)
            if out.returncode:
                fault(f"{where} does not compile alone: {out.stderr.strip()[:300]}")


def check_variables(library, pure):
    """What may be written lies in .data and .bss; tables lie in .rodata and .data.rel.ro."""
    # objects are named after their path: base_arena.c.o
    out = subprocess.run(["objdump", "-t", library], capture_output=True, text=True, check=True).stdout
    room = None
    for line in out.splitlines():
        m = re.match(r"(\S+\.o):", line)
        if m:
            room = m.group(1).split("_")[0]
            continue
        m = re.match(r"[0-9a-f]+ .{7} (\.data(?!\.rel\.ro)[\w.]*|\.bss[\w.]*|\.t(?:bss|data)[\w.]*|\*COM\*)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$", line)
        if m and room in pure and not m.group(2).startswith(".") and m.group(2) not in VARIABLES:
            fault(f"{room}: a pure room may not keep a variable: {m.group(2)}")


def main():
    rows = table()
    ranks = {room: rank for rank, room, _, _ in rows}
    owner = {header: room for _, room, _, headers in rows for header in headers}
    pure = {room for _, room, is_pure, _ in rows if is_pure}
    n = 0
    for room in sorted(os.listdir(os.path.join(ROOT, "src"))):
        folder = os.path.join(ROOT, "src", room)
        if not os.path.isdir(folder):
            continue
        if room not in ranks:
            fault(f"src/{room} stands in no row of the table of rooms")
            continue
        for path in sources(folder):
            n += 1
            check_includes(path, ranks[room], room, ranks, owner)
            if room in pure:
                check_pure(path)
    check_public()
    if len(sys.argv) > 2:
        check_variables(sys.argv[2], pure)
    for text in FAULTS:
        print(text)
    print(f"{n} files, {len(FAULTS)} faults")
    sys.exit(1 if FAULTS or not n else 0)


if __name__ == "__main__":
    main()
