#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/shards.h"

static char dir[] = "/tmp/danlu-shards-XXXXXX";
static char text_path[300], out_path[300];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(text_path, sizeof text_path, "%s/a.txt", dir);
    snprintf(out_path, sizeof out_path, "%s/data", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

/* The tokenizer of these tests: a byte is its id. */
static int encode(void *ctx, const char *p, size_t n, struct dan_token_list *out, struct dan_err *e)
{
    int64_t *longest = ctx;
    if (longest && (int64_t)n > *longest) *longest = (int64_t)n;
    if (dan_vec_grow(&out->p, &out->cap, out->n + n, sizeof *out->p)) return dan_fail(e, DAN_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) out->p[out->n++] = (unsigned char)p[i];
    return DAN_OK;
}

static const struct dan_encoder bytes = {encode, NULL, 257, 256, 0x0123456789abcdef, 0}, bare = {encode, NULL, 256, -1, 1, 0};

static struct dan_shard_stats put_text(const char *text, const struct dan_encoder *enc, const struct dan_shard_opts *o)
{
    struct dan_text *t;
    struct dan_shard_stats s;
    struct dan_err e = {0};
    const char *path = text_path;
    assert_int_equal(dan_write_file(text_path, text, strlen(text), NULL), DAN_OK);
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, NULL), DAN_OK);
    if (dan_shards_write(t, enc, out_path, o, &s, &e)) fail_msg("%s", e.msg);
    dan_text_free(t);
    return s;
}

