// Shared memory of the running block.
#pragma once
#include "state.h"

namespace cuda_emu {

void begin_block_shared();
// A thread that exits has its asynchronous copies finished.
void land_all_copies(Lane& lane);

}  // namespace cuda_emu
