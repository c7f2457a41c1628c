// Warp collectives: shuffles, votes and reductions wait until every lane of the mask has come to the same one.
#include "warp.h"

#include <algorithm>
#include <cstring>

#include "barrier.h"
#include "report.h"
#include "scheduler.h"

namespace cuda_emu {
namespace {

template <class F>
void each_lane(unsigned lanes, F&& visit) {
  for (; lanes; lanes &= lanes - 1) visit(static_cast<unsigned>(__builtin_ctz(lanes)));
}

void check_same(const Lane& first, const Lane& lane) {
  if (lane.operation != first.operation)
    fail_kind(kDivergence, cudaErrorLaunchFailure,
              "warp-divergent operation: lane %u is in %s (%s:%d), lane %u in %s (%s:%d), mask 0x%08x", first.lane,
              first.operation->name, first.site.file, first.site.line, lane.lane, lane.operation->name, lane.site.file,
              lane.site.line, lane.mask);
  if (config.strict && lane.site.line != first.site.line)
    fail_kind(kDivergence, cudaErrorLaunchFailure, "warp-divergent %s: lane %u at %s:%d, lane %u at %s:%d, mask 0x%08x",
              lane.operation->name, first.lane, first.site.file, first.site.line, lane.lane, lane.site.file,
              lane.site.line, lane.mask);
}

__attribute__((noinline)) bool complete(unsigned warp, unsigned mask, unsigned participants) {
  Lane* lanes = &device.lanes[warp * kWarp];
  const Lane& first = lanes[__builtin_ctz(participants)];
  void* payload[kWarp];
  for (unsigned left = participants; left; left &= left - 1) {
    const unsigned l = static_cast<unsigned>(__builtin_ctz(left));
    const Lane& lane = lanes[l];
    if (lane.mask != mask) return false;
    if (lane.operation != first.operation || lane.site.line != first.site.line) check_same(first, lane);
    payload[l] = lane.payload;
  }
  first.operation->run(payload, participants);
  device.warp_waiting[warp] &= ~participants;
  device.warp_ready[warp] |= participants;
  unsigned threads[kWarp], count = 0;
  each_lane(participants, [&](unsigned l) {
    lanes[l].state = kReady;
    lanes[l].participants = participants;
    threads[count++] = lanes[l].thread;
  });
  if (first.operation->orders) join(threads, count);
  return true;
}

// False, and cheaply, until the last lane of the mask has come.
inline bool try_complete(unsigned warp, unsigned mask) {
  const unsigned participants = mask & device.warp_alive[warp];
  if (!participants || (participants & ~device.warp_waiting[warp])) return false;
  return complete(warp, mask, participants);
}

struct Shuffle {
  const void* in;
  void* out;
  unsigned bytes;
  int operand, width;
  ShuffleKind kind;
  Site site;
};

int shuffle_source(const Shuffle& s, int lane) {
  const int segment = lane & ~(s.width - 1), last = segment + s.width - 1;
  switch (s.kind) {
    case kShuffleIndex:
      return segment | (s.operand & (s.width - 1));
    case kShuffleUp:
      return lane - s.operand >= segment ? lane - s.operand : lane;
    case kShuffleDown:
      return lane + s.operand <= last ? lane + s.operand : lane;
    case kShuffleXor:
      return (lane ^ s.operand) <= last ? lane ^ s.operand : lane;
  }
  return lane;
}

void run_shuffle(void** payload, unsigned participants) {
  each_lane(participants, [&](unsigned lane) {
    const Shuffle& s = *static_cast<Shuffle*>(payload[lane]);
    const int source = shuffle_source(s, static_cast<int>(lane));
    if (source < 0 || source >= static_cast<int>(kWarp) || !(participants >> source & 1))
      fail_kind(kDivergence, cudaErrorLaunchFailure,
                "shuffle at %s:%d: lane %u reads lane %d, which does not take part (lanes 0x%08x do)", s.site.file,
                s.site.line, lane, source, participants);
    const void* in = static_cast<Shuffle*>(payload[source])->in;
    if (s.bytes == 4)
      memcpy(s.out, in, 4);  // by far the most: a size known here spares a call
    else
      memcpy(s.out, in, s.bytes);
  });
}

struct Vote {
  uint64_t value;
  unsigned result;
  ReduceKind kind;
  bool is_signed;
};
Vote& vote(void** payload, unsigned lane) {
  return *static_cast<Vote*>(payload[lane]);
}

void run_ballot(void** payload, unsigned participants) {
  unsigned result = 0;
  each_lane(participants, [&](unsigned l) { result |= unsigned{vote(payload, l).value != 0} << l; });
  each_lane(participants, [&](unsigned l) { vote(payload, l).result = result; });
}

void run_match(void** payload, unsigned participants) {
  each_lane(participants, [&](unsigned l) {
    each_lane(participants, [&](unsigned other) {
      vote(payload, l).result |= unsigned{vote(payload, other).value == vote(payload, l).value} << other;
    });
  });
}

unsigned reduced(ReduceKind kind, bool is_signed, unsigned a, unsigned b) {
  const bool less = is_signed ? static_cast<int>(a) < static_cast<int>(b) : a < b;
  switch (kind) {
    case kReduceAdd:
      return a + b;
    case kReduceMin:
      return less ? a : b;
    case kReduceMax:
      return less ? b : a;
    case kReduceAnd:
      return a & b;
    case kReduceOr:
      return a | b;
    case kReduceXor:
      return a ^ b;
  }
  return a;
}

void run_reduce(void** payload, unsigned participants) {
  const Vote& first = vote(payload, static_cast<unsigned>(__builtin_ctz(participants)));
  unsigned result = static_cast<unsigned>(first.value);
  each_lane(participants & (participants - 1), [&](unsigned l) {
    result = reduced(first.kind, first.is_signed, result, static_cast<unsigned>(vote(payload, l).value));
  });
  each_lane(participants, [&](unsigned l) { vote(payload, l).result = result; });
}

}  // namespace

void complete_collectives_after_exit(unsigned warp) {
  const unsigned waiting = device.warp_waiting[warp];
  each_lane(waiting, [&](unsigned l) {
    if (device.warp_waiting[warp] >> l & 1) try_complete(warp, device.lanes[warp * kWarp + l].mask);
  });
}

unsigned collective(const WarpOperation& operation, unsigned mask, void* payload, Site site) {
  Lane& lane = *current;
  if (!(mask >> lane.lane & 1))
    fail_kind(kDivergence, cudaErrorLaunchFailure, "%s at %s:%d: lane %u calls it but is not in mask 0x%08x",
              operation.name, site.file, site.line, lane.lane, mask);
  lane.operation = &operation;
  lane.mask = mask;
  lane.payload = payload;
  lane.site = site;
  set_waiting(lane, kInCollective);
  device.warp_waiting[lane.warp] |= 1u << lane.lane;
  if (!try_complete(lane.warp, mask)) wait_until_ready();
  return lane.participants;
}

void syncwarp(unsigned mask, Site site) {
  static constexpr WarpOperation operation{"__syncwarp", [](void**, unsigned) {}, true};
  collective(operation, mask, nullptr, site);
}

// A shuffle exchanges values and orders nothing else: memory needs a __syncwarp.
void shuffle(ShuffleKind kind, unsigned mask, const void* in, void* out, unsigned bytes, int operand, int width,
             Site site) {
  static constexpr WarpOperation operations[] = {{"__shfl_sync", run_shuffle, false},
                                                 {"__shfl_up_sync", run_shuffle, false},
                                                 {"__shfl_down_sync", run_shuffle, false},
                                                 {"__shfl_xor_sync", run_shuffle, false}};
  if (width < 1 || width > 32 || (width & (width - 1)))
    fail_kind(kDivergence, cudaErrorLaunchFailure, "shuffle width %d at %s:%d", width, site.file, site.line);
  Shuffle payload{in, out, bytes, operand, width, kind, site};
  collective(operations[kind], mask, &payload, site);
}

unsigned ballot(unsigned mask, int predicate, Site site) {
  static constexpr WarpOperation operation{"a warp vote", run_ballot, false};
  Vote payload{uint64_t{predicate != 0}, 0, kReduceAdd, false};
  collective(operation, mask, &payload, site);
  return payload.result;
}

unsigned match_any(unsigned mask, uint64_t value, Site site) {
  static constexpr WarpOperation operation{"__match_any_sync", run_match, false};
  Vote payload{value, 0, kReduceAdd, false};
  collective(operation, mask, &payload, site);
  return payload.result;
}

unsigned reduce(unsigned mask, unsigned value, ReduceKind kind, bool is_signed, Site site) {
  static constexpr WarpOperation operation{"__reduce_sync", run_reduce, false};
  Vote payload{value, 0, kind, is_signed};
  collective(operation, mask, &payload, site);
  return payload.result;
}

}  // namespace cuda_emu