static struct dan_shards *open_split(const char *split)
{
    struct dan_shards *s;
    struct dan_err e = {0};
    if (dan_shards_open(out_path, split, &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(dan_shards_verify(s, &e), DAN_OK);
    return s;
}

/* A split as text: '#' = eos, '|' before every document, '/' between shards. */
static void assert_split(const char *split, const char *text)
{
    struct dan_shards *s = open_split(split);
    struct dan_str got = {0};
    for (size_t i = 0; i < dan_shards_count(s); i++) {
        const struct dan_shard *h = dan_shards_at(s, i);
        if (i) dan_str_putc(&got, '/');
        for (int64_t k = 0, d = 0; k < h->n; k++) {
            if (d < h->n_docs && h->doc[d] == (uint64_t)k) {
                dan_str_putc(&got, '|');
                assert_int_equal(dan_shard_doc_of(h, k), d++);
            }
            int32_t id = dan_shard_token(h, k);
            dan_str_putc(&got, id == 256 ? '#' : (char)id);
        }
    }
    assert_string_equal(dan_str_c(&got), text);
    dan_str_release(&got);
    dan_shards_free(s);
}

static void test_one_document(void **state)
{
    (void)state;
    struct dan_shard_stats s = put_text("abcdefghi\xe4\xb8\xb9", &bytes, &(struct dan_shard_opts){.val_fraction = 0.1});
    assert_split("train", "|abcdefghi");       /* the cut, at byte 10.8, moves back to a character */
    assert_split("val", "|\xe4\xb8\xb9#");
    assert_int_equal(s.train.tokens, 9);
    assert_int_equal(s.val.tokens, 4);
    assert_int_equal(s.train.bytes + s.val.bytes, 12);
}

static void test_few_documents(void **state)
{
    (void)state;
    put_text("aaaa\n<|endoftext|>\nbbbb\n<|endoftext|>\ncccc\n", &bytes, &(struct dan_shard_opts){.val_fraction = 0.5});
    assert_split("train", "|aaaa#|bb");
    assert_split("val", "|bb#|cccc\n#");
    put_text("aaaa\n<|endoftext|>\nbbbb\n", &bare, &(struct dan_shard_opts){0});
    assert_split("train", "|aaaa|bbbb\n");
    struct dan_shards *v;
    struct dan_err e = {0};
    assert_int_equal(dan_shards_open(out_path, "val", &v, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "no 'val' split"));
}

static void test_many_documents(void **state)
{
    (void)state;
    struct dan_str text = {0};
    for (int i = 0; i < 100; i++) dan_str_printf(&text, "%02d\n<|endoftext|>\n", i);
    const struct dan_shard_opts o = {.val_fraction = 0.1, .seed = 5}, p = {.val_fraction = 0.1, .seed = 6};
    const struct dan_shard_opts q = {.val_fraction = 0.3, .seed = 5};
    struct dan_shard_stats s = put_text(text.p, &bytes, &o);
    assert_int_equal(s.train.docs, 90);
    assert_int_equal(s.val.docs, 10);
    assert_int_equal(s.val.bytes, 20);
    struct dan_shards *v = open_split("val");
    const struct dan_shard *h = dan_shards_at(v, 0);
    int first = dan_shard_token(h, 1);         /* every tenth: all end in the same digit */
    for (int64_t d = 0; d < 10; d++) assert_int_equal(dan_shard_token(h, 3 * d + 1), first);
    dan_shards_free(v);
    s = put_text(text.p, &bytes, &p);
    v = open_split("val");
    assert_int_not_equal(dan_shard_token(dan_shards_at(v, 0), 1), first);
    dan_shards_free(v);
    s = put_text(text.p, &bytes, &q);
    assert_in_range(s.val.docs, 29, 31);
    dan_str_release(&text);
}

static void test_shard_size(void **state)
{
    (void)state;
    struct dan_shard_stats s = put_text("abcdef\n<|endoftext|>\ngh\n<|endoftext|>\ni\n", &bytes, &(struct dan_shard_opts){.max_tokens = 4});
    assert_split("train", "|abcd/|ef#|g/|h#|i\n/|#");
    assert_int_equal(s.train.shards, 4);
    assert_int_equal(s.train.docs, 3);
    assert_int_equal(s.train.tokens, 13);
    assert_int_equal(s.train.bytes, 10);
}

static void test_pieces(void **state)
{
    (void)state;
    int64_t longest = 0;
    struct dan_encoder enc = bytes;
    enc.ctx = &longest;
    enc.piece_bytes = 8;
    put_text("abcdefgh ij\nklmnopq\n\nrstuvw\xe3\x80\x82\n\xe4\xb8\xb9", &enc, &(struct dan_shard_opts){0});
    assert_split("train", "|abcdefgh ij\nklmnopq\n\nrstuvw\xe3\x80\x82\n\xe4\xb8\xb9#");
    assert_int_equal(longest, 19);             /* "klmnopq..." up to the full stop's newline */
    enc.piece_bytes = -1;
    put_text("abcdefgh ij\nklmnopq\n\nrstuvw", &enc, &(struct dan_shard_opts){0});
    assert_int_equal(longest, 27);
}

static void test_wide(void **state)
{
    (void)state;
    struct dan_encoder enc = bytes;
    enc.vocab = 70000;
    put_text("abc", &enc, &(struct dan_shard_opts){0});
    assert_split("train", "|abc#");
    struct dan_shards *s = open_split("train");
    assert_int_equal(dan_shards_at(s, 0)->width, 4);
    assert_int_equal(dan_shards_vocab(s), 70000);
    assert_int_equal(dan_shards_eos(s), 256);
    assert_int_equal(dan_shards_hash(s), 0x0123456789abcdef);
    assert_int_equal(dan_shards_bytes(s), 3);
    dan_shards_free(s);
}

static void assert_refused(const char *text, const struct dan_encoder *enc, double f, const char *says)
{
    struct dan_text *t;
    struct dan_shard_stats s;
    struct dan_err e = {0};
    const char *path = text_path;
    assert_int_equal(dan_write_file(text_path, text, strlen(text), NULL), DAN_OK);
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, NULL), DAN_OK);
    assert_int_not_equal(dan_shards_write(t, enc, out_path, &(struct dan_shard_opts){.val_fraction = f}, &s, &e), DAN_OK);
    if (!strstr(e.msg, says)) fail_msg("says: %s", e.msg);
    dan_text_free(t);
}

