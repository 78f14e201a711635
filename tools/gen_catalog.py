#!/usr/bin/env python3
"""Turns the readable facts in data/ into one C file of const tables, and refuses facts that cannot be.

usage: gen_catalog.py DATA_DIR OUT.c
"""
import csv
import json
import math
import os
import sys

DATA = sys.argv[1]
ERRORS: list[str] = []
VENDORS = {"NVIDIA": "NVIDIA", "AMD": "AMD", "Intel": "INTEL", "Apple": "APPLE", "Huawei": "HUAWEI", "Google": "GOOGLE",
           "AWS": "AWS"}


class Row(dict):
    """One row that knows where it stands."""

    path = ""
    line = 0

    def fail(self, column: str, why: str) -> None:
        ERRORS.append(f"{self.path}:{self.line}: {column}: {why} (is {self.get(column)!r})")

    def number(self, column: str, low: float, high: float, scale: float = 1.0) -> str:
        text = self.get(column, "")
        if not text:
            return "NAN"
        try:
            value = float(text)
        except ValueError:
            self.fail(column, "not a number")
            return "NAN"
        if not low <= value <= high:
            self.fail(column, f"outside {low:g} to {high:g}")
        return repr(value * scale)

    def whole(self, column: str, low: int, high: int) -> str:
        text = self.number(column, low, high)
        return "0" if text == "NAN" else str(int(float(text)))

    def text(self, column: str) -> str:
        return c_string(self.get(column, ""))


