/* Engines' commands, against what the engines' own parsers do with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/command.h"

enum { MAX_WORDS = 64 };

static struct pl_arena *a;
static struct pl_err err;

static int set_up(void **state)
{
	(void)state;
	a = pl_arena_new(0);
	return a ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	pl_arena_free(a);
	return 0;
}

static int file_of(void *ctx, struct pl_arena *arena, const char *path, const char **ret_text, size_t *ret_len, struct pl_err *e)
{
	(void)arena;
	if (strcmp(path, "serve.yaml") != 0)
		return pl_fail(e, PL_ERR_IO, path, "there is no such file");
	*ret_text = ctx;
	*ret_len = strlen(ctx);
	return 0;
}

/* Splits at spaces; 'one word' stays together. */
static uint32_t split(const char *line, const char **words)
{
	char *p = pl_arena_strdup(a, line);
	uint32_t n = 0;
	while (*p && n < MAX_WORDS) {
		char stop = *p == '\'' ? '\'' : ' ';
		p += *p == '\'';
		words[n++] = p;
		p += strcspn(p, stop == ' ' ? " " : "'");
		if (*p)
			*p++ = '\0';
		p += strspn(p, " ");
	}
	return n;
}

static const struct pl_command *read_with(const char *line, const char *yaml)
{
	const char *words[MAX_WORDS];
	struct pl_command *c = NULL;
	struct pl_command_files files = {(void *)(uintptr_t)yaml, file_of};
	memset(&err, 0, sizeof err);
	return pl_command_read(a, words, split(line, words), yaml ? &files : NULL, &c, &err) ? NULL : c;
}

static const struct pl_command *read_line(const char *line)
{
	const struct pl_command *c = read_with(line, NULL);
	if (!c)
		fail_msg("%s: %s: %s", line, err.where, err.msg);
	return c;
}

static void refused(const char *line, const char *about)
{
	if (read_with(line, NULL))
		fail_msg("%s: read, though the program refuses it", line);
	if (!strstr(err.msg, about) && !strstr(err.where, about))
		fail_msg("%s: '%s: %s' does not speak of '%s'", line, err.where, err.msg, about);
}

static bool noted(const struct pl_command *c, const char *about)
{
	for (const struct pl_note *n = c->notes; n; n = n->next)
		if (strstr(n->text, about))
			return true;
	return false;
}

static enum pl_setting_effect effect(const struct pl_command *c, const char *flag)
{
	for (uint32_t i = 0; i < c->n_settings; i++)
		if (!strcmp(c->settings[i].flag, flag))
			return c->settings[i].effect;
	fail_msg("%s was not seen", flag);
	return PL_SETTING_UNKNOWN;
}

/* ---- llama.cpp ------------------------------------------------------------------------------------------------------- */

static void llama_flags_in_every_form(void **state)
{
	(void)state;
	const struct pl_command *c = read_line(
	    "llama-server -m m.gguf -c 32768 -b 1024 -ub 256 -np 2 -ngl 40 -ts 3,2 -fa on -ctk q8_0 --cache-type-v q4_0 -sm row -mg 1 -nkvo "
	    "--swa-full -lm mmap+mlock --no-repack --n_cpu_moe 7 -ot exps=CPU,attn=CUDA1 -fit off --no-op-offload --no-host -cram 0");
	const struct pl_params *p = &c->params;
	assert_string_equal(c->engine, "llama.cpp");
	assert_string_equal(c->model_ref, "m.gguf");
	assert_int_equal(c->n_ctx_total_tokens, 32768);
	assert_int_equal(p->n_batch, 1024);
	assert_int_equal(p->n_ubatch, 256);
	assert_int_equal(p->n_seq, 2);
	assert_false(p->kv_unified);
	assert_int_equal(p->n_gpu_layers, 40);
	assert_true(p->tensor_split[0] == 3 && p->tensor_split[1] == 2);
	assert_int_equal(p->flash_attn, 1);
	assert_int_equal(p->type_k, PL_DTYPE_Q8_0);
	assert_int_equal(p->type_v, PL_DTYPE_Q4_0);
	assert_int_equal(p->split_mode, PL_SPLIT_ROW);
	assert_int_equal(p->main_gpu, 1);
	assert_true(p->no_kv_offload && p->swa_full && p->mlock && !p->no_mmap && p->no_repack && p->no_op_offload && p->no_host);
	assert_int_equal(p->n_cpu_moe, 7);
	assert_int_equal(p->n_overrides, 2);
	assert_string_equal(p->overrides[1].pattern, "attn");
	assert_string_equal(p->overrides[1].buffer, "CUDA1");
	assert_false(p->engine_fit);
	assert_int_equal(p->cache_ram_bytes, 0);
	assert_int_equal(p->program, PL_LLAMA_SERVER);
	assert_null(c->notes);
}

