/* UNROLL goes before a loop over an array of sums.  Where such a loop is left as a loop, the array needs an address: gcc 12 then
 * keeps it in memory and stores every sum in each round of the loop that adds them up. */
#ifndef DAN_KERNEL_UNROLL_H
#define DAN_KERNEL_UNROLL_H

#define UNROLL _Pragma("GCC unroll 16")

#endif
