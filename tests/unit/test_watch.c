#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include <plimsoll/verify.h>

#include "base/fmt.h"
#include "engine/log.h"
#include "tui/watch.h"

static struct pl_sample sample(enum pl_phase phase, double t_s)
{
	struct pl_sample s = {.t_s = t_s, .phase = phase, .n_devices = 2, .ram_total_bytes = 64e9, .ram_used_bytes = 20e9, .engine_rss_bytes = 1e9,
	                      .requests_running = 3, .requests_waiting = 0, .kv_frac = 0.25, .generated_tok_s = 40 + t_s, .prompt_tok_s = NAN};
	for (uint32_t i = 0; i < s.n_devices; i++)
		s.devices[i] = (struct pl_device_sample){"NVIDIA GeForce RTX 3090", 24e9, 20e9, 300, 350, 65, 0.9, 1800, 9501};
	return s;
}

static struct pl_watch_view view(void)
{
	struct pl_watch_view v = {.title = "model · 引擎 · http://127.0.0.1:8080", .plan = {.device_bytes = {21e9, 21e9}, .n_devices = 2, .host_bytes = 2e9, .decode_tok_s = 45}};
	static const enum pl_phase phases[] = {PL_PHASE_LOADING, PL_PHASE_LOADING, PL_PHASE_LOADED, PL_PHASE_GENERATING, PL_PHASE_GENERATING, PL_PHASE_FREED};
	for (int i = 0; i < 6; i++) {
		struct pl_sample s = sample(phases[i], i);
		pl_watch_add(&v, &s);
	}
	return v;
}

static void every_size_holds_what_it_shows(void **state)
{
	(void)state;
	const struct pl_watch_view v = view();
	for (int rows = 1; rows <= 40; rows++)
		for (int columns = 1; columns <= 300; columns += 7) {
			const char *lines[64];
			struct pl_arena *a = pl_arena_new(0);
			uint32_t n = pl_watch_lines(a, &v, rows, columns, lines);
			assert_true((int)n <= rows);
			for (uint32_t i = 0; i < n; i++)
				assert_true(pl_text_columns(lines[i]) <= columns);
			pl_arena_free(a);
		}
}

static void phases_leave_marks_once(void **state)
{
	(void)state;
	const struct pl_watch_view v = view();
	assert_int_equal(v.n_marks, 4); /* loading, loaded, generating, freed */
	assert_int_equal(v.marks[2].phase, PL_PHASE_GENERATING);
	assert_true(v.marks[2].t_s == 3);
	assert_true(v.marks[2].used_bytes == 41e9); /* two devices and the engine */
	assert_int_equal(v.n_history, 6);
	assert_true(v.tok_s[5] == 45);
}

static void metrics_of_three_engines_read_alike(void **state)
{
	(void)state;
	struct pl_sample s = {0};
	pl_metrics_read("# HELP x\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 5\nllamacpp:tokens_predicted_total 1200\n", &s);
	assert_true(s.requests_running == 2 && s.requests_waiting == 5 && s.generated_tokens == 1200);
	pl_metrics_read("vllm:num_requests_running{engine=\"0\",model_name=\"a b\"} 7.0\nvllm:num_requests_running{engine=\"1\"} 1.0\n"
	                "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:generation_tokens_total{e=\"0\"} 1.5e+06\n",
	                &s);
	assert_true(s.requests_running == 8 && s.kv_frac == 0.5 && s.generated_tokens == 1.5e6);
	pl_metrics_read("sglang:token_usage 0.125\nsglang:num_running_reqs_total 9\n", &s);
	assert_true(s.kv_frac == 0.125 && s.requests_running == 8); /* a longer name is another metric */
	pl_metrics_read("vllm:num_requests_running{never closed\n", &s);
	assert_true(s.requests_running == 8);
}

static const char llama_log[] = "load_tensors:   CPU_Mapped model buffer size =   100.00 MiB\n"
                                "load_tensors:        CUDA0 model buffer size =  4000.00 MiB\n"
                                "load_tensors:        CUDA0 model buffer size =    96.00 MiB\n"
                                "llama_kv_cache:      CUDA0 KV buffer size =  1024.00 MiB\n"
                                "llama_memory_recurrent: CUDA0 RS buffer size = 16.00 MiB\n"
                                "sched_reserve:      CUDA0 compute buffer size =   200.00 MiB\n"
                                "sched_reserve:      CUDA0 compute buffer size =   304.00 MiB\n"
                                "sched_reserve:  CUDA_Host compute buffer size =    20.00 MiB\n"
                                "llama_context:  CUDA_Host  output buffer size =     0.58 MiB\n";

static void logs_tell_what_was_allocated(void **state)
{
	(void)state;
	struct pl_engine_log log = {0};
	pl_log_read_llamacpp(llama_log, sizeof llama_log - 1, &log);
	assert_int_equal(log.n_buffers, 3);
	struct pl_log_buffer *b = pl_log_buffer(&log, "CUDA0");
	assert_int_equal(b->model_bytes, 4096ull << 20);
	assert_int_equal(b->context_bytes, 1040ull << 20);
	assert_int_equal(b->compute_bytes, 304ull << 20); /* the last reservation */
	assert_string_equal(log.build, "");
	static const char builds[] = "build: 6000 (a4575513) with cc\n", debian[] = "common_params_print_info: build 11669 (Debian) with GNU 16.2.0\n";
	pl_log_read_llamacpp(builds, sizeof builds - 1, &log);
	assert_string_equal(log.build, "b6000");
	log = (struct pl_engine_log){0};
	pl_log_read_llamacpp(debian, sizeof debian - 1, &log);
	assert_string_equal(log.build, "b11669");
	log = (struct pl_engine_log){0};
	static const char vllm[] = "Initializing a V1 LLM engine (v0.24.0) with config: x\nModel loading took 14.9889 GiB and 3 s\nGPU KV cache size: 158,656 tokens\nGPU KV cache size: 158,640 tokens\n";
	pl_log_read_vllm(vllm, sizeof vllm - 1, &log);
	assert_int_equal(log.kv_cache_tokens.value, 158656);
	assert_true(log.weights_bytes.known && !log.num_gpu_blocks.known);
	assert_string_equal(log.build, "0.24.0");
}

