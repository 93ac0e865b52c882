/* The proof, step by step.  A cut is the place between a plain character y and a space; a part begins with the space and goes to the next
 * cut or the end.  In what the general pipeline makes of the whole text, a part must be what it makes of the part alone: without the
 * space if the pipeline puts a U+2581 before every text (drop), else with it.
 *
 *  - Steps that look at single characters, or at runs without spaces, see the same on both sides of y and the space: normal forms (ASCII
 *    takes part in them only with U+0300 and above behind it, which is no cut), clusters of a precompiled map, literal replacements.
 *    What they change is not plain.
 *  - What looks at more than one space, or may do something to the space for what stands behind it, wants a plain character behind the
 *    space (strict).  Then the whole white space between two plain characters is that one space.
 *  - What is done at the beginning of a text is done to the first part; the others begin with a plain character or the space before it.
 *    What is done at the end is done to the last part, which has a plain character near its beginning.
 *  - What is no UTF-8 is not cut where a step may take characters away: its bytes could come together.
 *  - All spaces become U+2581 at last, by a Replace or by Metaspace.  Either every U+2581 begins a piece, or the model itself is known to
 *    pass between y and U+2581. */
#include "text/spaced_rules.h"
#include <string.h>

#define SPACE "\xe2\x96\x81"

struct state { struct dan_spaced_way *way; bool escaped, prepended, adds, trims, strict, words; };

static void no_plain(struct state *k, char from, char to)
{
    for (int c = from; c <= to; c++) k->way->rules.plain[c] = false;
}

/* --- the normaliser */

static bool replace_literal(struct state *k, const char *what, const char *by)
{
    if (strcmp(what, " ") == 0) {
        k->escaped = true;
        return strcmp(by, SPACE) == 0;
    }
    if (!*what || strchr(what, ' ') || strstr(what, SPACE) || (k->escaped && strchr(by, ' '))) return false;
    for (; *what; what++)
        if ((unsigned char)*what < 128) k->way->rules.plain[(unsigned char)*what] = false;
    k->strict = true;
    return true;
}

/* after: spaces are U+2581 by then; trims: does something to the beginning of a text. */
static const struct { const char *regex, *by; bool after, trims; } replaced[] = {
    {" {2,}", " ", false, false}, {" {2,}", SPACE, false, false}, {"\\A +", "", false, true}, {"\\A +| +\\z", "", false, true},
    {" +\\z", "", false, false}, {SPACE "+\\z", "", true, false}, {"\\A" SPACE, SPACE SPACE, true, true},
};

static bool replace(struct state *k, const json_t *j)
{
    const json_t *pattern = json_object_get(j, "pattern"), *text = json_object_get(pattern, "String");
    const char *regex = dan_json_name(pattern, "Regex"), *by = dan_json_name(j, "content");
    if (json_is_string(text))
        return strlen(json_string_value(text)) == json_string_length(text) && replace_literal(k, json_string_value(text), by);
    for (size_t i = 0; i < sizeof replaced / sizeof *replaced; i++) {
        if (strcmp(regex, replaced[i].regex) != 0 || strcmp(by, replaced[i].by) != 0) continue;
        k->trims |= replaced[i].trims;
        k->strict = true;
        return k->escaped == replaced[i].after && !k->prepended;
    }
    return false;
}

static bool prepend(struct state *k, const json_t *j)
{
    bool twice = k->prepended;
    k->prepended = k->adds = true;
    return !twice && strcmp(dan_json_name(j, "prepend"), SPACE) == 0;
}

static bool character(struct state *k, const json_t *j)
{
    (void)j;
    k->strict = true;
    return !k->escaped && !k->prepended;
}

static bool lowercase(struct state *k, const json_t *j)
{
    no_plain(k, 'A', 'Z');
    return character(k, j);
}

static bool strip(struct state *k, const json_t *j)
{
    k->trims |= dan_json_flag(j, "strip_left", true);
    return character(k, j);
}

