/* Companions of matrices with a scale per row (quantize_rows.h) as inputs of the products that read them. */
#ifndef DAN_MODEL_ROW_SCALES_H
#define DAN_MODEL_ROW_SCALES_H
#include "core/buffer.h"
#include "graph/graph.h"

enum { DAN_ROW_SCALE, DAN_ROW_ZERO, DAN_ROW_INPUT, DAN_N_ROW_PARTS };          /* in the order of matmul's inputs 4 to 6 */
extern const char *const dan_row_suffix[DAN_N_ROW_PARTS];        /* ".scale", ".zero", ".input_scale" */
enum { DAN_ROW_NAME = 200 };

/* The companion `part` of `name`, NULL when s has none. */
const struct dan_tensor *dan_row_part(const struct dan_store *s, const char *name, int part);
/* x W^T of every W that s holds with scales gets them.  Products of one input with equal input scales share the param of
 * the first, so that they may be joined.  Fails when something else than a product reads such a W. */
int dan_add_row_scales(struct dan_graph *g, const struct dan_store *s, struct dan_err *e);

#endif