static void a_plan_stands_beside_a_log(void **state)
{
	(void)state;
	static const char plan[] = "{\"memory\": {\"devices\": [{\"model_bytes\": 0}, {\"model_bytes\": 4294967296, \"context_bytes\": 1090519040, "
	                           "\"compute_bytes\": 318767104, \"used_bytes\": 6e9}], \"host\": {\"model_bytes\": 104857600, \"context_bytes\": 0, "
	                           "\"compute_bytes\": 41943040, \"rest_bytes\": 3e8}}, \"speed\": {\"decode_tok_s\": {\"median\": 50, \"low\": 40, \"high\": 60}}}";
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	struct pl_check *c;
	uint32_t n;
	struct pl_bench_result load = {.n_ok = 1, .tpot_s = {.p50 = 1 / 55.0}, .ttft_s = {.p50 = 0.5}};
	struct pl_verify_request req = {.plan_json = plan, .log = llama_log, .log_len = sizeof llama_log - 1, .load = &load, .load_prompt_tokens = 500};
	assert_int_equal(pl_engine_find("llama.cpp", &req.engine, &err), 0);
	assert_int_equal(pl_verify(a, &req, &c, &n, &err), 0);
	assert_string_equal(c[0].metric, "model_bytes");
	assert_true(c[0].within && c[0].error_frac == 0);
	assert_string_equal(c[4].metric, "compute_bytes"); /* of the host: 40 MiB planned, 20 measured: outside 16 MiB */
	assert_false(c[4].within);
	assert_string_equal(c[5].metric, "decode_tok_s");
	assert_true(c[5].within && fabs(c[5].measured - 55) < 1e-9);
	assert_null(c[5].cause);
	req.others_busy_frac = 0.5; /* told only where the number is out of its interval */
	load.tpot_s.p50 = 1 / 5.0;
	assert_int_equal(pl_verify(a, &req, &c, &n, &err), 0);
	assert_true(!c[5].within && strstr(c[5].cause, "50 %"));
	req.plan_json = "{";
	assert_int_equal(pl_verify(a, &req, &c, &n, &err), -PL_ERR_FORMAT);
	pl_arena_free(a);
}

static void busy_processors_are_told_from_the_engine(void **state)
{
	(void)state;
	const struct pl_busy before = {1000, 500, 100}, after = {1200, 550, 190}, silent = {1200, 550, NAN};
	assert_true(fabs(pl_busy_others_frac(&before, &after) - 60 / 200.0) < 1e-12); /* 150 busy, 90 of them ours */
	assert_true(isnan(pl_busy_others_frac(&before, &silent)));
	assert_true(isnan(pl_busy_others_frac(&before, &before)));
}

static void shared_rows_say_what_a_fit_needs(void **state)
{
	(void)state;
	static const char plan[] = "{\"model\": {\"name\": \"/home/me/x.gguf\", \"architecture\": \"llama\", \"parameters\": 8030261248, \"active_parameters\": "
	                           "8030261248, \"weight_bytes\": 8589934592, \"quantization\": \"Q8_0\"}, \"request\": {\"n_gpu_layers\": 33, \"flash_attn\": true, "
	                           "\"split_mode\": \"layer\", \"n_ubatch\": 512, \"type_k\": \"f16\"}, \"memory\": {\"devices\": [{\"name\": \"A, \\\"B\\\"\", "
	                           "\"model_bytes\": 5}, {\"name\": \"A\", \"model_bytes\": 5}, {\"name\": \"C\", \"model_bytes\": 0}]}}";
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	const struct pl_check checks[] = {{.metric = "model_bytes"}, {.metric = "decode_tok_s", .measured = 42.5}, {.metric = "prefill_tok_s", .measured = 900}};
	struct pl_machine m = {.cpu = "EPYC 7642", .cpu_cores = 48, .ram_type = "ddr4-3200", .ram_bytes_per_s = 8 * 3200e6 * 8, .ram_bytes = {128ull << 30, true}};
	struct pl_verify_request req = {.plan_json = plan, .log = llama_log, .log_len = sizeof llama_log - 1, .machine = &m, .load_prompt_tokens = 512,
	                                .load_answer_tokens = 64};
	assert_int_equal(pl_engine_find("llama.cpp", &req.engine, &err), 0);
	const char *rows = pl_share_rows(a, &req, checks, 3, "2026-11-25", false);
	static const char head[] = ",,2026-11-25,llama.cpp,,CUDA,\"A, \"\"B\"\"\",2,EPYC 7642 48-core,8x16GB ddr4-3200,llama,8.030,Q8_0,8.000,8.030,33,1,layer,512,,f16,";
	assert_string_equal(rows, pl_arena_printf(a, "%sgen64,512,42.5,,plimsoll verify\n%sprefill512,0,900,,plimsoll verify\n", head, head));
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_size_holds_what_it_shows),   cmocka_unit_test(phases_leave_marks_once),
	    cmocka_unit_test(metrics_of_three_engines_read_alike), cmocka_unit_test(logs_tell_what_was_allocated),
	    cmocka_unit_test(a_plan_stands_beside_a_log),       cmocka_unit_test(busy_processors_are_told_from_the_engine),
	    cmocka_unit_test(shared_rows_say_what_a_fit_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
