/* Attribute slots of every op that has attributes.  The only thing of op/ that kernels see. */
#ifndef DAN_OP_ATTRS_H
#define DAN_OP_ATTRS_H

enum { DAN_INPUT_DYNAMIC };                    /* input: 0 = fixed, u = the first dimension may shrink to multiples of u */
enum { DAN_FILL_VALUE };
enum { DAN_SCALE_BY };                         /* scale: y = by * x */
enum { DAN_PICK_INDEX };
enum { DAN_AXIS };                             /* sum, mean, concat, ...: the axis is attribute 0 */
enum { DAN_CONCAT_AXIS, DAN_CONCAT_PLACED };   /* PLACED: bit k: input k is computed right into the output where the plan can */
enum { DAN_SLICE_AXIS, DAN_SLICE_START, DAN_SLICE_STOP };   /* negative: from the end; STOP = DAN_END: to the end */
#define DAN_END INT64_MAX
enum { DAN_SPLIT_AXIS, DAN_SPLIT_INNER };      /* [.., n*inner, ..] -> [.., n, inner, ..] */
enum { DAN_PERMUTE_0, DAN_PERMUTE_1, DAN_PERMUTE_2, DAN_PERMUTE_3, DAN_PERMUTE_4, DAN_PERMUTE_5 };

/* matmul: y[M,N] = op(a) op(b) (+ bias[N]) (then act) (+ residual[M,N]); inputs a, b, bias?, residual?, and for b [N,K] of levels
 * scale?[N], zero?[N], input_scale?[2] (op/matmul.c)
 * With GATE (an activation; act must be 0) the residual is a pre-activation h: y = (op(a) op(b) + bias) gate'(h). */
enum { DAN_MATMUL_SCALE = 4, DAN_MATMUL_ZERO, DAN_MATMUL_INPUT_SCALE };        /* inputs */
enum { DAN_MATMUL_TA, DAN_MATMUL_TB, DAN_MATMUL_PREC, DAN_MATMUL_ACT, DAN_MATMUL_GATE };
enum dan_prec { DAN_PREC_F32, DAN_PREC_BF16 }; /* bf16: operands rounded to bf16, products summed in f32 */
enum dan_act { DAN_ACT_NONE, DAN_ACT_GELU, DAN_ACT_GELU_TANH, DAN_ACT_SILU, DAN_ACT_RELU, DAN_ACT_TANH, DAN_ACT_SIGMOID, DAN_N_ACTS };

enum { DAN_NORM_EPS, DAN_NORM_ROUND };         /* layer_norm, rms_norm and their gradients and skip_ forms; ROUND (not of gradients): enum dan_rounded */
enum { DAN_QUANTISE_FORM };                    /* quantise_rows: enum dan_rounded (core/rounded.h) */
enum { DAN_ROPE_DIM, DAN_ROPE_BACKWARD };      /* head dim D, 1 = rotate back (the vjp).  rope_table: struct dan_rope (core/rope.h) */

/* attend and attend_grad */
enum { DAN_ATTEND_HEADS, DAN_ATTEND_KV_HEADS, DAN_ATTEND_SCALE, DAN_ATTEND_CAP };    /* CAP > 0: scores are CAP tanh(score / CAP) */
/* attend_range: which keys a row may see */
enum { DAN_RANGE_MASK, DAN_RANGE_WINDOW };
enum { DAN_KV_VALUES };                         /* kv_write into [K,S,E]: 1 = the cache holds values, 0 = keys (core/kv.h) */
enum dan_mask { DAN_MASK_CAUSAL, DAN_MASK_FULL, DAN_MASK_WINDOW, DAN_MASK_PREFIX };

enum { DAN_DROPOUT_P, DAN_DROPOUT_STREAM };
enum { DAN_NOISE_ALPHA, DAN_NOISE_STREAM };
enum { DAN_QUANT_BITS, DAN_QUANT_GROUP };      /* fake_quant: bits, group size along the last axis (0 = whole row) */
enum { DAN_SCAN_CARRIES, DAN_SCAN_XS, DAN_SCAN_YS, DAN_SCAN_REVERSE };
enum { DAN_CE_CHUNK, DAN_CE_PREC };            /* vocabulary chunk of the fused head, enum dan_prec */

#endif
