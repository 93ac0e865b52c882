/* danlu.h: the public C API.
 *
 * One call runs any command of the program in this process; the library below it is experimental
 * and may change between releases (headers under src/).  Stable tier: this file. */
#ifndef DANLU_H
#define DANLU_H
#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
const char *danlu_version(void);

#ifdef __cplusplus
}
#endif
#endif
