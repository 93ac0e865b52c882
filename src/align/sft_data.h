/* Rows of fine-tuning data as token sequences with what is to be learnt of them. */
#ifndef DAN_ALIGN_SFT_DATA_H
#define DAN_ALIGN_SFT_DATA_H
#include "data/examples.h"
#include "text/chat_template.h"

struct dan_sft_row {
    int32_t *ids;
    uint8_t *learn;                            /* 1: predicting this id is learnt; learn[0] does not count */
    int64_t n, learnt;                         /* ids; of them learnt */
    bool    desirable;                         /* labelled rows (kto.h) */
    const char *file;
    int64_t line;
};

enum dan_learn { DAN_LEARN_ALL, DAN_LEARN_LAST };                /* every turn of the assistant, or the last alone */
struct dan_sft_data_opts {
    const struct dan_tokenizer *tok;
    const struct dan_chat_template *chat;
    int64_t longest;                           /* ids of a sequence */
    enum dan_learn learn;                      /* a message's "weight": 0 or "train": false leaves it out in any case */
    bool has_now;                              /* as in struct dan_chat_input */
    int64_t now;
};

/* Why a row gives nothing; counted, and the first few told. */
enum dan_skip { DAN_SKIP_BAD_ROW, DAN_SKIP_OTHER_KIND, DAN_SKIP_TEMPLATE, DAN_SKIP_TOO_LONG, DAN_SKIP_NOTHING, DAN_N_SKIPS };
const char *dan_skip_name(enum dan_skip s);    /* "too long", ... */

struct dan_sft_data {
    struct dan_sft_row *v;
    size_t  n, cap;
    int64_t ids, learnt, rows;                 /* rows: read */
    int64_t skipped[DAN_N_SKIPS];
    struct dan_str told;                       /* a line for each of the first few that were skipped */
    char  **file;                              /* names that v points to */
    size_t  n_files;
};

/* Reads all rows of the files.  Text rows are learnt whole, with eos behind them; dialogues by the template, the assistant's turns; other kinds
 * (preferences, prompts alone) are skipped.  Nothing is cut: a sequence that is too long is skipped and counted.  Fails when nothing is left. */
int  dan_sft_data_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e);
void dan_sft_data_release(struct dan_sft_data *s);
int64_t dan_sft_data_longest(const struct dan_sft_data *s, int64_t least);      /* ids of the longest row, at least `least` */

/* Plain text (data/text.h: files or folders) cut into windows of at most `longest` ids, all learnt: what replays, and what measures forgetting.
 * At most max_windows, spread evenly over the text; 0: all. */
int  dan_sft_data_text(const char *const *paths, size_t n, const struct dan_tokenizer *tok, int64_t longest, int64_t max_windows,
                        struct dan_sft_data *out, struct dan_err *e);
/* Moves every k-th sequence, about `share` of all, to a second list. */
int  dan_sft_data_hold_out(struct dan_sft_data *from, double share, struct dan_sft_data *held, struct dan_err *e);

/* The ids of one dialogue (or text) and what is learnt; *skip says why there are none, with the words in *e. */
int  dan_sft_row_of(const struct dan_example *ex, const struct dan_sft_data_opts *o, struct dan_chat_out *shown, struct dan_sft_row *out,
                     enum dan_skip *skip, struct dan_err *e);

#endif
