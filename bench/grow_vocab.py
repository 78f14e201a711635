#!/usr/bin/env python3
"""Gives a sparse GGUF the big vocabulary arrays of a real file, so that reading its header costs what it really costs.

usage: grow_vocab.py IN.gguf OUT.gguf TOKENS MERGES
"""
import os
import struct
import sys


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(key: str, elem_type: int, payload: list[bytes]) -> bytes:
    return string(key) + struct.pack("<IIQ", 9, elem_type, len(payload)) + b"".join(payload)


def main() -> None:
    source, target, tokens, merges = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    size = os.path.getsize(source)
    with open(source, "rb") as file:
        head = file.read(24)
        magic, version, n_tensors, n_kv = struct.unpack("<4sIQQ", head)
        assert magic == b"GGUF"
        rest = file.read(min(size, 64 << 20) - 24).rstrip(b"\0") + b"\0" * 64  # the hole reads as zeros
    # Lengths as in Llama 3.1: tokens of 6 bytes, merges of 10, no scores; its header has 7.8 MB.
    extra = array("bench.tokens", 8, [string(f"t{i % 100000:05d}") for i in range(tokens)])
    extra += array("bench.token_type", 5, [struct.pack("<i", 1)] * tokens)
    extra += array("bench.merges", 8, [string(f"ab{i % 100000:05d} cd") for i in range(merges)])
    with open(target, "wb") as file:
        file.write(struct.pack("<4sIQQ", magic, version, n_tensors, n_kv + 3))
        file.write(extra)
        file.write(rest)
        file.truncate(size + len(extra) + 64)


if __name__ == "__main__":
    main()
