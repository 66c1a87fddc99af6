/* SPDX-License-Identifier: GPL-2.0 */
/* Limits how often something happens: so often at once, and then once each period. */
#ifndef EVERYTICK_RATE_H
#define EVERYTICK_RATE_H

#include "types.h"

/*
 * Returns whether it may happen now. `last`: when the credit that is left began, in nanoseconds, as
 * `now` and `period`.
 */
static inline bool within_rate(u64 *last, u64 now, u64 burst, u64 period)
{
	u64 earliest = now - burst * period;

	if ((s64)(*last - earliest) < 0)
		*last = earliest;
	if (*last + period > now)
		return false;
	*last += period;
	return true;
}

#endif
