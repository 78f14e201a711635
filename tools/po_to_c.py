#!/usr/bin/env python3
"""Compiles a gettext catalogue into a sorted C table, so that translations need no installed locale.

usage: po_to_c.py MSGFMT FILE.po OUT.c
"""
import gettext
import subprocess
import sys
import tempfile


def c_string(text: str) -> str:
    return '"' + "".join(f"\\{b:03o}" if b < 32 or b > 126 or chr(b) in '"\\?' else chr(b) for b in text.encode()) + '"'


def main() -> None:
    msgfmt, source, target = sys.argv[1:4]
    with tempfile.NamedTemporaryFile(suffix=".mo") as compiled:
        subprocess.run([msgfmt, "--check-format", "-o", compiled.name, source], check=True)
        with open(compiled.name, "rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog
    rows = sorted(((k, v) for k, v in catalog.items() if isinstance(k, str) and k), key=lambda row: row[0].encode())
    with open(target, "w", encoding="utf-8") as out:
        out.write(f'/* Generated from {source.rsplit("/", 1)[-1]} by tools/po_to_c.py. */\n#include "cli/messages.h"\n\n')
        out.write("const struct pl_message pl_messages_zh[] = {\n")
        out.writelines(f"\t{{{c_string(k)}, {c_string(v)}}},\n" for k, v in rows)
        out.write('\t{"\\377", ""},\n};\n')  # never empty; after every message
        out.write("const unsigned pl_n_messages_zh = sizeof pl_messages_zh / sizeof *pl_messages_zh;\n")


if __name__ == "__main__":
    main()