static void llama_defaults_by_program(void **state)
{
	(void)state;
	const struct pl_command *server = read_line("llama-server -m m.gguf"), *fit = read_line("llama-fit-params -m m.gguf"),
	                        *cli = read_line("/usr/bin/llama-cli -m m.gguf"), *main_ = read_line("llama-completion -m m.gguf -p hello"),
	                        *bench = read_line("llama-bench -m m.gguf"), *ppl = read_line("llama-perplexity -m m.gguf -f wiki.txt");
	assert_int_equal(server->params.n_seq, 4);
	assert_true(server->params.kv_unified && server->params.engine_fit && server->n_ctx_auto);
	assert_int_equal(server->params.n_cpu_moe, PL_AUTO);
	assert_int_equal(fit->params.n_seq, 1);
	assert_int_equal(fit->params.program, PL_LLAMA_FIT_PARAMS);
	assert_int_equal(cli->params.n_seq, 1);
	assert_int_equal(cli->params.program, PL_LLAMA_SERVER);
	assert_int_equal(main_->params.program, PL_LLAMA_COMPLETION);
	assert_int_equal(bench->params.program, PL_LLAMA_BENCH);
	assert_int_equal(bench->n_ctx_total_tokens, 512);
	assert_true(bench->all_layers && !bench->params.engine_fit);
	/* perplexity.cpp: 2048 / 512 = 4 sequences of 512 */
	assert_int_equal(ppl->params.n_seq, 4);
	assert_int_equal(ppl->n_ctx_total_tokens, 2048);
	assert_int_equal(ppl->params.program, PL_LLAMA_COMPLETION);
}

static void llama_bench_takes_the_largest_run(void **state)
{
	(void)state;
	const struct pl_command *c = read_line("llama-bench -m a.gguf,b.gguf -p 512,4096 -n 128 -pg 8192,256 -d 0,16384 -ngl 20,99 -fa 1 -ts 1/3 "
	                                       "-ub 256-1024*2 --mmap 0 -nkvo 1 -dev CUDA1/CUDA0 -ot 'exps=CPU;attn=CUDA0'");
	assert_int_equal(c->n_ctx_total_tokens, 8192 + 256 + 16384);
	assert_int_equal(c->params.n_gpu_layers, 20);
	assert_true(noted(c, "-ngl 20,99"));
	assert_int_equal(c->params.n_ubatch, 1024);
	assert_true(c->params.tensor_split[0] == 1 && c->params.tensor_split[1] == 3);
	assert_true(c->params.no_mmap && c->params.no_kv_offload && c->params.flash_attn == 1);
	assert_int_equal(c->devices.n, 2);
	assert_int_equal(c->devices.index[0], 1);
	assert_int_equal(c->params.n_overrides, 2);
	assert_string_equal(c->model_ref, "a.gguf");
}

