/* What the trainers of SentencePiece's two models share: how text becomes words, which characters and which texts may be pieces, and
 * the tokenizer that comes out.  Rules as in SentencePiece's TrainerSpec. */
#ifndef DAN_TEXT_TRAIN_PIECES_H
#define DAN_TEXT_TRAIN_PIECES_H
#include "text/sp_model.h"
#include "text/sp_model_normal.h"
#include "text/words.h"

#define DAN_WORD_MARK "\xe2\x96\x81"           /* U+2581, where a space was */
enum { DAN_WORD_MARK_CP = 0x2581, DAN_PIECE_CHARS = 16, DAN_MOST_PIECE_CHARS = 512 };

struct dan_sp_char { int32_t cp; int64_t count; };
struct dan_sp_training {
    const struct dan_tok_train_opts *o;
    struct dan_sp_normal normal;
    struct dan_sp_normaliser normaliser;
    struct dan_words words;
    struct dan_sp_char *chars;                 /* which together cover o->coverage of the text, most frequent first */
    size_t  n_chars, most;                     /* most: characters of a piece */
    uint8_t *covered;                          /* a bit for each code point */
};
/* Reads the source.  Release in any case. */
int  dan_sp_training_read(struct dan_sp_training *t, const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_err *e);
void dan_sp_training_release(struct dan_sp_training *t);
static inline bool dan_sp_covered(const struct dan_sp_training *t, int32_t cp)
{
    return cp >= 0 && t->covered[cp >> 3] >> (cp & 7) & 1;
}
/* May these characters be one piece? */
bool dan_sp_valid(const struct dan_sp_training *t, const int32_t *cp, size_t n);
/* How many pieces fit beside unk, bos, eos, special tokens, symbols and bytes. */
size_t dan_sp_training_room(const struct dan_sp_training *t);

struct dan_train_piece { size_t at; uint32_t n; double score; };
struct dan_pieces { struct dan_str bytes; struct dan_train_piece *v; size_t n, cap; };
int  dan_pieces_put(struct dan_pieces *p, const char *text, size_t n, double score);   /* -1: out of memory */
/* Highest score first, then in the order of bytes. */
int  dan_pieces_sort(struct dan_pieces *p);                                            /* -1: out of memory */
void dan_pieces_release(struct dan_pieces *p);

int  dan_sp_training_build(const struct dan_sp_training *t, enum dan_sp_algorithm algorithm, const struct dan_pieces *pieces,
                           struct dan_tokenizer **out, struct dan_err *e);

#endif
