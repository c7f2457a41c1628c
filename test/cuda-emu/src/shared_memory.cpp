// Shared variables get their place at first use, apart from each other. Asynchronous copies happen at the wait and
// leave NaN until then, so that a missing wait shows.
#include "shared_memory.h"

#include <algorithm>
#include <cstring>

#include "checker.h"
#include "report.h"

namespace cuda_emu {
namespace {

constexpr size_t kGap = 32;

size_t shared_offset(const void* address) {
  return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(device.shared);
}

void land(Lane& lane, size_t count, uint32_t pc) {
  for (size_t i = 0; i < count; ++i) {
    const Copy& copy = lane.copies[i];
    check_access(reinterpret_cast<uintptr_t>(copy.target), copy.bytes, kWrite, pc);
    memcpy(copy.target, copy.source, copy.source_bytes);
    memset(static_cast<char*>(copy.target) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<ptrdiff_t>(count));
}

}  // namespace

void begin_block_shared() {
  device.shared_end[kDynamicOwner] = device.dynamic_bytes;
  memset(device.shared_owner, 0, (std::max(device.shared_used, device.dynamic_bytes) + 64) / 4 + 1);
  asan_poison(device.shared, kSharedCapacity);
  device.variables.clear();
  device.shared_used = device.dynamic_bytes;
  if (!device.dynamic_bytes) return;
  asan_unpoison(device.shared, device.dynamic_bytes);
  memset(device.shared, 0xff, device.dynamic_bytes);
  memset(device.shared_owner, kDynamicOwner, (device.dynamic_bytes + 3) / 4);
}

void* shared_static(const void* key, size_t bytes, size_t align, Site site) {
  const InExecutor section;
  for (const SharedVariable& variable : device.variables)
    if (variable.key == key) return device.shared + variable.offset;
  align = std::max<size_t>(align, 16);
  const size_t offset = (device.shared_used + kGap + align - 1) / align * align;
  size_t sum = bytes;
  for (const SharedVariable& variable : device.variables) sum += variable.bytes;
  if (sum > kStaticSharedLimit || sum + device.dynamic_bytes > device.shared_limit)
    fail_kind(kOther, cudaErrorInvalidValue,
              "%s:%d: static shared memory of %zu and dynamic of %zu bytes exceed the limit", site.file, site.line, sum,
              device.dynamic_bytes);
  if (offset + bytes + 64 > kSharedCapacity || device.variables.size() + 1 >= kDynamicOwner)
    fail_kind(kOther, cudaErrorLaunchFailure, "%s:%d: too many shared variables", site.file, site.line);
  device.variables.push_back({key, offset, bytes, site});
  device.shared_used = device.shared_end[device.variables.size()] = offset + bytes;
  asan_unpoison(device.shared + offset, bytes);
  memset(device.shared + offset, 0xff, bytes);
  memset(device.shared_owner + offset / 4, static_cast<int>(device.variables.size()), (bytes + 3) / 4);
  return device.shared + offset;
}

void* shared_dynamic(size_t, Site site) {
  const InExecutor section;
  if (!device.dynamic_bytes)
    fail_kind(kBounds, cudaErrorIllegalAddress, "%s:%d uses dynamic shared memory, but the launch gives none",
              site.file, site.line);
  return device.shared;
}

void cp_async_push(void* target, const void* source, int bytes, int source_bytes, Site site) {
  const InExecutor section;
  const size_t offset = shared_offset(target);
  if (offset >= kSharedCapacity)
    fail_kind(kBounds, cudaErrorIllegalAddress, "cp.async at %s:%d: the target is not shared memory", site.file,
              site.line);
  if (source_bytes < 0 || source_bytes > bytes)
    fail_kind(kOther, cudaErrorLaunchFailure, "cp.async at %s:%d: %d source bytes of %d", site.file, site.line,
              source_bytes, bytes);
  const uint32_t pc = short_pc(__builtin_return_address(0));
  check_access(reinterpret_cast<uintptr_t>(target), bytes, kWrite | kAligned, pc);
  if (source_bytes)
    check_access(reinterpret_cast<uintptr_t>(source), source_bytes, source_bytes == bytes ? kAligned : 0, pc);
  memset(target, 0xff, bytes);
  memset(device.shared_written + offset / 4, 0, bytes / 4);
  current->copies.push_back({target, source, bytes, source_bytes});
}

void cp_async_commit() {
  current->copy_groups.push_back(static_cast<unsigned>(current->copies.size()));
}

void cp_async_wait(int pending_groups, Site) {
  const InExecutor section;
  Lane& lane = *current;
  const size_t groups = lane.copy_groups.size(), pending = static_cast<size_t>(std::max(pending_groups, 0));
  if (groups <= pending) return;
  const unsigned count = lane.copy_groups[groups - pending - 1];
  land(lane, count, short_pc(__builtin_return_address(0)));
  lane.copy_groups.erase(lane.copy_groups.begin(), lane.copy_groups.end() - static_cast<ptrdiff_t>(pending));
  for (unsigned& end : lane.copy_groups) end -= count;
}

void land_all_copies(Lane& lane) {
  if (!lane.copies.empty()) land(lane, lane.copies.size(), 0);
  lane.copy_groups.clear();
}

}  // namespace cuda_emu
