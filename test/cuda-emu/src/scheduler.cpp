// Runs a grid: one block at a time, and in a block one warp at a time until none of its threads can go on.
#include "scheduler.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "barrier.h"
#include "checker.h"
#include "fiber.h"
#include "heap.h"
#include "host.h"
#include "report.h"
#include "shared_memory.h"
#include "warp.h"

namespace cuda_emu {

Context context;
Device device;

namespace {

// Orders of this block's warps and of a warp's lanes, and how far the walk through them is.
struct Walk {
  std::vector<unsigned> warps, lanes;
  size_t warp = 0, lane = 0;
  bool ran_in_warp = false, ran = false;
} walk;

void put_in_order(std::vector<unsigned>& numbers, unsigned count) {
  numbers.resize(count);
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (config.order == kReverse) std::reverse(numbers.begin(), numbers.end());
  if (config.order == kRandom)
    for (unsigned i = count; i > 1; --i) std::swap(numbers[i - 1], numbers[random_below(i)]);
}

void report_deadlock() {
  std::string text = "deadlock: no thread can go on.";
  int shown = 0;
  for (unsigned i = 0; i < device.threads && shown < 6; ++i) {
    const Lane& lane = device.lanes[i];
    const Lane* before = i ? &device.lanes[i - 1] : nullptr;
    if (before && before->state == lane.state &&
        (lane.state == kDone || (lane.site.line == before->site.line && lane.mask == before->mask)))
      continue;
    char part[300];
    if (lane.state == kDone)
      snprintf(part, sizeof part, " From thread %u: exited.", i);
    else if (lane.state == kAtBarrier)
      snprintf(part, sizeof part, " From thread %u: in __syncthreads at %s:%d.", i, lane.site.file, lane.site.line);
    else
      snprintf(part, sizeof part, " From thread %u: in %s (mask 0x%08x) at %s:%d.", i, lane.operation->name, lane.mask,
               lane.site.file, lane.site.line);
    text += part;
    ++shown;
  }
  report(kDivergence, cudaErrorLaunchTimeout,
         text + " [" + function_name(device.function) + ", block " + std::to_string(device.block_index) + "]");
}

// The next lane that can run, or null: all are done, or none can go on.
Lane* next_lane() {
  for (;;) {
    const unsigned warp = walk.warps[walk.warp];
    if (const unsigned ready = device.warp_ready[warp])
      while (walk.lane < kWarp) {
        const unsigned lane = walk.lanes[walk.lane++];
        if (ready >> lane & 1) {
          walk.ran_in_warp = walk.ran = true;
          return &device.lanes[warp * kWarp + lane];
        }
      }
    walk.lane = 0;
    const bool again = walk.ran_in_warp;
    walk.ran_in_warp = false;
    if (again && device.warp_ready[warp]) {
      if (config.order == kRandom) put_in_order(walk.lanes, kWarp);
      continue;
    }
    if (++walk.warp < device.warps) continue;
    if (!device.alive || !walk.ran) return nullptr;
    walk.warp = 0;
    walk.ran = false;
    if (config.order == kRandom) put_in_order(walk.warps, device.warps);
  }
}

void start_lanes(dim3 block) {
  for (unsigned i = 0; i < device.threads; ++i) {
    Lane& lane = device.lanes[i];
    lane.position = uint3{i % block.x, i / block.x % block.y, i / block.x / block.y};
    lane.thread = i;
    lane.lane = i % kWarp;
    lane.warp = i / kWarp;
    lane.state = kReady;
    lane.clock = 0;
    lane.copies.clear();
    lane.copy_groups.clear();
    lane.asan_stack = nullptr;
    lane.stack = device.stacks + size_t{i} * kStackBytes;
    // Staggered, so that the stacks do not share cache sets.
    lane.stack_pointer = fresh_stack(lane.stack + kStackBytes - 64 * (i % 61));
  }
  for (unsigned warp = 0; warp < device.warps; ++warp) {
    const unsigned lanes = std::min(kWarp, device.threads - warp * kWarp);
    device.warp_alive[warp] = device.warp_ready[warp] = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    device.warp_waiting[warp] = 0;
  }
}

bool run_block(uint3 position, dim3 grid, dim3 block) {
  device.threads = device.alive = block.x * block.y * block.z;
  device.warps = (device.threads + kWarp - 1) / kWarp;
  ++device.block_serial;
  device.block_index = position.x + grid.x * (position.y + grid.y * position.z);
  context.block = position;
  begin_block_order();
  begin_block_shared();
  start_lanes(block);
  put_in_order(walk.warps, device.warps);
  put_in_order(walk.lanes, kWarp);
  walk.warp = walk.lane = 0;
  walk.ran = walk.ran_in_warp = false;
  enter(*next_lane());
  if (device.failed) return false;
  if (device.alive) report_deadlock();
  return !device.alive;
}

void allocate_once() {
  if (device.stacks) return;
  const auto map = [](size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      perror("cuda_emu: mmap");
      abort();
    }
    return memory;
  };
  device.shared = static_cast<char*>(map(kSharedCapacity + 4096));
  device.shared_owner = static_cast<uint8_t*>(map(kSharedCapacity / 4 + 64));
  device.shared_written = static_cast<uint8_t*>(map(kSharedCapacity / 4 + 64));
  device.shared_cells = static_cast<Cell*>(map(kSharedCapacity / 4 * kCellBytes));
  device.stacks = static_cast<char*>(map(kStackBytes * kMaxThreads));
  for (unsigned i = 0; i < kMaxThreads; ++i) mprotect(device.stacks + i * kStackBytes, kPage, PROT_NONE);  // overflow
}

}  // namespace

void wait_until_ready() {
  leave_to(next_lane(), false);
}

void abandon_grid() {
  device.failed = true;
  leave_to(nullptr, true);
  abort();
}

void finish_lane() {
  Lane& lane = *current;
  land_all_copies(lane);
  set_waiting(lane, kDone);
  device.warp_alive[lane.warp] &= ~(1u << lane.lane);
  --device.alive;
  release_barriers_after_exit();
  complete_collectives_after_exit(lane.warp);
  leave_to(next_lane(), true);
  abort();
}

void run_kernel(const cudaLaunchConfig_t& launch, const void* function, Body& body) {
  find_module();
  allocate_once();
  prepare_host_stack();
  asan_unpoison(device.stacks, kStackBytes * kMaxThreads);
  device.body = &body;
  device.function = function;
  device.failed = false;
  device.dynamic_bytes = launch.dynamicSmemBytes;
  device.shared_limit = opted_in(function) ? kSharedLimit : kStaticSharedLimit;
  ++device.launch;
  begin_grid_order();
  seed_random(config.seed * 0x9E3779B97F4A7C15ull + device.launch);
  const dim3 grid = launch.gridDim;
  context.grid_dim = grid;
  context.block_dim = launch.blockDim;
  std::vector<unsigned> blocks;
  put_in_order(blocks, grid.x * grid.y * grid.z);
  for (const unsigned i : blocks) {
    const uint3 position{i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    if (!run_block(position, grid, launch.blockDim)) break;
  }
  device.body = nullptr;
}

}  // namespace cuda_emu
