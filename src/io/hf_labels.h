/* What the classes of a model mean: id2label and problem_type of config.json. */
#ifndef DAN_IO_HF_LABELS_H
#define DAN_IO_HF_LABELS_H
#include <stdint.h>
#include "base/err.h"

/* How numbers of a classification head become an answer. */
enum dan_problem {
    DAN_PROBLEM_ONE,                           /* one class is right: softmax */
    DAN_PROBLEM_MANY,                          /* each by itself: sigmoid ("multi_label_classification", or one label only) */
    DAN_PROBLEM_NUMBER,                        /* the numbers themselves ("regression") */
};
struct dan_hf_labels { int64_t n; char **name; enum dan_problem problem; };
/* n classes, as the weights have them; names that config.json does not give are LABEL_0 and so on. */
int  dan_hf_labels_load(const char *dir, int64_t n, struct dan_hf_labels *out, struct dan_err *e);
void dan_hf_labels_release(struct dan_hf_labels *l);

#endif
