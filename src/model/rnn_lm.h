/* What the LSTM and GRU language models share. */
#ifndef DAN_MODEL_RNN_LM_H
#define DAN_MODEL_RNN_LM_H
#include "nn/nn.h"

extern const struct dan_field dan_rnn_fields[];
extern const struct dan_rename dan_rnn_names[];
int dan_rnn_complete(void *cfg, struct dan_err *e);
int dan_rnn_build(struct dan_builder *b, const struct dan_lm_config *c, const struct dan_io *io, enum dan_cell cell);

#endif
