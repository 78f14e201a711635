/* Buffers that llama.cpp and its relatives print while loading (data/measurements/llamacpp_memory.csv). */
#include "measure/validate.h"

static const char *const columns[] = {
    "id", "engine", "build", "backend", "devices", "n_devices", "gguf_name", "arch", "model_type", "n_layer", "n_embd", "n_head",
    "n_head_kv", "head_dim_k", "head_dim_v", "n_vocab", "n_expert", "n_ff", "file_type", "file_size_gib", "bpw", "n_params_b",
    "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "flash_attn", "type_k", "type_v", "ngl", "split_mode", "tensor_split",
    "override_tensor", "dev0_model_mib", "dev0_kv_mib", "dev0_compute_mib", "dev1_model_mib", "dev1_kv_mib", "dev1_compute_mib",
    "dev2plus", "cpu_model_mib", "cpu_kv_mib", "host_compute_mib", "host_output_mib", "recurrent_state_mib", "swa_kv_mib", "notes",
    NULL,
};

static void map(struct pl_vrow *r)
{
	pl_vrow_class(r, "engine", pl_vrow_text(r, "engine"));
	pl_vrow_class(r, "backend", pl_vrow_text(r, "backend"));
}

const struct pl_table_kind pl_kind_llamacpp_memory = {"llamacpp_memory", columns, map};
