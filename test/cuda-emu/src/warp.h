// Operations that the lanes of a warp carry out together.
#pragma once
#include "state.h"

namespace cuda_emu {

// Waits for the lanes of the mask; the last one runs the operation on all payloads. Returns the lanes that took part.
unsigned collective(const WarpOperation& operation, unsigned mask, void* payload, Site site);
void complete_collectives_after_exit(unsigned warp);

}  // namespace cuda_emu