static bool sequence(struct state *k, const json_t *j);
static const struct { const char *type; bool (*read)(struct state *k, const json_t *j); } steps[] = {
    {"Sequence", sequence}, {"Replace", replace}, {"Prepend", prepend}, {"NFC", character}, {"NFD", character}, {"NFKC", character},
    {"NFKD", character}, {"Nmt", character}, {"StripAccents", character}, {"Precompiled", character}, {"Lowercase", lowercase}, {"Strip", strip},
};

static bool normalizer(struct state *k, const json_t *j)
{
    if (!j || json_is_null(j)) return true;
    const char *type = dan_json_name(j, "type");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (strcmp(steps[i].type, type) == 0) return steps[i].read(k, j);
    return false;
}

static bool sequence(struct state *k, const json_t *j)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(j, "normalizers"), i, one)
        if (!normalizer(k, one)) return false;
    return true;
}

/* --- the pre-tokenizer */

static bool metaspace(struct state *k, const json_t *j)
{
    const char *scheme = dan_json_name(j, "prepend_scheme");
    if (dan_json_char(json_object_get(j, "replacement")) != 0x2581) return false;
    bool adds = dan_json_flag(j, "add_prefix_space", true) && strcmp(scheme, "never") != 0;
    k->adds |= adds;
    k->words = dan_json_flag(j, "split", true);
    k->escaped = true;
    return true;
}

/* Each word gets its U+2581: "always", which is also what a file without a scheme means. */
static bool metaspace_of_words(struct state *k, const json_t *j)
{
    const char *scheme = dan_json_name(j, "prepend_scheme");
    bool spaces = !k->escaped;
    k->strict = true;
    return metaspace(k, j) && spaces && k->adds && !k->prepended && k->words && (!*scheme || strcmp(scheme, "always") == 0);
}

/* Cuts at spaces, when there are none left. */
static bool idle_split(const struct state *k, const json_t *j)
{
    return k->escaped && strcmp(dan_json_name(json_object_get(j, "pattern"), "String"), " ") == 0 && !dan_json_flag(j, "invert", false);
}

static bool pre_tokenizer(struct state *k, const json_t *j)
{
    const char *type = dan_json_name(j, "type");
    const json_t *list = json_object_get(j, "pretokenizers"), *second = json_array_get(list, 1);
    if (!j || json_is_null(j)) return true;
    if (strcmp(type, "Metaspace") == 0) return metaspace(k, j);
    if (strcmp(type, "Split") == 0) return idle_split(k, j);
    if (strcmp(type, "Sequence") != 0) return false;
    if (json_array_size(list) == 1) return pre_tokenizer(k, json_array_get(list, 0));
    return json_array_size(list) == 2 && strcmp(dan_json_name(json_array_get(list, 0), "type"), "WhitespaceSplit") == 0 &&
           strcmp(dan_json_name(second, "type"), "Metaspace") == 0 && metaspace_of_words(k, second);
}

/* --- the model */

static bool passes(const struct dan_charbpe *b, const struct dan_unigram *u, unsigned char c)
{
    char text[] = {(char)c, SPACE[0], SPACE[1], SPACE[2]};
    return b ? dan_charbpe_cuts(b, text, 1, 3) : dan_unigram_meets(u, c);
}

bool dan_spaced_fits(const struct dan_tok_spec *s, const struct dan_normal *normal, const struct dan_charbpe *b, const struct dan_unigram *u,
                     struct dan_spaced_way *out)
{
    struct state k = {.way = out};
    bool any = false;
    *out = (struct dan_spaced_way){0};
    for (int c = '!'; c <= '~'; c++) out->rules.plain[c] = dan_normal_keeps(normal, (unsigned char)c);
    if ((!b && !u) || !dan_normal_keeps(normal, ' ')) return false;
    if (!normalizer(&k, s->normalizer) || !pre_tokenizer(&k, s->pre_tokenizer)) return false;
    out->whole = !k.words;
    out->rules.any = !k.strict;
    out->drop = k.strict ? k.adds : k.prepended;
    for (int c = '!'; c <= '~'; c++) {
        if (out->whole && !passes(b, u, (unsigned char)c)) out->rules.plain[c] = false;
        any |= out->rules.plain[c];
    }
    return any && k.escaped && !(k.trims && !k.adds);
}
