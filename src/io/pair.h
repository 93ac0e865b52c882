#ifndef DAN_IO_PAIR_H
#define DAN_IO_PAIR_H

struct dan_pair { const char *key, *value; };

#endif