static void llama_environment_yields_to_words(void **state)
{
	(void)state;
	const struct pl_command *c =
	    read_line("LLAMA_ARG_CTX_SIZE=1024 LLAMA_ARG_N_GPU_LAYERS=7 LLAMA_ARG_NO_KV_OFFLOAD=1 LLAMA_ARG_KV_UNIFIED=0 LLAMA_ARG_MMPROJ=v.gguf "
	              "HIP_VISIBLE_DEVICES=1 LLAMA_ARG_NEW=1 PATH=/bin llama-server -c 2048 -np 2 -m m.gguf");
	assert_int_equal(c->n_ctx_total_tokens, 2048);
	assert_int_equal(c->params.n_gpu_layers, 7);
	assert_true(c->params.no_kv_offload);
	assert_string_equal(c->mmproj_ref, "v.gguf");
	assert_int_equal(c->visible.n, 1);
	assert_int_equal(c->visible.index[0], 1);
	assert_true(noted(c, "LLAMA_ARG_NEW"));
	assert_false(noted(c, "PATH"));
}

static void llama_harmless_flags_keep_their_values(void **state)
{
	(void)state;
	const struct pl_command *c = read_line("llama-server --temp 0.7 --chat-template-kwargs '{\"a\": 1}' --host 0.0.0.0 --port 8080 -t 8 "
	                                       "--no-webui --metrics --jinja --control-vector-layer-range 3 9 --new-flag word --api-key x -m m.gguf");
	assert_string_equal(c->model_ref, "m.gguf");
	assert_int_equal(effect(c, "--temp"), PL_SETTING_HARMLESS);
	assert_int_equal(effect(c, "--control-vector-layer-range"), PL_SETTING_HARMLESS);
	assert_int_equal(effect(c, "--new-flag"), PL_SETTING_UNKNOWN);
	assert_int_equal(effect(c, "-m"), PL_SETTING_READ);
	assert_true(noted(c, "--new-flag"));
}

static void llama_models_beside_the_first(void **state)
{
	(void)state;
	const struct pl_command *c = read_line("llama-server -hf ggml-org/gpt-oss-20b-GGUF:Q4_K_M -md d.gguf -ngld 9 -ctkd q8_0 --spec-draft-n-max 5 "
	                                       "--no-mmproj-offload -mm v.gguf -cmoed");
	assert_string_equal(c->model_ref, "hf:ggml-org/gpt-oss-20b-GGUF:Q4_K_M");
	assert_string_equal(c->draft_ref, "d.gguf");
	assert_int_equal(c->params.draft.n_gpu_layers, 9);
	assert_int_equal(c->params.draft.type_k, PL_DTYPE_Q8_0);
	assert_int_equal(c->params.draft.n_max, 5);
	assert_true(c->params.mmproj_on_cpu);
	assert_true(read_line("llama-server -m m.gguf --spec-type draft-mtp")->params.draft.mtp);
	c = read_line("llama-server --gpt-oss-20b-default");
	assert_string_equal(c->model_ref, "hf:ggml-org/gpt-oss-20b-GGUF:gpt-oss-20b-mxfp4.gguf");
	assert_int_equal(c->params.n_seq, 2);
	assert_int_equal(c->n_ctx_total_tokens, 262144);
	assert_int_equal(c->params.n_ubatch, 2048);
}

static void llama_refuses(void **state)
{
	(void)state;
	refused("llama-server -m m.gguf -c", "-c");
	refused("llama-server -m m.gguf -c many", "whole number");
	refused("llama-server -m m.gguf -np 0", "-np");
	refused("llama-server -m m.gguf -fa -m x", "-fa");
	refused("llama-server -m m.gguf -ctk q2_k", "q2_k");
	refused("llama-server -m m.gguf -sm diagonal", "diagonal");
	refused("llama-server -m m.gguf -ot nothing", "PATTERN=BUFFER");
	refused("llama-server -m m.gguf -lm fast", "load mode");
	refused("llama-server -m m.gguf -fit maybe", "maybe");
	refused("llama-server -m m.gguf -ncmoe -3", "-ncmoe");
	refused("llama-server m.gguf", "m.gguf");
	refused("llama-bench -m m.gguf -p 0 -n 0", "no run");
	refused("bash", "bash");
	refused("python3 -m http.server", "python3");
}

