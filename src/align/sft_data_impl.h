/* What readers of fine-tuning data share. */
#ifndef DAN_ALIGN_SFT_DATA_IMPL_H
#define DAN_ALIGN_SFT_DATA_IMPL_H
#include "align/sft_data.h"

int  dan_sft_row_take(struct dan_sft_row *s, const int32_t *ids, const char *learn, size_t n, struct dan_err *e);   /* copies; learn NULL: all */
void dan_sft_row_release(struct dan_sft_row *s);
int  dan_sft_data_add(struct dan_sft_data *s, struct dan_sft_row *q, struct dan_err *e);      /* takes q over, also when it fails */
void dan_sft_data_skip(struct dan_sft_data *s, enum dan_skip why, const char *words);
/* One row of the files to what it gives, which it adds to ctx's list; *skip says why it gives nothing, with the words in *e. */
typedef int dan_sft_data_row(void *ctx, const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e);
/* Calls add for each row of the files.  Rows that cannot be read and those that add refuses are counted in out, but where memory is out this fails; as it
 * does when out is empty at the end: "none of N rows WHAT". */
int  dan_sft_data_each(const char *const *paths, size_t n, const char *what, struct dan_sft_data *out, dan_sft_data_row *add, void *ctx, struct dan_err *e);
/* ctx of rows that need no more. */
struct dan_sft_reading { const struct dan_sft_data_opts *o; struct dan_sft_data *out; };
void dan_sft_data_count(struct dan_sft_data *s);   /* ids and learnt, anew */

#endif
