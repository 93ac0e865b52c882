/* danlu bench machine | ops | infer */
#include <stdio.h>
#include <string.h>
#include "base/sys.h"
#include "cli/bench.h"
#include "cli/bench_infer.h"

static const struct dan_opt no_options[] = {{.name = NULL}};

int bench_measure(struct dan_cli *cli, struct dan_pool *pool, struct dan_machine *m, struct dan_err *e)
{
    struct dan_machine_opts o = {.pool = pool, .cpu_mask = dan_isa_mask(cli->isa)};
    char cpu[160];
    dan_cpu_describe(cpu, sizeof cpu);
    dan_say(&cli->ui, "machine  %s; %d threads, at most %s instructions", cpu, dan_pool_size(pool), cli->isa);
    return dan_machine_measure(&o, m, e);
}

static json_t *by_threads(const struct dan_machine *m, const double *y)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n_points; i++)
        if (y[i] > 0) json_array_append_new(list, json_pack("{s:i,s:f}", "threads", (int)m->threads[i], "per_second", y[i]));
    return list;
}

json_t *bench_machine_json(const struct dan_machine *m)
{
    json_t *peak = json_object(), *flow = json_object(), *cache = json_object();
    for (int k = 0; k < DAN_N_PEAKS; k++)
        if (m->peak_by[k])
            json_object_set_new(peak, dan_peak_name(k), json_pack("{s:s,s:o}", "by", m->peak_by[k], "points", by_threads(m, m->peak[k])));
    for (int f = 0; f < DAN_N_FLOWS; f++) {
        json_t *levels = json_object();
        for (int l = 0; l < DAN_N_LEVELS; l++) json_object_set_new(levels, dan_level_name(l), by_threads(m, m->bandwidth[f][l]));
        json_object_set_new(flow, dan_flow_name(f), levels);
    }
    for (int l = 0; l < DAN_LEVEL_MEMORY; l++) json_object_set_new(cache, dan_level_name(l), json_integer(m->cache[l]));
    return json_pack("{s:o,s:o,s:o,s:s}", "peak", peak, "bandwidth", flow, "cache_bytes", cache, "bandwidth_by", m->moved_by);
}

static void put_peaks(const struct dan_machine *m, struct dan_str *out)
{
    dan_str_puts(out, "arithmetic, 1e9 operations/s (a multiply-add is two)\n        threads");
    for (int i = 0; i < m->n_points; i++) dan_str_printf(out, "%10d", (int)m->threads[i]);
    for (int k = 0; k < DAN_N_PEAKS; k++) {
        dan_str_printf(out, "\n  %-13s", dan_peak_name(k));
        for (int i = 0; i < m->n_points && m->peak_by[k]; i++) dan_str_printf(out, "%10.1f", m->peak[k][i] / 1e9);
        dan_str_printf(out, "  %s", m->peak_by[k] ? m->peak_by[k] : "no instruction of its own: the f32 peak");
    }
}

static void put_flows(const struct dan_machine *m, struct dan_str *out)
{
    int last = m->n_points - 1;
    dan_str_puts(out, "\n\nmovement, 1e9 bytes/s (copy and update count both directions)\n        threads");
    for (int l = 0; l < DAN_N_LEVELS; l++) dan_str_printf(out, "%10s", dan_level_name(l));
    for (int f = 0; f < DAN_N_FLOWS; f++)
        for (int i = 0; i <= last; i += last ? last : 1) {
            dan_str_printf(out, "\n  %-8s %4d", i ? "" : dan_flow_name(f), (int)m->threads[i]);
            for (int l = 0; l < DAN_N_LEVELS; l++)
                if (m->bandwidth[f][l][i] > 0) dan_str_printf(out, "%10.1f", m->bandwidth[f][l][i] / 1e9);
                else dan_str_printf(out, "%10s", "-");
        }
    char a[DAN_NUM];
    dan_str_puts(out, "\n  cache        ");
    for (int l = 0; l < DAN_LEVEL_MEMORY; l++) dan_str_printf(out, "%10s", m->cache[l] ? dan_fmt_bytes((double)m->cache[l], a) : "-");
    dan_str_putc(out, '\n');
}

static int machine_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_pool *pool = NULL;
    struct dan_machine m;
    (void)opts;
    int rc = dan_pool_new((int)cli->threads, &pool, e);
    if (!rc) rc = bench_measure(cli, pool, &m, e);
    dan_pool_free(pool);
    if (rc) return rc;
    if (cli->json) return dan_out_json(&cli->ui, bench_machine_json(&m), e);
    struct dan_str out = {0};
    put_peaks(&m, &out);
    put_flows(&m, &out);
    rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

const struct dan_cmd bench_machine_cmd = {
    .name = "machine", .doc = "the limits of this machine: arithmetic and bandwidth by level, in about two seconds",
    .about = "Each limit is the best of a few short runs of a loop that does nothing else: multiply-adds on registers, sweeps over a block "
             "that fits a cache level or none. On a busy machine, and on one that shares its caches, run it again and keep the larger.",
    .example = "danlu bench machine\ndanlu bench machine --threads 1 --isa avx2",
    .opts = no_options, .opts_bytes = 1, .run = machine_run};

const struct dan_cmd dan_cmd_bench = {
    .name = "bench", .doc = "measure this machine, the ops and models on it", .group = DAN_GROUP_MODEL, .rank = 5,
    .about = "Comparisons with other programs are scripts in the folder bench of the source.",
    .example = "danlu bench machine\ndanlu bench ops --op matmul",
    .sub = (const struct dan_cmd *const[]){&bench_machine_cmd, &bench_ops_cmd, &bench_infer_cmd, NULL}};
