/* --trace: what every node of a program's first run made, one line each on stderr: where a nan is born, and which
 * kernel made it.  For struct dan_exec_opts.trace. */
#ifndef DAN_CLI_TRACE_H
#define DAN_CLI_TRACE_H
#include "cli/ui.h"
#include "graph/graph.h"

struct dan_trace { struct dan_ui *ui; dan_ref last; int32_t part; bool done; };       /* begins as {.ui = ui} */
/* ctx: a struct dan_trace.  After the first run it does nothing. */
void dan_trace_node(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out);
/* "%12 matmul blk.0 gpt.c:31 f32[64,128] min -1.2 max 3.4 mean 0.01 (kernel)"; counts of nan and inf when there are any. */
void dan_trace_line(const struct dan_graph *g, dan_ref r, int32_t part, const char *kernel, const struct dan_tensor *out,
                    struct dan_str *line);

/* For the option table of a command that runs a graph; owner has `bool trace, ref`. */
#define DAN_TRACE_OPTIONS(owner)                                                                                                         \
    {.name = "trace", .type = 'b', .offset = offsetof(owner, trace), .section = "Looking inside",                                        \
     .help = "print what every node of the first run made: shape, min, max, mean, nan"},                                                  \
    {.name = "ref", .type = 'b', .offset = offsetof(owner, ref), .help = "reference kernels only (slow; to find a wrong kernel)"}

/* For a command that builds a graph; owner has `const char *fusion`, which goes into struct dan_pass_opts. */
#define DAN_KV_OPTION(owner)                                                                                                             \
    {.name = "kv-type", .type = 'e', .offset = offsetof(owner, kv_type), .dflt = "auto", .choices = "auto|f32|bf16|q8", .meta = "TYPE",  \
     .help = "how keys and values are kept; auto: f32, or bf16 where the model's weights have 16 bits or fewer; q8: 8 bits"}
#define DAN_FUSION_OPTION(owner)                                                                                                         \
    {.name = "fusion", .type = 's', .offset = offsetof(owner, fusion), .dflt = "on", .meta = "on|off|RULE,...",                          \
     .help = "fusion rules: all, none, only some (swiglu,cse), or all but some (=-swiglu,-cse)"}

#endif