/* What fails leaves the data that was there, and nothing else. */
static void test_refused(void **state)
{
    (void)state;
    char **names;
    size_t n;
    struct dan_encoder narrow = bytes;
    narrow.vocab = 98;
    narrow.eos = -1;
    put_text("good", &bytes, &(struct dan_shard_opts){0});
    assert_refused("b", &narrow, 0, "gave id 98");
    assert_refused("abc", &bytes, 0.9, "out of range");
    assert_refused("a", &bytes, 0.01, "train split stays empty");
    assert_refused(" ", &bytes, 0.01, "blank");
    assert_split("train", "|good#");
    assert_int_equal(dan_list_dir(dir, &names, &n, NULL), DAN_OK);
    assert_int_equal(n, 2);                    /* a.txt, data */
    dan_free_list(names, n);
}

static void test_damage(void **state)
{
    (void)state;
    char path[400], *file;
    size_t n;
    put_text("some text to train on\n", &bytes, &(struct dan_shard_opts){0});
    snprintf(path, sizeof path, "%s/train-00000.bin", out_path);
    assert_int_equal(dan_read_file(path, &file, &n, NULL), DAN_OK);
    for (size_t i = 0; i < 2 * n; i++) {       /* every cut, then every byte */
        struct dan_shards *s = NULL;
        struct dan_err e = {0};
        if (i >= n) file[i - n] ^= 0x21;
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(file, 1, i < n ? i : n, f), i < n ? i : n);
        fclose(f);
        int rc = dan_shards_open(out_path, "train", &s, &e);
        if (!rc) rc = dan_shards_verify(s, &e);
        if (!rc) fail_msg("change %zu went unnoticed", i);
        assert_true(e.msg[0] != '\0');
        dan_shards_free(s);
        if (i >= n) file[i - n] ^= 0x21;
    }
    unlink(path);
    struct dan_shards *s;
    assert_int_equal(dan_shards_open(out_path, "train", &s, NULL), DAN_EIO);
    dan_free(file);
}

static void test_in_memory(void **state)
{
    (void)state;
    const int32_t ids[] = {5, 6, 7};
    const int64_t doc[] = {0, 2};
    struct dan_shards *s;
    assert_int_equal(dan_shards_of(ids, 3, doc, 2, -1, &s, NULL), DAN_OK);
    assert_int_equal(dan_shard_token(dan_shards_at(s, 0), 2), 7);
    assert_int_equal(dan_shard_doc_of(dan_shards_at(s, 0), 1), 0);
    assert_int_equal(dan_shard_doc_of(dan_shards_at(s, 0), 2), 1);
    assert_int_equal(dan_shards_verify(s, NULL), DAN_OK);
    dan_shards_free(s);
    assert_int_equal(dan_shards_of(ids, 0, doc, 1, -1, &s, NULL), DAN_EINVAL);
}

/* nanoGPT's split of tiny shakespeare: 1,003,854 and 111,540 characters. */
static void test_nanogpt(void **state)
{
    (void)state;
    const char *data = dan_env("DANLU_DATA");
    char p[512];
    const char *path = p;
    struct dan_text *t;
    struct dan_shard_stats s;
    snprintf(p, sizeof p, "%s/text/en/tinyshakespeare.txt", data ? data : "../shared/data");
    if (!dan_path_exists(p)) skip();
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, NULL), DAN_OK);
    assert_int_equal(dan_shards_write(t, &bare, out_path, &(struct dan_shard_opts){.val_fraction = 0.1}, &s, NULL), DAN_OK);
    assert_int_equal(s.train.tokens, 1003854);
    assert_int_equal(s.val.tokens, 111540);
    dan_text_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_document), cmocka_unit_test(test_few_documents), cmocka_unit_test(test_many_documents),
        cmocka_unit_test(test_shard_size), cmocka_unit_test(test_pieces), cmocka_unit_test(test_wide), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_in_memory), cmocka_unit_test(test_nanogpt),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
