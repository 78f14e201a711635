#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/gguf: small GGUF headers, sound ones (y_), ones that lie (n_) and ones
that may be read or refused (i_). The files are in the tree;
run this again only to add one.

usage: make_gguf.py FOLDER
"""
import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
GGML = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "q4_k": 12, "bf16": 30}
BLOCK = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 30: (1, 2)}
ALIGN = 32
HUGE = 1 << 63


def string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, value):
    return struct.pack("<" + {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}[kind], value)


def kv(key, kind, value):
    out = string(key) + struct.pack("<I", kind)
    if kind == STR:
        return out + string(value)
    if kind == ARR:
        elem, items = value
        out += struct.pack("<IQ", elem, len(items))
        return out + b"".join(string(i) if elem == STR else scalar(elem, i) for i in items)
    return out + scalar(kind, value)


def tensor(name, kind, dims, offset):
    return string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


def size(kind, dims):
    n, (block, block_bytes) = 1, BLOCK[kind]
    for d in dims:
        n *= d
    return n // block * block_bytes


def head(n_tensors, n_kv, version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, n_tensors, n_kv)


LLAMA = [("general.architecture", STR, "llama"), ("general.name", STR, "tiny"), ("llama.block_count", U32, 1),
         ("llama.context_length", U32, 128), ("llama.embedding_length", U32, 32), ("llama.feed_forward_length", U32, 64),
         ("llama.attention.head_count", U32, 4), ("llama.attention.head_count_kv", U32, 2),
         ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("llama.rope.dimension_count", U32, 8)]
VOCAB = [("tokenizer.ggml.model", STR, "gpt2"), ("tokenizer.ggml.tokens", ARR, (STR, ["<s>", "a", "b", "c"])),
         ("tokenizer.ggml.scores", ARR, (F32, [0.0, 1.0, 2.0, 3.0])), ("tokenizer.ggml.token_type", ARR, (I32, [3, 1, 1, 1]))]


def layer(i, kind, f32=0):
    b = f"blk.{i}."
    return [(b + "attn_norm.weight", f32, [32]), (b + "attn_q.weight", kind, [32, 32]), (b + "attn_k.weight", kind, [32, 16]),
            (b + "attn_v.weight", kind, [32, 16]), (b + "attn_output.weight", kind, [32, 32]), (b + "ffn_norm.weight", f32, [32]),
            (b + "ffn_gate.weight", kind, [32, 64]), (b + "ffn_up.weight", kind, [32, 64]), (b + "ffn_down.weight", kind, [64, 32])]


def whole(kvs, tensors, version=3, align=ALIGN):
    """A file whose offsets and length are true."""
    infos, at = b"", 0
    for name, kind, dims in tensors:
        infos += tensor(name, kind, dims, at)
        at += -(-size(kind, dims) // align) * align
    out = head(len(tensors), len(kvs), version) + b"".join(kv(*k) for k in kvs) + infos
    out += b"\0" * (-len(out) % align)
    return out + b"\0" * at


def moe():
    kvs = [("general.architecture", STR, "qwen3moe"), ("qwen3moe.block_count", U32, 1), ("qwen3moe.context_length", U32, 64),
           ("qwen3moe.embedding_length", U32, 32), ("qwen3moe.feed_forward_length", U32, 64), ("qwen3moe.attention.head_count", U32, 4),
           ("qwen3moe.attention.head_count_kv", U32, 2), ("qwen3moe.attention.key_length", U32, 8),
           ("qwen3moe.attention.value_length", U32, 8), ("qwen3moe.expert_count", U32, 4), ("qwen3moe.expert_used_count", U32, 2),
           ("qwen3moe.expert_feed_forward_length", U32, 32)]
    tensors = [("token_embd.weight", GGML["bf16"], [32, 4]), ("output_norm.weight", 0, [32])] + layer(0, GGML["q8_0"])[:6]
    tensors += [("blk.0.ffn_gate_inp.weight", 0, [32, 4]), ("blk.0.ffn_gate_exps.weight", GGML["q4_0"], [32, 32, 4]),
                ("blk.0.ffn_up_exps.weight", GGML["q4_0"], [32, 32, 4]), ("blk.0.ffn_down_exps.weight", GGML["q4_0"], [32, 32, 4])]
    return whole(kvs, tensors)


def nested(depth):
    """An array of one array of one array …"""
    inner = struct.pack("<IQ", U8, 1) + b"\1"
    for _ in range(depth):
        inner = struct.pack("<IQ", ARR, 1) + inner
    return string("deep") + struct.pack("<I", ARR) + inner


def one(*infos, n=None):
    """A header whose tensor list is given raw."""
    return head(n if n is not None else len(infos), 1) + kv("general.architecture", STR, "llama") + b"".join(infos) + b"\0" * 4096


def files():
    top = [("token_embd.weight", 8, [32, 4]), ("output_norm.weight", 0, [32])]
    sound = top + layer(0, 8)
    good = whole(LLAMA + VOCAB, sound)
    split = [("split.no", U16, 0), ("split.count", U16, 2), ("split.tensors.count", I32, len(sound))]
    arch = kv("general.architecture", STR, "llama")
    return {
        "y_llama_v3": good,
        "y_llama_v2": whole(LLAMA, sound, version=2),
        "y_moe": moe(),
        "n_split_without_second": whole(LLAMA + split, top + layer(0, 8)[:4]),
        "y_no_tensors": whole(LLAMA, []),
        "y_unknown_architecture": whole([("general.architecture", STR, "nobody-knows"), ("nobody-knows.block_count", U32, 1)], sound),
        "y_alignment_64": whole([("general.alignment", U32, 64)] + LLAMA, top, align=64),
        "y_every_scalar": whole([(f"k.{k}", k, 1) for k in (U8, I8, U16, I16, U32, I32, F32, BOOL, U64, I64, F64)] + LLAMA, top),
        "n_empty": b"",
        "n_magic": head(0, 0, magic=b"GGML"),
        "n_version_0": head(0, 0, version=0),
        "n_version_1": b"GGUF" + struct.pack("<III", 1, 0, 0),
        "n_version_big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 1),
        "n_cut_in_header": good[:18],
        "n_cut_in_key": good[:60],
        "n_cut_in_tensor_list": good[:1100],
        "n_cut_in_data": good[:-300],
        "n_count_keys_2_63": head(0, HUGE),
        "n_count_tensors_2_63": head(HUGE, 0),
        "n_count_keys_4g": head(0, 0xFFFFFFFF) + b"\0" * 256,
        "n_key_length_2_63": head(0, 1) + struct.pack("<Q", HUGE) + b"x" * 64,
        "n_key_length_past_end": head(0, 1) + struct.pack("<Q", 60000) + b"x" * 64,
        "n_key_empty": head(0, 1) + kv("", U8, 1),
        "n_key_not_utf8": head(0, 2) + kv(b"\xff\xfe\0x", U8, 1) + arch,
        "n_key_twice": head(0, 3) + arch + kv("llama.block_count", U32, 1) + kv("llama.block_count", U32, 2),
        "n_key_type": head(0, 1) + string("k") + struct.pack("<I", 99) + b"\0" * 16,
        "n_string_length_2_63": head(0, 1) + string("general.architecture") + struct.pack("<IQ", STR, HUGE),
        "n_array_length_2_63": head(0, 1) + string("a") + struct.pack("<IIQ", ARR, F64, HUGE) + b"\0" * 64,
        "n_array_of_strings_2_63": head(0, 1) + string("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARR, STR, HUGE) + string("a") * 8,
        "n_array_type": head(0, 1) + string("a") + struct.pack("<IIQ", ARR, 77, 1) + b"\0" * 16,
        "n_array_deep": head(0, 1) + nested(64),
        "n_array_wide": head(0, 1) + string("a") + struct.pack("<IIQ", ARR, ARR, HUGE) + (struct.pack("<IQ", ARR, HUGE) * 8),
        "n_alignment_0": whole([("general.alignment", U32, 0)] + LLAMA, top),
        "n_alignment_3": whole([("general.alignment", U32, 3)] + LLAMA, top),
        "i_wrong_types": whole([("general.architecture", U32, 1), ("llama.block_count", STR, "many")], top),
        "n_layers_4g": whole([("general.architecture", STR, "llama"), ("llama.block_count", U32, 0xFFFFFFFF)] + LLAMA[3:], sound),
        "n_heads_0": whole(LLAMA[:6] + [("llama.attention.head_count", U32, 0)] + LLAMA[7:], sound),
        "n_heads_per_layer_short": whole(LLAMA[:6] + [("llama.attention.head_count", ARR, (U32, []))] + LLAMA[7:], sound),
        "n_tensor_overlap": one(tensor("a", 0, [64], 0), tensor("b", 0, [64], 128)),
        "n_tensor_twice": one(tensor("a", 0, [8], 0), tensor("a", 0, [8], 32)),
        "n_tensor_type": one(tensor("a", 4000, [64], 0)),
        "n_tensor_type_removed": one(tensor("a", 4, [64], 0)),
        "n_tensor_dims_0": one(tensor("a", 0, [], 0)),
        "n_tensor_dims_9": one(tensor("a", 0, [1] * 9, 0)),
        "n_tensor_dim_0": one(tensor("a", 0, [64, 0], 0)),
        "n_tensor_dims_overflow": one(tensor("a", 0, [1 << 32, 1 << 32, 2], 0)),
        "n_tensor_dim_2_63": one(tensor("a", 0, [HUGE], 0)),
        "n_tensor_not_whole_blocks": one(tensor("a", 8, [33], 0)),
        "n_tensor_offset_2_63": one(tensor("a", 0, [64], HUGE)),
        "n_tensor_offset_unaligned": one(tensor("a", 0, [64], 7)),
        "n_tensor_past_end": one(tensor("a", 0, [1 << 20], 0)),
        "n_tensor_name_long": one(tensor("n" * 5000, 0, [8], 0)),
        "n_tensor_count_lies": one(tensor("a", 0, [8], 0), n=200),
        "i_split_count_0": whole(LLAMA + [("split.no", U16, 0), ("split.count", U16, 0)], top),
        "n_split_past_count": whole(LLAMA + [("split.no", U16, 7), ("split.count", U16, 2)], top),
    }


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, data in files().items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)


if __name__ == "__main__":
    main()
