/* SPDX-License-Identifier: GPL-3.0-or-later */
/* random.h - numbers that a seed decides, the same on every machine.  */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
  uint64_t state;
};

/* Steele, Lea and Flood's splitmix64.  */
static inline uint64_t rng_next(struct rng *rng) {
  uint64_t z = rng->state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* A number below N, which is above 0.  */
static inline unsigned rng_below(struct rng *rng, unsigned n) {
  return (unsigned)(rng_next(rng) >> 33) % n;
}

/* True in PERCENT of 100 cases.  */
static inline bool rng_chance(struct rng *rng, unsigned percent) {
  return rng_below(rng, 100) < percent;
}

#endif
