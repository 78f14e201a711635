/* What llama.cpp knows about an architecture beyond its metadata: patterns written in its code. One row an
 * architecture; architectures without a row of special traits are rows with none. */
#ifndef PLIMSOLL_MODEL_ARCH_TRAITS_H
#define PLIMSOLL_MODEL_ARCH_TRAITS_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/model.h>

enum pl_swa_rule {
	PL_SWA_NEVER = 0,
	PL_SWA_ALWAYS, /* window from the key or the default */
	PL_SWA_IF_SET, /* only when the key is there and not 0 */
	PL_SWA_CHUNKED /* chunks of a fixed size, off when the key is there and 0 (Llama 4) */
};

enum pl_rec_rule {
	PL_REC_NEVER = 0,
	PL_REC_EVERY,   /* all layers are recurrent, none attends */
	PL_REC_BESIDE,  /* every layer has both mixers (Falcon-H1) */
	PL_REC_KV0,     /* recurrent where head_count_kv is 0 */
	PL_REC_KV0_FF0, /* recurrent where head_count_kv and feed_forward_length are 0, attention where only the latter
	                   is */
	PL_REC_INTERVAL /* all but every n-th layer; the keys may say otherwise */
};

enum pl_arch_flags {
	PL_ARCH_EMBEDDING = 1 << 0,   /* encoder: no cache, no lm head */
	PL_ARCH_NO_CACHE = 1 << 1,    /* has an lm head but keeps no cache (diffusion language models) */
	PL_ARCH_NO_ROPE = 1 << 2,     /* ALiBi, learned positions or none */
	PL_ARCH_ROPE_ON_SWA = 1 << 3, /* only sliding layers rotate */
	PL_ARCH_PARALLEL = 1 << 4,    /* attention and feed forward read the same residual though each has its norm */
	PL_ARCH_SHARED_KV = 1 << 5,   /* the last layers read the cache of an earlier one (Gemma 3n, Gemma 4) */
	PL_ARCH_OTHER_CACHE = 1 << 6, /* the engine keeps more or other caches than layers can say */
	PL_ARCH_NOT_A_MODEL = 1 << 7, /* towers, vocoders, drafts: tensors only */
	PL_ARCH_Q_GATED = 1 << 8,     /* the query projection of attention layers also makes an output gate */
	PL_ARCH_SHARED_INDEXER = 1 << 9,      /* some layers reuse the selection of an earlier one (GLM-5.2) */
	PL_ARCH_FINAL_NORM_AS_EMBD = 1 << 10, /* the final norm is stored as token_embd_norm (LFM2) */
	PL_ARCH_NEEDS_ROPE_FREQS = 1 << 11,   /* llama.cpp does not load it without rope_freqs (Gemma 4) */
	PL_ARCH_FFN_NORM_AS_POST = 1 << 12,   /* the norm before the feed forward is stored as post_attention_norm */
	PL_ARCH_QK_NORM_BY_HEAD = 1 << 13,    /* norms of queries and keys have a row for each head */
	PL_ARCH_NO_LOADER = 1 << 14           /* llama.cpp knows the name but does not load it */
};

struct pl_arch_traits {
	const char *name;
	enum pl_swa_rule swa;
	uint8_t swa_period;     /* one full layer in this many, last of its group; 0: every layer slides */
	bool swa_dense_first;   /* the full layer is the first of its group */
	bool swa_array;         /* the pattern stands in the file, there is no default */
	bool swa_window_fixed;  /* swa_window counts whatever the key says */
	uint32_t swa_window;    /* default window in tokens; 0: the key is required */
	uint32_t swa_at_layers; /* sliding only in the model with this many layers (EXAONE 4 32B); 0 any */
	enum pl_rec_rule rec_rule;
	enum pl_rec_kind rec;
	uint8_t rec_interval; /* one attention layer in this many */
	uint8_t no_rope_step; /* every n-th layer does not rotate: (il + 1) % n == 0, or il % n == 0 when dense first */
	uint8_t kv_from_start; /* fixed number of layers with a cache of their own; 0: from the key */
	uint32_t flags;        /* enum pl_arch_flags */
};

/* Row of an architecture by llama.cpp's name; NULL when llama.cpp does not know it. */
const struct pl_arch_traits *pl_arch_traits_find(const char *name);
/* Does llama.cpp honour the windows of this model's layers? It ignores those of Mistral, StarCoder 2, Phi-3, Qwen 2. */
bool pl_arch_slides(const struct pl_model *m);
/* The model as llama.cpp sees it: m itself, or a copy whose layers read the whole context. NULL when the arena is full.
 */
const struct pl_model *pl_arch_view(struct pl_arena *a, const struct pl_model *m);
/* Does layer il slide, by the pattern of llama.cpp's set_swa_pattern? */
bool pl_swa_pattern_at(uint32_t il, uint32_t period, bool dense_first);

#endif
