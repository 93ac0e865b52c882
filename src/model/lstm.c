/* LSTM language model: trains through scan with autodiff of the body. */
#include "model/rnn_lm.h"

static int build(struct dan_builder *b, const void *cfg, const struct dan_io *io) { return dan_rnn_build(b, cfg, io, DAN_CELL_LSTM); }

const struct dan_model dan_model_lstm = {
    .name = "lstm", .hf_arch = "DanluLSTMForCausalLM", .hf_model_type = "danlu_lstm", .doc = "LSTM language model", .time_major = true,
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = dan_rnn_fields, .names = dan_rnn_names, .complete = dan_rnn_complete, .build = build,
};
