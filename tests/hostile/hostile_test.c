/* Files that want to do harm, and files that are simply odd, given to the readers and to every command that opens files:
 * each is refused with exit code 1 or 2 and one line, in a second and 200 MB. */
#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/count_allocs.h"
#include "base/file.h"
#include "base/mem.h"
#include "files.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

enum { MAX_KB = 200 << 10, MAX_SECONDS = 10 };

static int enter(void **state)
{
    static char dir[64];
    snprintf(dir, sizeof dir, "/tmp/danlu-hostile-XXXXXX");
    *state = dir;
    return mkdtemp(dir) ? 0 : -1;
}

static int leave(void **state) { return dan_remove_tree(*state, NULL); }

/* --- advisories */

static int open_tokenizer(const char *path, struct dan_err *e)
{
    char text[64];
    struct dan_tokenizer *t;
    struct dan_ids ids = {0};
    int rc = dan_tokenizer_load(path, &t, e);
    if (rc) return rc;
    memset(text, 'a', sizeof text);
    dan_tokenizer_encode(t, text, sizeof text, 0, &ids, NULL);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
    return DAN_OK;
}

static int open_weights(const char *path, struct dan_err *e)
{
    struct dan_store *s;
    int rc = dan_safetensors_open(path, &s, e);
    if (!rc) dan_store_free(s);
    return rc;
}

static int open_gguf(const char *path, struct dan_err *e)
{
    struct dan_gguf *g;
    int rc = dan_gguf_open(path, &g, e);
    if (!rc) dan_gguf_close(g);
    return rc;
}

static int open_encoder(const char *path, struct dan_err *e)
{
    char text[4001];
    struct dan_tokenizer *t;
    struct dan_ids ids = {0};
    int rc = dan_tokenizer_load(path, &t, e);
    if (rc) fail_msg("%s: %s", path, e->msg);
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '!';
    rc = dan_tokenizer_encode(t, text, sizeof text, 0, &ids, e);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
    return rc;
}

static int open_template(const char *path, struct dan_err *e)
{
    struct dan_jinja_out out = {0};
    char *text;
    size_t n;
    json_t *vars = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "hi");
    int rc = dan_read_file(path, &text, &n, e);
    if (!rc) {
        rc = dan_jinja_render(text, n, NULL, vars, NULL, &out, e);
        dan_free(text);
    }
    dan_jinja_out_release(&out);
    json_decref(vars);
    return rc;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t r;
    assert_int_equal(regcomp(&r, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB), 0);
    bool ok = !regexec(&r, text, 0, NULL, 0);
    regfree(&r);
    return ok;
}

static void advisories_are_refused(void **state)
{
    static int (*const open_as[])(const char *path, struct dan_err *e) = {open_gguf, open_weights, open_tokenizer, open_encoder,
                                                                               open_template};
    const struct hostile_file *f;
    char path[512];
    for (size_t i = 0; (f = hostile_file(i)); i++) {
        struct dan_err e = {0};
        if (!hostile_make(i, *state, path, sizeof path)) fail_msg("cannot make %s", f->name);
        int rc = open_as[f->reader](path, &e);
        if (!f->says) continue;
        if (!rc) fail_msg("%s was opened", f->name);
        if (rc == DAN_ENOMEM || !matches(e.msg, f->says)) fail_msg("%s: expected /%s/, got: %s", f->name, f->says, e.msg);
    }
}

/* --- commands */

struct outcome { int status; struct rusage use; char err[4096]; size_t n; };

static void run_danlu(const char *const *args, const char *dir, struct outcome *out)
{
    char log[256];
    snprintf(log, sizeof log, "%s/stderr", dir);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR), err = open(log, O_RDWR | O_CREAT | O_TRUNC, 0666);
        if (null < 0 || err < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(err, 2) < 0) _exit(99);
        setenv("DANLU_HOME", dir, 1);
        alarm(MAX_SECONDS);
        execv(getenv("DANLU_BIN"), (char *const *)(uintptr_t)args);
        _exit(99);
    }
    assert_true(pid > 0 && wait4(pid, &out->status, 0, &out->use) == pid);
    FILE *f = fopen(log, "rb");
    assert_non_null(f);
    out->n = fread(out->err, 1, sizeof out->err - 1, f);
    out->err[out->n] = '\0';
    fclose(f);
}