static void what_older_builds_took_is_read_and_said(void **state)
{
	(void)state;
	const struct pl_command *c = read_line("llama-server -m m.gguf --no-mmap --mlock -ngl 99x --ctx-size=4096");
	assert_true(c->params.no_mmap && c->params.mlock);
	assert_true(noted(c, "--no-mmap") && noted(c, "99x") && noted(c, "--ctx-size=4096"));
	assert_int_equal(c->n_ctx_total_tokens, 4096);
	assert_int_equal(c->params.n_gpu_layers, 99);
}

/* ---- what stands around a program ------------------------------------------------------------------------------------ */

static void wrappers_are_looked_through(void **state)
{
	(void)state;
	static const char *const lines[] = {
	    "env -i CUDA_VISIBLE_DEVICES=1 llama-server -m m.gguf -c 4096",
	    "sudo -E nice -n 5 CUDA_VISIBLE_DEVICES=1 ./build/bin/llama-server -m m.gguf -c 4096",
	    "docker run --rm -it --gpus device=1 -v /models:/models -p 8080:8080 ghcr.io/ggml-org/llama.cpp:server-cuda -m m.gguf -c 4096",
	    "docker run --gpus '\"device=1\"' ghcr.io/ggml-org/llama.cpp:full-cuda --server -m m.gguf -c 4096",
	    "podman run -e CUDA_VISIBLE_DEVICES=1 --entrypoint llama-server some/image -m m.gguf -c 4096",
	    "numactl --cpunodebind=0 env CUDA_VISIBLE_DEVICES=1 llama-server -m m.gguf -c 4096",
	    "CUDA_VISIBLE_DEVICES=1 llama serve -m m.gguf -c 4096",
	};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		const struct pl_command *c = read_line(lines[i]);
		assert_string_equal(c->model_ref, "m.gguf");
		assert_int_equal(c->n_ctx_total_tokens, 4096);
		if (c->visible.n != 1 || c->visible.index[0] != 1)
			fail_msg("%s: the device was not seen", lines[i]);
	}
	assert_string_equal(read_line("python3 -m vllm.entrypoints.openai.api_server --model a/b")->model_ref, "a/b");
	assert_string_equal(read_line("docker run --runtime nvidia --gpus all --ipc=host vllm/vllm-openai:latest --model a/b -tp 2")->model_ref, "a/b");
	assert_string_equal(read_line("docker run --gpus 2 vllm/vllm-openai:v0.11.0 a/b")->model_ref, "a/b");
}

/* ---- vLLM ------------------------------------------------------------------------------------------------------------ */

static void vllm_flags_in_every_form(void **state)
{
	(void)state;
	const struct pl_command *c = read_line(
	    "vllm serve a/b --tensor_parallel_size=4 -pp 2 --max-model-len 32k --gpu-memory-util 0.85 --kv-cache-dtype fp8_e5m2 --max-num-seqs 64 "
	    "--max-num-batched-tokens 8K --enforce-eager --no-enable-prefix-caching --block-size 32 --cpu-offload-gb 1.5 --enable-lora "
	    "--max-lora-rank 64 --limit-mm-per-prompt.image 3 --served-model-name x y --trust-remote-code --tool-call-parser hermes "
	    "--enable-expert-parallel --dtype half --num-gpu-blocks-override 512");
	const struct pl_params *p = &c->params;
	assert_string_equal(c->model_ref, "a/b");
	assert_int_equal(p->tensor_parallel, 4);
	assert_int_equal(p->pipeline_parallel, 2);
	assert_int_equal(p->data_parallel, 1);
	assert_int_equal(p->n_ctx_tokens, 32000); /* k is 1000, K 1024 */
	assert_int_equal(p->max_num_batched_tokens, 8192);
	assert_true(p->gpu_memory_utilization_frac == 0.85);
	assert_int_equal(p->type_k, PL_DTYPE_F8_E5M2);
	assert_int_equal(p->type_v, PL_DTYPE_F8_E5M2);
	assert_int_equal(p->max_num_seqs, 64);
	assert_true(p->enforce_eager && p->prefix_caching_off && p->expert_parallel);
	assert_int_equal(p->block_size, 32);
	assert_int_equal(p->cpu_offload_bytes, UINT64_C(1610612736));
	assert_int_equal(p->max_loras, 1);
	assert_int_equal(p->max_lora_rank, 64);
	assert_int_equal(p->mm_items_per_prompt, 3);
	assert_int_equal(p->dtype, PL_DTYPE_F16);
	assert_int_equal(p->num_gpu_blocks_override, 512);
	assert_null(c->notes);
}

