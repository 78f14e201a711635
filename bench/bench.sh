#!/bin/sh
# Prints what the README promises: time and memory of whole `plimsoll plan` processes, headers with real vocabularies.
# usage: bench/bench.sh BUILD-FOLDER
set -eu
build=${1:?usage: bench/bench.sh BUILD-FOLDER}
here=$(dirname "$0")
plimsoll=$build/plimsoll
work=$build/bench
mkdir -p "$work"

model() { # name, quantisation, tokens, merges → a sparse file with a true header
	[ -s "$work/$1-$2.gguf" ] && return
	"$plimsoll" synth "$1" --quant "$2" --sparse --no-vocab --force -o "$work/plain.gguf" >/dev/null
	python3 "$here/grow_vocab.py" "$work/plain.gguf" "$work/$1-$2.gguf" "$3" "$4"
	rm "$work/plain.gguf"
}

measure() { # label, limit, command …
	label=$1 limit=$2
	shift 2
	"$@" >/dev/null || [ $? -eq 1 ] || { echo "bench: $label: the command fails" >&2; exit 1; }
	quoted=
	for word in "$@"; do
		quoted="$quoted '$word'"
	done
	hyperfine --shell=none --warmup 5 --runs 50 --ignore-failure --export-json "$work/time.json" "$quoted" >/dev/null 2>&1
	/usr/bin/time -f %M -o "$work/rss" "$@" >/dev/null || true
	python3 - "$work/time.json" "$(tail -n 1 "$work/rss")" "$label" "$limit" <<'P'
import json, sys
r = json.load(open(sys.argv[1]))["results"][0]
print(f"{sys.argv[3]:52s} median {r['median']*1e3:6.2f} ms  min {r['min']*1e3:6.2f} ms  peak {int(sys.argv[2])/1024:5.1f} MiB  (asked: {sys.argv[4]})")
P
}

model llama3.1-8b q4_k_m 128256 280147
model deepseek-r1 q4_k_m 129280 127741
measure "plan, 8B GGUF, RTX 4090" "under 10 ms, 16 MB" "$plimsoll" plan "$work/llama3.1-8b-q4_k_m.gguf" --on rtx4090
measure "plan, 8B GGUF, this machine" "under 10 ms, 16 MB" "$plimsoll" plan "$work/llama3.1-8b-q4_k_m.gguf"
measure "plan, 671B GGUF header, 8 x H200" "under 30 ms" "$plimsoll" plan "$work/deepseek-r1-q4_k_m.gguf" --on "8x h200-sxm"
measure "plan, 671B GGUF header, RTX 4090 + 512 GiB RAM" "under 30 ms" "$plimsoll" plan "$work/deepseek-r1-q4_k_m.gguf" --on "rtx4090, ram 512GiB"
measure "plan, catalogue model, vLLM" "under 10 ms" "$plimsoll" plan deepseek-ai/DeepSeek-R1 --on "8x h200-sxm" --engine vllm --context 65536
measure "inspect, 671B GGUF header" "-" "$plimsoll" inspect "$work/deepseek-r1-q4_k_m.gguf"
