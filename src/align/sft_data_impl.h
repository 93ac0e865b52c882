/* Between sft_data.c and sft_data_text.c. */
#ifndef DAN_ALIGN_SFT_DATA_IMPL_H
#define DAN_ALIGN_SFT_DATA_IMPL_H
#include "align/sft_data.h"

int  dan_sft_row_take(struct dan_sft_row *s, const int32_t *ids, const char *learn, size_t n, struct dan_err *e);   /* copies; learn NULL: all */
void dan_sft_row_release(struct dan_sft_row *s);
int  dan_sft_data_add(struct dan_sft_data *s, struct dan_sft_row *q, struct dan_err *e);      /* takes q over, also when it fails */
void dan_sft_data_skip(struct dan_sft_data *s, enum dan_skip why, const char *words);
void dan_sft_data_count(struct dan_sft_data *s);   /* ids and learnt, anew */

#endif