static void vllm_objects(void **state)
{
	(void)state;
	const struct pl_command *c = read_line("vllm serve a/b --speculative-config '{\"method\": \"eagle3\", \"model\": \"d/e\", \"num_speculative_tokens\": 4}' "
	                                       "--compilation-config '{\"cudagraph_capture_sizes\": [1, 8, 256]}'");
	assert_string_equal(c->draft_ref, "d/e");
	assert_int_equal(c->params.draft.n_max, 4);
	assert_int_equal(c->params.max_cudagraph_batch, 256);
	assert_true(read_line("vllm serve a/b -sc '{\"method\": \"deepseek_mtp\", \"num_speculative_tokens\": 1}'")->params.draft.mtp);
	assert_true(read_line("vllm serve a/b -O0")->params.enforce_eager);
	assert_true(read_line("vllm serve a/b -cc.cudagraph_mode NONE")->params.enforce_eager);
	assert_true(read_line("vllm serve a/b --limit-mm-per-prompt '{\"image\": 0}'")->params.language_model_only);
	refused("vllm serve a/b --speculative-config {", "JSON");
	refused("vllm serve a/b --gpu-memory-utilization 0", "share");
	refused("vllm serve a/b -tp two", "whole number");
	refused("vllm serve a/b c/d", "c/d");
	refused("vllm serve a/b --max-model-len --port 1", "--max-model-len");
}

static void vllm_configuration_file_yields_to_words(void **state)
{
	(void)state;
	static const char yaml[] = "model: a/b\ntensor-parallel-size: 4\nmax-model-len: 4096\nenforce-eager: true\nenable-prefix-caching: false\n"
	                           "served-model-name: [x, y]\nspeculative-config:\n  method: ngram\n  num_speculative_tokens: 3\n";
	const struct pl_command *c = read_with("vllm serve --config serve.yaml -tp 2", yaml);
	assert_non_null(c);
	assert_string_equal(c->model_ref, "a/b");
	assert_int_equal(c->params.tensor_parallel, 2);
	assert_int_equal(c->params.n_ctx_tokens, 4096);
	assert_true(c->params.enforce_eager);
	assert_int_equal(c->params.draft.n_max, 3);
	assert_null(read_with("vllm serve --config other.yaml", yaml));
	assert_null(read_with("vllm serve --config serve.yaml", "model: [\n"));
	assert_non_null(strstr(err.msg, "line"));
	refused("vllm serve --config serve.yaml", "serve.yaml");
}

/* ---- on a machine ---------------------------------------------------------------------------------------------------- */

static const struct pl_machine *machine_of(const char *command, const char *line, struct pl_command **ret)
{
	const struct pl_machine *m = NULL, *seen = NULL;
	assert_int_equal(pl_machine_parse(a, line, &m, &err), 0);
	*ret = (struct pl_command *)(uintptr_t)read_line(command);
	return pl_command_machine(a, *ret, m, &seen, &err) ? NULL : seen;
}