def c_string(text: str) -> str:
    out = []
    for byte in text.encode():
        char = chr(byte)
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif 32 <= byte < 127 and char != "?":
            out.append(char)
        else:
            out.append(f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def table(name: str, unique: str = "id") -> list[Row]:
    path = os.path.join(DATA, name)
    rows, seen = [], {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for fields in reader:
            row = Row(fields)
            row.path, row.line = path, reader.line_num
            if None in fields or None in fields.values():
                ERRORS.append(f"{path}:{reader.line_num}: the row has another number of cells than the header")
                continue
            if unique:
                key = row[unique].lower()
                if not key or key in seen:
                    row.fail(unique, f"empty or already in line {seen.get(key)}")
                seen[key] = reader.line_num
            rows.append(row)
    return rows


def gpu(row: Row) -> str:
    if not row["source_url"] and "all" not in row["unsourced_fields"]:
        row.fail("source_url", "a row needs a source, or 'all' in unsourced_fields")
    gib = 1 << 30
    usable = row["mem_gib_usable"]
    # The driver's total where it was seen; else the nominal size, whose gigabytes are binary for memory chips.
    nominal = not usable or float(usable) == float(row["mem_gb"] or 0)
    size = float(usable or row["mem_gb"] or 0)
    if not 1 <= size <= 1024:
        row.fail("mem_gb", "outside 1 to 1024")
    tflops = [row.number(c, 0.01, 30000, 1e12) for c in
              ("fp32_tflops", "fp16_tflops", "bf16_tflops", "fp8_tflops", "int8_tops", "int4_tops", "fp4_tflops")]
    return ", ".join([
        row.text("id"), row.text("name"), row.text("arch"), row.text("capability"), row.text("aliases"),
        "PL_VENDOR_" + VENDORS.get(row["vendor"], "OTHER"), row.whole("launch_year", 2012, 2030), row.text("form_factor"),
        row.text("mem_type"), f"UINT64_C({int(size * gib)})", str(nominal).lower(),
        "true" if row["unified_memory"] == "y" else "false", row.number("mem_gb_per_s", 10, 40000, 1e9), *tflops,
        row.number("pcie_gen", 1, 7), row.number("pcie_lanes", 1, 32), row.number("link_gb_per_s", 10, 10000, 1e9),
        row.number("tdp_w", 5, 5000), row.number("idle_w", 0.5, 500), row.number("msrp_usd", 50, 500000),
        row.text("street_usd"), row.text("notes"), row.text("source_url"), row.text("conflict"),
        row.text("unsourced_fields")])


def node(row: Row) -> str:
    row["power"] = row["power_kw"] or row["est_power_kw"]
    row["price"] = row["price_usd"] or row["est_price_usd"]
    return ", ".join([
        row.text("id"), row.text("name"), row.text("gpu_id"), row.text("intra_link"), row.text("cpu"), row.text("nic"),
        row.text("source_url"), row.text("notes"), row.text("aliases"), row.whole("gpu_count", 1, 1024),
        row.number("link_gb_per_s", 1, 10000, 1e9), row.number("ram_gb", 4, 200000, 1 << 30),
        row.number("power", 0.01, 1000, 1000), row.number("price", 100, 2e7)])


def cloud(row: Row) -> str:
    return ", ".join([
        row.text("id"), row.text("provider"), row.text("instance"), row.text("gpu_id"), row.text("disk"),
        row.text("region"), row.text("date"), row.text("source_url"), row.text("notes"), row.whole("gpu_count", 1, 64),
        row.whole("vcpu", 1, 2048), row.number("ram_gb", 1, 100000, 1 << 30), row.number("net_gbps", 0.1, 10000, 1e9),
        row.number("on_demand_usd_h", 0.01, 1000), row.number("spot_usd_h", 0.01, 1000)])


def host(row: Row) -> str:
    return ", ".join([
        row.text("id"), row.text("vendor"), row.text("platform"), row.text("example_cpu"), row.text("mem_type"),
        row.text("source_url"), row.text("notes"), row.whole("channels_per_socket", 1, 64), row.whole("mt_s", 400, 20000),
        row.whole("sockets_max", 1, 16), row.number("bw_gbs_per_socket_theoretical", 5, 5000, 1e9),
        row.number("practical_gbs", 5, 5000, 1e9), row.number("pcie_gen", 1, 7),
        row.number("pcie_lanes_per_socket", 1, 512), row.number("max_ram_gb_typical", 1, 65536, 1 << 30)])


def core(row: Row) -> str:
    return ", ".join([row.text("id"), row.text("name"), row.text("isa"), row.whole("simd_bits", 8, 4096), row.text("cpuid"),
                      row.text("source_url"), row.text("unsourced_fields"), row.text("notes")])


def cpu(row: Row) -> str:
    row["vendor_c"] = f"PL_VENDOR_{VENDORS.get(row['vendor'], 'OTHER')}"
    return ", ".join([
        row.text("id"), row.text("name"), row.text("match"), row.text("core"), row.text("slow_core"), row.text("mem_type"),
        row.text("source_url"), row.text("unsourced_fields"), row.text("notes"), row["vendor_c"], row.whole("cores", 1, 512),
        row.whole("slow_cores", 1, 512), row.whole("mt_s", 400, 20000), row.whole("sockets_max", 1, 16),
        row.number("base_ghz", 0.3, 7, 1e9), row.number("boost_ghz", 0.3, 7, 1e9), row.number("all_core_ghz", 0.3, 7, 1e9),
        row.number("slow_ghz", 0.3, 7, 1e9), row.number("channels", 0.5, 16)])


def link(row: Row) -> str:
    return ", ".join([
        row.text("id"), row.text("kind"), row.text("name"), row.text("source_url"), row.text("notes"),
        row.number("theoretical_gbs_per_dir", 0.01, 10000, 1e9), row.number("practical_gbs_per_dir", 0.01, 10000, 1e9),
        row.number("latency_us", 0.01, 1e6, 1e-6)])


def precision(row: Row) -> str:
    return ", ".join(row.text(c) for c in ("record", "arch", "cc_or_gfx", "item", "value", "detail", "source_url"))


def image(row: Row) -> str:
    if ":" not in row["image"].rsplit("/", 1)[-1] or row["image"].endswith(":latest"):
        row.fail("image", "the tag is not pinned")
    return ", ".join(row.text(c) for c in ("engine", "backend", "image", "program", "source_url"))


def without_infinity(value):
    """Infinity and NaN are not JSON; no field of a config that matters holds one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: without_infinity(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_infinity(v) for v in value]
    return value


def model(row: Row) -> str:
    path = os.path.join(DATA, "models", "configs", row["file"])
    config = "{}"
    try:
        with open(path, encoding="utf-8") as file:
            config = json.dumps(without_infinity(json.load(file)), separators=(",", ":"), ensure_ascii=False)
    except (OSError, ValueError) as fault:
        row.fail("file", str(fault))
    published = row["published_params"]
    return ", ".join([
        row.text("id"), row.text("aliases"), c_string(config), str(len(config.encode())),
        f"UINT64_C({published})" if published else "0", row.text("published_source"), row.text("published_contains"),
        row.text("config_kind"), row.text("source_url"), row.text("license")])


def emit(out, struct: str, symbol: str, rows: list[str]) -> None:
    out.write(f"static const struct {struct} {symbol}[] = {{\n")
    for row in rows:
        out.write(f"\t{{{row}}},\n")
    out.write("};\n")
    out.write(f"const struct {struct} *pl_catalog_{symbol}(uint32_t *ret_n)\n{{\n"
              f"\t*ret_n = sizeof {symbol} / sizeof *{symbol};\n\treturn {symbol};\n}}\n\n")


def main() -> int:
    gpus = table("gpus.csv")
    known = {row["id"] for row in gpus}
    nodes, clouds = table("nodes.csv"), table("cloud.csv")
    for row in nodes + clouds:
        if row["gpu_id"] not in known:
            row.fail("gpu_id", "no such GPU in gpus.csv")
    cores, cpus = table("cores.csv"), table("cpus.csv")
    core_ids = {row["id"] for row in cores}
    for row in cpus:
        for column in ("core", "slow_core"):
            if row[column] not in core_ids | ({""} if column == "slow_core" else set()):
                row.fail(column, "no such core in cores.csv")
        if not row["source_url"]:
            row.fail("source_url", "the row has no source")
    tables = [
        ("pl_gpu", "gpus", [gpu(r) for r in gpus]), ("pl_node", "nodes", [node(r) for r in nodes]),
        ("pl_cloud", "clouds", [cloud(r) for r in clouds]),
        ("pl_host_platform", "hosts", [host(r) for r in table("hosts.csv")]),
        ("pl_link", "links", [link(r) for r in table("links.csv")]),
        ("pl_core", "cores", [core(r) for r in cores]), ("pl_cpu", "cpus", [cpu(r) for r in cpus]),
        ("pl_precision", "precisions", [precision(r) for r in table("precisions.csv", "")]),
        ("pl_image", "images", [image(r) for r in table("images.csv", "")]),
        ("pl_model_row", "models", [model(r) for r in table("models/models.csv")]),
    ]
    if ERRORS:
        print("\n".join(ERRORS), file=sys.stderr)
        return 1
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write("/* Generated from data/ by tools/gen_catalog.py. */\n#include <math.h>\n\n#include <plimsoll/catalog.h>\n"
                  "#include <plimsoll/emit.h>\n#include <plimsoll/hardware.h>\n\n#pragma GCC diagnostic ignored \"-Woverlength-strings\"\n\n")
        for struct, symbol, rows in tables:
            emit(out, struct, symbol, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
