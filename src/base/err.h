/* Expected failures.  A function that can fail takes `struct dan_err *e` last and returns a
 * dan_status.  `*e` is untouched on success; the first failure stays, so calls chain.
 * Messages: lower case, error first, subject in single quotes, then what to do about it. */
#ifndef DAN_BASE_ERR_H
#define DAN_BASE_ERR_H

enum dan_status {
    DAN_OK = 0,
    DAN_ENOMEM = -1,
    DAN_EIO = -2,
    DAN_EFORMAT = -3,      /* a file is not what it should be */
    DAN_EINVAL = -4,       /* the caller's options do not fit together */
    DAN_ESHAPE = -5,
    DAN_EUNSUPPORTED = -6,
    DAN_ECANCELLED = -7,
    DAN_EUSAGE = -8,       /* command line: exit code 2 */
};

struct dan_err {
    int  code;
    char msg[480];
};

/* Records a failure unless one is recorded already; returns `code`.  e may be NULL.  The message is one printable line: control
 * characters and bytes that are no UTF-8, which a file may have brought in, become '?'. */
int dan_fail(struct dan_err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Bugs, not user errors: aborts with file:line in every build. */
_Noreturn void dan_bug(const char *file, int line, const char *what);
#define DAN_ASSERT(x) ((x) ? (void)0 : dan_bug(__FILE__, __LINE__, #x))

#endif
