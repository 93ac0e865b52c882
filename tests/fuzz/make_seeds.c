/* Writes the seeds of the harnesses named: make_seeds DIR NAME... */
#include <stdio.h>
#include <sys/stat.h>
#include "fuzz.h"

int main(int argc, char **argv)
{
    const uint8_t *p;
    size_t n;
    char path[4096];
    for (int a = 2; a < argc; a++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], argv[a]);
        mkdir(path, 0777);
        for (size_t i = 0; fuzz_seed(argv[a], i, &p, &n); i++) {
            snprintf(path, sizeof path, "%s/%s/%zu", argv[1], argv[a], i);
            FILE *f = fopen(path, "wb");
            if (!f || fwrite(p, 1, n, f) != n || fclose(f)) return perror(path), 1;
        }
    }
    return 0;
}
