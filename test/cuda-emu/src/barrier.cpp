// A full barrier only raises a number; finer synchronisation, of a warp or through a named barrier, is kept in vector
// clocks until the next full one.
#include "barrier.h"

#include <algorithm>
#include <cstring>

#include "report.h"
#include "scheduler.h"

namespace cuda_emu {

Clocks clocks;
BetweenBlocks between_blocks;

namespace {

void reset_clocks() {
  std::fill(clocks.in_warp.begin(), clocks.in_warp.end(), 0);
  clocks.any = clocks.across_warps = false;
  for (unsigned i = 0; i < device.threads; ++i) device.lanes[i].clock = 0;
}

void full_barrier_passed() {
  if (++device.full_barriers > 0xfff0)
    fail(cudaErrorLaunchFailure, "more barriers in one block than the checker can number");
  if (clocks.any) reset_clocks();
}

void widen_clocks() {
  const size_t threads = device.threads;
  clocks.all.assign(threads * threads, 0);
  for (size_t i = 0; i < threads; ++i) {
    const size_t base = i / kWarp * kWarp, count = std::min<size_t>(kWarp, threads - base);
    std::copy_n(&clocks.in_warp[i * kWarp], count, &clocks.all[i * threads + base]);
  }
  clocks.across_warps = true;
}

bool release(int id) {
  Barrier& barrier = device.barriers[id];
  const bool full = barrier.expected < 0;
  const unsigned expected = full ? device.alive : static_cast<unsigned>(barrier.expected);
  if (!barrier.arrived || static_cast<unsigned>(barrier.arrived) < expected) return false;
  const int result = barrier.combine == kCount ? barrier.votes
                     : barrier.combine == kAnd ? barrier.votes == barrier.arrived
                                               : barrier.votes != 0;
  static std::vector<unsigned> threads;
  threads.clear();
  for (unsigned i = 0; i < device.threads; ++i) {
    Lane& lane = device.lanes[i];
    if (lane.state != kAtBarrier || lane.barrier != id) continue;
    set_ready(lane);
    lane.barrier_result = result;
    threads.push_back(i);
  }
  if (full) {
    full_barrier_passed();
  } else {
    if (!clocks.across_warps) widen_clocks();
    join(threads.data(), static_cast<unsigned>(threads.size()));
  }
  barrier = Barrier();
  device.barriers_in_use &= ~(1u << id);
  return true;
}

}  // namespace

void begin_grid_order() {
  between_blocks.released.clear();
}

void begin_block_order() {
  device.full_barriers = 0;
  between_blocks.fenced = false;
  between_blocks.acquired.clear();
  if (clocks.in_warp.size() < size_t{device.threads} * kWarp) clocks.in_warp.resize(size_t{device.threads} * kWarp);
  if (clocks.any) reset_clocks();
  for (Barrier& barrier : device.barriers) barrier = Barrier();
  device.barriers_in_use = 0;
}

void join(const unsigned* threads, unsigned count) {
  uint16_t* table = clocks.across_warps ? clocks.all.data() : clocks.in_warp.data();
  const size_t stride = clocks.across_warps ? device.threads : kWarp;
  const unsigned base = clocks.across_warps ? 0 : threads[0] / kWarp * kWarp;
  uint16_t newest[kMaxThreads];
  memset(newest, 0, stride * sizeof *newest);
  for (unsigned i = 0; i < count; ++i) {
    const uint16_t* known = table + threads[i] * stride;
    for (size_t j = 0; j < stride; ++j) newest[j] = std::max(newest[j], known[j]);
    uint16_t& own = newest[threads[i] - base];
    own = std::max<uint16_t>(own, device.lanes[threads[i]].clock + 1);
  }
  for (unsigned i = 0; i < count; ++i) {
    memcpy(table + threads[i] * stride, newest, stride * sizeof *newest);
    ++device.lanes[threads[i]].clock;
  }
  clocks.any = true;
}

void release_barriers_after_exit() {
  for (unsigned left = device.barriers_in_use; left; left &= left - 1) release(__builtin_ctz(left));
}

int barrier(int id, int threads, int predicate, Combine combine, Site site) {
  Lane& lane = *current;
  if (threads == static_cast<int>(device.threads)) threads = -1;
  Barrier& barrier = device.barriers[id];
  if (!barrier.arrived) {
    barrier.site = site;
    barrier.combine = combine;
    barrier.expected = threads;
  } else if (config.strict && (barrier.site.line != site.line || strcmp(barrier.site.file, site.file) != 0 ||
                               barrier.combine != combine)) {
    fail_kind(kDivergence, cudaErrorLaunchFailure, "divergent barrier: some threads wait at %s:%d, this one at %s:%d",
              barrier.site.file, barrier.site.line, site.file, site.line);
  }
  ++barrier.arrived;
  device.barriers_in_use |= 1u << id;
  barrier.votes += predicate != 0;
  set_waiting(lane, kAtBarrier);
  lane.barrier = id;
  lane.site = site;
  if (!release(id)) wait_until_ready();
  return lane.barrier_result;
}

void fence(bool beyond_block) {
  if (beyond_block) between_blocks.fenced = true;
}

}  // namespace cuda_emu
