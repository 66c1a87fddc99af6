/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the inline functions of the kernel's step a name that can be called. */
#include "frame_pointer.h"

bool host_frame_pointer_ready(const struct registers *r)
{
	return frame_pointer_ready(r);
}

bool host_frame_pointer_step(struct registers *r, u64 saved_fp, u64 return_address)
{
	return frame_pointer_step(r, saved_fp, return_address);
}
