/* device_map="auto": where accelerate puts the modules of a model, over a tree of module sizes. */
#ifndef PLIMSOLL_ENGINE_DEVICE_MAP_H
#define PLIMSOLL_ENGINE_DEVICE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/hardware.h>

/* One module. Children stand in one run, in the order of the class; the root is node 0. */
struct dm_module {
	uint64_t bytes;       /* parameters and buffers as the map counts them, children included */
	uint32_t first_child, n_children;
	uint32_t parent;      /* of the root: itself */
	bool whole;           /* of a class that is never split (_no_split_modules: the decoder layer) */
};

enum { DM_NONE = UINT32_MAX };

struct dm_tree {
	struct dm_module *nodes;
	uint32_t n_nodes;
	uint32_t tied_source, tied_copy; /* modules that share one weight (embedding, head); DM_NONE: none */
};

enum { DM_CPU = -1, DM_DISK = -2, DM_UNPLACED = -3 };

/* What the map may fill. A place that is absent gets nothing (no CPU beside a GPU that shares its memory). */
struct dm_room {
	uint32_t n_gpus;
	double gpu_bytes[PL_MAX_DEVICES]; /* the library multiplies by 0.9 in floating point */
	bool has_cpu;
	double cpu_bytes;
};

/* Bounds each GPU but the last so that all get about the same (get_balanced_memory). with_leaves: the slack also covers the
 * largest module without children, not the largest block alone. */
void dm_balance(const struct dm_tree *t, struct dm_room *room, bool with_leaves);

/* Places every module (infer_auto_device_map). ret_where: n_nodes entries, a GPU's number, DM_CPU, DM_DISK, or
 * DM_UNPLACED for a module whose children were placed one by one. scratch: 2 × n_nodes entries. */
void dm_infer(const struct dm_tree *t, const struct dm_room *room, uint32_t *scratch, int32_t *ret_where);

#endif