static void devices_are_picked_in_order(void **state)
{
	(void)state;
	struct pl_command *c;
	const struct pl_machine *m = machine_of("CUDA_VISIBLE_DEVICES=2,0 llama-server -m m", "1x rtx4090 + 1x rtx3090 + 1x a6000", &c);
	assert_int_equal(m->n_devices, 2);
	assert_non_null(strstr(m->devices[0].name, "A6000"));
	assert_non_null(strstr(m->devices[1].name, "4090"));
	m = machine_of("CUDA_VISIBLE_DEVICES=2,0 llama-server -m m -dev CUDA1", "1x rtx4090 + 1x rtx3090 + 1x a6000", &c);
	assert_int_equal(m->n_devices, 1);
	assert_non_null(strstr(m->devices[0].name, "4090"));
	assert_string_equal(c->visible_env, "CUDA_VISIBLE_DEVICES=0");
	assert_int_equal(machine_of("CUDA_VISIBLE_DEVICES= llama-server -m m", "2x rtx4090", &c)->n_devices, 0);
	assert_int_equal(machine_of("llama-server -m m -dev none", "2x rtx4090", &c)->n_devices, 0);
	assert_int_equal(machine_of("docker run --gpus 1 vllm/vllm-openai a/b", "2x rtx4090", &c)->n_devices, 1);
	assert_null(machine_of("llama-server -m m -dev CUDA2", "2x rtx4090", &c));
	assert_non_null(strstr(err.msg, "device 2"));
}

static struct pl_params settled(const char *line, uint32_t n_ctx_train)
{
	struct pl_layer layers[4] = {0};
	struct pl_model m = {.name = "m", .n_layers = 4, .n_ctx_train = n_ctx_train, .layers = layers};
	struct pl_command *c;
	const struct pl_machine *hw = machine_of(line, "2x rtx4090, ram 64GiB", &c);
	assert_int_equal(pl_command_settle(a, c, &m, hw, &err), 0);
	return c->params;
}

static void contexts_are_shared_as_the_engine_does(void **state)
{
	(void)state;
	/* src/llama-context.cpp: padded to 256, divided, padded again */
	assert_int_equal(settled("llama-server -m m -c 16384 -np 3", 131072).n_ctx_tokens, 5632);
	assert_int_equal(settled("llama-server -m m -c 32768", 131072).n_ctx_tokens, 8192);
	assert_int_equal(settled("llama-server -m m -c 1000 -np 1", 131072).n_ctx_tokens, 1024);
	assert_int_equal(settled("llama-server -m m -c 1000 -np 1", 131072).n_batch, 1000);
	/* common/fit.cpp: the model's length for each stream; without it, for all together */
	assert_int_equal(settled("llama-server -m m -np 2", 8192).n_ctx_tokens, 8192);
	assert_true(settled("llama-server -m m -np 2", 8192).fit_ctx);
	assert_int_equal(settled("llama-server -m m -np 2 -fit off", 8192).n_ctx_tokens, 4096);
	assert_int_equal(settled("llama-server -m m", 8192).n_ctx_tokens, 2048);
	assert_int_equal(settled("vllm serve m", 8192).n_ctx_tokens, 8192);
	assert_int_equal(settled("llama-server -m m -ngl 99", 8192).n_gpu_layers, 5);
	assert_int_equal(settled("llama-server -m m -fit off", 8192).n_gpu_layers, 5);
	assert_int_equal(settled("llama-server -m m", 8192).n_gpu_layers, PL_AUTO);
	assert_int_equal(settled("llama-server -m m -cmoe", 8192).n_cpu_moe, 4);
	assert_true(settled("llama-server -m m -ts 1,2,3", 8192).tensor_split[2] == 0);
}

/* ---- SGLang, TensorRT-LLM, ollama ---------------------------------------------------------------------------------------- */

