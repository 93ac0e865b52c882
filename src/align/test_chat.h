/* What tests of rows begin with: a tokenizer of bytes that knows ChatML's tokens, the built-in template, and a file for the rows. */
#ifndef DAN_ALIGN_TEST_CHAT_H
#define DAN_ALIGN_TEST_CHAT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "text/chat_template.h"

static struct dan_tokenizer *tok;
static struct dan_chat_template chat;
static char path[] = "/tmp/danlu-rows-XXXXXX";

static int setup(void **state)
{
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    struct dan_tok_train_opts o = {.special = special, .n_special = 3};
    struct dan_err e = {0};
    (void)state;
    return dan_tokenizer_new_bytes(&o, &tok, &e) || dan_chat_template_open(&chat, tok, NULL, NULL, &e) || mkstemp(path) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    dan_chat_template_release(&chat);
    dan_tokenizer_free(tok);
    return remove(path);
}

static void write_rows(const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#endif
