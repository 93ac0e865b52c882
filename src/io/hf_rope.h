/* Keys of config.json that fill more than one number: rotary positions and attention windows.  hf_config.c calls these for the
 * fields of types r, l and w. */
#ifndef DAN_IO_HF_ROPE_H
#define DAN_IO_HF_ROPE_H
#include "io/hf_config.h"
#include "io/json.h"

int dan_hf_rope_read(const char *dir, const json_t *config, const struct dan_field *f, struct dan_rope *out, struct dan_err *e);
int dan_hf_rope_write(json_t *config, const struct dan_field *f, const struct dan_rope *r);          /* -1: out of memory */
int dan_hf_window_read(const char *dir, const json_t *config, const struct dan_field *f, struct dan_window *out, struct dan_err *e);
int dan_hf_window_write(json_t *config, const struct dan_field *f, const struct dan_window *w);

#endif