static void sglang_flags(void **state)
{
	(void)state;
	const struct pl_command *c = read_line(
	    "python3 -m sglang.launch_server --model-path a/b --tp 8 --dp-size 8 --enable-dp-attention --ep-size 8 --context-length 32768 "
	    "--mem-fraction-static 0.8 --chunked-prefill-size 8192 --max-running-requests 256 --page-size 64 --kv-cache-dtype fp8_e4m3 "
	    "--cuda-graph-max-bs 128 --disable-radix-cache --speculative-algorithm NEXTN --speculative-num-steps 3 --quantization fp8 "
	    "--cuda-graph-bs 1 2 4 --trust-remote-code --port 30000 --attention-backend fa3 --log-requests");
	const struct pl_params *p = &c->params;
	assert_string_equal(c->engine, "sglang");
	assert_string_equal(c->model_ref, "a/b");
	assert_int_equal(p->tensor_parallel, 8);
	assert_int_equal(p->data_parallel, 8);
	assert_true(p->dp_attention && p->expert_parallel && p->prefix_caching_off && p->draft.mtp);
	assert_int_equal(p->n_ctx_tokens, 32768);
	assert_true(p->gpu_memory_utilization_frac == 0.8);
	assert_int_equal(p->max_num_batched_tokens, 8192);
	assert_int_equal(p->max_num_seqs, 256);
	assert_int_equal(p->block_size, 64);
	assert_int_equal(p->type_k, PL_DTYPE_F8_E4M3);
	assert_int_equal(p->max_cudagraph_batch, 4);
	assert_int_equal(p->draft.n_max, 4);
	assert_string_equal(c->quant, "fp8");
	assert_null(c->notes);
	assert_int_equal(read_line("sglang serve --model-path a/b --base-gpu-id 2")->visible.index[0], 2);
	assert_string_equal(read_line("docker run --gpus all --shm-size 32g -p 30000:30000 lmsysorg/sglang:latest python3 -m sglang.launch_server "
	                              "--model-path a/b --host 0.0.0.0")->model_ref, "a/b");
	refused("python -m sglang.launch_server --model a/b --tp 4 --dp 3 --enable-dp-attention", "divide");
	refused("python -m sglang.launch_server --model a/b --mem-fraction-static 8", "share");
}

static void trtllm_file_overrides_words(void **state)
{
	(void)state;
	static const char yaml[] = "tensor_parallel_size: 4\nenable_attention_dp: true\ncuda_graph_config:\n  max_batch_size: 64\n  enable_padding: true\n"
	                           "kv_cache_config:\n  free_gpu_memory_fraction: 0.7\n  dtype: fp8\n  enable_block_reuse: false\n  tokens_per_block: 64\n"
	                           "speculative_config:\n  decoding_type: MTP\n  num_nextn_predict_layers: 3\n";
	const struct pl_command *c = read_with("trtllm-serve a/b --tp_size 2 --max_batch_size 512 --max_num_tokens 4096 --max_seq_len 8192 --ep_size 2 "
	                                       "--kv_cache_free_gpu_memory_fraction 0.9 --extra_llm_api_options serve.yaml --port 8000", yaml);
	if (!c)
		fail_msg("%s: %s", err.where, err.msg);
	assert_int_equal(c->params.tensor_parallel, 4);
	assert_true(c->params.dp_attention && c->params.expert_parallel && c->params.prefix_caching_off && c->params.draft.mtp);
	assert_int_equal(c->params.max_cudagraph_batch, 64);
	assert_true(c->params.gpu_memory_utilization_frac == 0.7);
	assert_int_equal(c->params.type_v, PL_DTYPE_F8_E4M3);
	assert_int_equal(c->params.block_size, 64);
	assert_int_equal(c->params.draft.n_max, 3);
	assert_int_equal(c->params.max_num_seqs, 512);
	assert_int_equal(c->params.n_ctx_tokens, 8192);
	assert_null(c->notes);
	assert_true(read_with("trtllm-serve serve a/b --config serve.yaml", "cuda_graph_config: null\n")->params.enforce_eager);
}