static void check_outcome(const struct outcome *o, const char *what, const char *command)
{
    int code = WIFEXITED(o->status) ? WEXITSTATUS(o->status) : -1;
    double seconds = (double)(o->use.ru_utime.tv_sec + o->use.ru_stime.tv_sec) + (double)(o->use.ru_utime.tv_usec + o->use.ru_stime.tv_usec) / 1e6;
    size_t lines = 0;
    for (size_t i = 0; i < o->n; i++) {
        lines += o->err[i] == '\n';
        if ((unsigned char)o->err[i] < ' ' && o->err[i] != '\n') fail_msg("%s with %s: byte %d on stderr", command, what, o->err[i]);
    }
    if (count_allocs && seconds > 1) fail_msg("%s with %s: %.1f s", command, what, seconds);
    if (count_allocs && o->use.ru_maxrss > MAX_KB) fail_msg("%s with %s: %ld KB", command, what, o->use.ru_maxrss);
    if (code == 0 && !strcmp(command, "inspect")) return;      /* it says what a file or folder is, also of an odd one */
    if (code != 1 && code != 2) fail_msg("%s with %s: status %d: %s", command, what, o->status, o->err);
    if (!o->n || (code == 1 && lines != 1)) fail_msg("%s with %s: %zu lines: %s", command, what, lines, o->err);
}

enum { MAX_ARGS = 8 };
static const char *const commands[][MAX_ARGS] = {       /* FILE: the odd file, or the folder that it lies in */
    {"inspect", "FILE"}, {"generate", "FILE", "--prompt", "a"}, {"chat", "FILE"}, {"eval", "FILE", "--data", "FILE"}, {"embed", "FILE", "FILE"},
    {"tokenizer", "info", "FILE"}, {"tokenizer", "encode", "FILE", "a"}, {"quantize", "FILE", "--out", "q"}, {"convert", "FILE", "q"},
};
static const char *const data_commands[][MAX_ARGS] = {{"train", "-q", "--data", "FILE", "--out", "o"}, {"train", "-q", "--recipe", "FILE"}};

static void run_with(const char *const args[MAX_ARGS], const char *file, const char *dir, const char *what)
{
    const char *argv[MAX_ARGS + 2] = {"danlu"};
    struct outcome o;
    for (int i = 0; i < MAX_ARGS && args[i]; i++) argv[i + 1] = strcmp(args[i], "FILE") ? args[i] : file;
    run_danlu(argv, dir, &o);
    check_outcome(&o, what, args[0]);
}

static void run_all(const char *file, const char *dir, const char *what)
{
    for (size_t c = 0; c < sizeof commands / sizeof *commands; c++) run_with(commands[c], file, dir, what);
}

static void hostile_files_in_commands(void **state)
{
    char path[512];
    if (!getenv("DANLU_BIN")) skip();
    for (size_t i = 0; hostile_file(i); i++) {
        if (hostile_file(i)->reader >= AS_TOKENIZER) continue;
        if (!hostile_make(i, *state, path, sizeof path)) fail_msg("cannot make %s", hostile_file(i)->name);
        run_with(commands[1], path, *state, hostile_file(i)->name);
        run_with(commands[6], path, *state, hostile_file(i)->name);
    }
}

static void odd_files(void **state)
{
    static const char *const names[] = {"x.gguf", "x.safetensors", "x.bin", "x.txt", "x.json", "x.model"};
    char path[256], what[128];
    if (!getenv("DANLU_BIN")) skip();
    for (size_t i = 0; odd_name(i); i++) {
        snprintf(path, sizeof path, "%s/%zu-%s", (const char *)*state, i, names[i % 6]);
        if (!odd_make(i, path)) continue;
        snprintf(what, sizeof what, "%s as %s", odd_name(i), names[i % 6]);
        run_all(path, *state, what);
        snprintf(path, sizeof path, "%s/%zu-data.jsonl", (const char *)*state, i);
        snprintf(what, sizeof what, "%s as data", odd_name(i));
        assert_true(odd_make(i, path));
        for (size_t c = 0; c < 2; c++) run_with(data_commands[c], path, *state, what);
    }
}

/* The same inside a model's folder, where each name is looked for. */
static void odd_files_in_folders(void **state)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.model", "vocab.txt"};
    static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,\"num_hidden_layers\":1,"
                                 "\"num_attention_heads\":1,\"intermediate_size\":8,\"vocab_size\":8,\"max_position_embeddings\":8,\"rms_norm_eps\":1e-5}";
    char dir[128], path[256], what[128];
    if (!getenv("DANLU_BIN")) skip();
    for (size_t i = 0; odd_name(i); i++) {
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            snprintf(dir, sizeof dir, "%s/%zu-%zu", (const char *)*state, i, k);
            assert_int_equal(mkdir(dir, 0777), 0);
            snprintf(path, sizeof path, "%s/config.json", dir);
            if (k) assert_int_equal(dan_write_file(path, config, sizeof config - 1, NULL), 0);
            snprintf(path, sizeof path, "%s/%s", dir, names[k]);
            if (!odd_make(i, path)) continue;
            snprintf(what, sizeof what, "%s as %s", odd_name(i), names[k]);
            run_with(commands[k == 0 || k == 2 || k == 3 ? 1 : 5], dir, *state, what);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(advisories_are_refused, enter, leave),
        cmocka_unit_test_setup_teardown(hostile_files_in_commands, enter, leave),
        cmocka_unit_test_setup_teardown(odd_files, enter, leave),
        cmocka_unit_test_setup_teardown(odd_files_in_folders, enter, leave),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
