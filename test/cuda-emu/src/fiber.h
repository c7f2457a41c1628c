// Each CUDA thread is a fiber: a stack and a saved stack pointer on the OS thread that runs the kernel.
#pragma once
#include "state.h"

namespace cuda_emu {

// Where a fresh fiber starts; its first instruction is cuda_emu_fiber_start.
void* fresh_stack(char* top);
// The host side: runs the lane until all have finished or the grid has failed.
void enter(Lane& first);
// A lane's side: goes on with `next`, or returns to the host if it is null. `finished`: never to be resumed.
void leave_to(Lane* next, bool finished);
void prepare_host_stack();

}  // namespace cuda_emu