static void ollama_starts_llama_server(void **state)
{
	(void)state;
	const struct pl_command *c = read_line("OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=4 OLLAMA_KV_CACHE_TYPE=q8_0 OLLAMA_FLASH_ATTENTION=1 "
	                                       "OLLAMA_KEEP_ALIVE=1h ollama run llama3.1:8b-instruct-q8_0 hello");
	assert_string_equal(c->engine, "llama.cpp");
	assert_string_equal(c->model_ref, "llama3.1-8b-instruct");
	assert_string_equal(c->quant, "q8_0");
	assert_int_equal(c->params.n_seq, 4);
	assert_int_equal(c->n_ctx_total_tokens, 32768);
	assert_int_equal(c->params.type_k, PL_DTYPE_Q8_0);
	assert_int_equal(c->params.flash_attn, 1);
	assert_int_equal(c->params.n_ubatch, 512);
	assert_false(c->params.kv_unified);
	c = read_line("ollama run hf.co/a/b-GGUF:Q4_K_M num_ctx=4096 num_gpu=10 num_batch=1024");
	assert_string_equal(c->model_ref, "hf:a/b-GGUF:Q4_K_M");
	assert_int_equal(c->params.n_gpu_layers, 10);
	assert_int_equal(c->params.n_ubatch, 1024);
	c = read_with("ollama create mine -f serve.yaml", "FROM ./m.gguf\nPARAMETER num_ctx 16384\nSYSTEM hello\n");
	assert_string_equal(c->model_ref, "./m.gguf");
	assert_int_equal(c->n_ctx_total_tokens, 16384);
	/* docs/context-length.mdx: two cards of 24 GB are 48: 256k, cut to what the model was trained on */
	assert_int_equal(settled("ollama run m", 131072).n_ctx_tokens, 131072);
}

/* ---- the tables -------------------------------------------------------------------------------------------------------- */

static bool stands_in(const struct pl_program *p, const char *name, size_t len, uint32_t from)
{
	for (uint32_t i = from; i < p->n_flags; i++)
		if ((p->flags[i].programs & p->bit) && (pl_flag_in(p->flags[i].names, name, len) || pl_flag_in(p->flags[i].negatives, name, len)))
			return true;
	return false;
}

static void every_flag_of_a_table_stands_once(void **state)
{
	(void)state;
	static const struct pl_program *const tables[] = {pl_programs_llamacpp, pl_programs_vllm, pl_programs_sglang, pl_programs_trtllm,
	                                                  pl_programs_ollama};
	for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
		for (const struct pl_program *p = tables[t]; p->names; p++)
			for (uint32_t i = 0; i < p->n_flags; i++)
				for (int side = 0; side < 2; side++)
					for (const char *w = side ? p->flags[i].negatives : p->flags[i].names; *w; w += strspn(w, " ")) {
						size_t n = strcspn(w, " ");
						if (w[0] != '-' || ((p->flags[i].programs & p->bit) && stands_in(p, w, n, i + 1)))
							fail_msg("%s: %.*s stands twice or is no flag", p->names, (int)n, w);
						w += n;
					}
	assert_true(pl_command_flags("llama-server server", PL_SETTING_READ) >= 60);
	assert_true(pl_command_flags("vllm", PL_SETTING_READ) >= 50);
	assert_true(pl_command_flags("sglang", PL_SETTING_READ) >= 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	    T(llama_flags_in_every_form),
	    T(llama_defaults_by_program),
	    T(llama_bench_takes_the_largest_run),
	    T(llama_environment_yields_to_words),
	    T(llama_harmless_flags_keep_their_values),
	    T(llama_models_beside_the_first),
	    T(llama_refuses),
	    T(what_older_builds_took_is_read_and_said),
	    T(wrappers_are_looked_through),
	    T(vllm_flags_in_every_form),
	    T(vllm_objects),
	    T(vllm_configuration_file_yields_to_words),
	    T(devices_are_picked_in_order),
	    T(contexts_are_shared_as_the_engine_does),
	    T(sglang_flags),
	    T(trtllm_file_overrides_words),
	    T(ollama_starts_llama_server),
	    T(every_flag_of_a_table_stands_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
