/* GRU language model: trains through scan with autodiff of the body. */
#include "model/rnn_lm.h"

static int build(struct dan_builder *b, const void *cfg, const struct dan_io *io) { return dan_rnn_build(b, cfg, io, DAN_CELL_GRU); }

const struct dan_model dan_model_gru = {
    .name = "gru", .hf_arch = "DanluGRUForCausalLM", .hf_model_type = "danlu_gru", .doc = "GRU language model", .time_major = true,
    .cfg_bytes = sizeof(struct dan_lm_config), .fields = dan_rnn_fields, .names = dan_rnn_names, .complete = dan_rnn_complete, .build = build,
};
