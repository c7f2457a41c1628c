// Which thread of a block runs next.
#pragma once
#include "state.h"

namespace cuda_emu {

// The running lane waits: others run until it is ready again.
void wait_until_ready();
// The running lane has left the kernel.
[[noreturn]] void finish_lane();
// Ends the grid from within a lane.
[[noreturn]] void abandon_grid();

inline void set_ready(Lane& lane) {
  lane.state = kReady;
  device.warp_ready[lane.warp] |= 1u << lane.lane;
}
inline void set_waiting(Lane& lane, LaneState state) {
  lane.state = state;
  device.warp_ready[lane.warp] &= ~(1u << lane.lane);
}

}  // namespace cuda_emu
