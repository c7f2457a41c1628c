// What kernel code, compiled with the checks, calls in the executor, compiled without them.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace cuda_emu {

// Where in the kernel's source an operation stands: a default argument, so that it is the caller's line.
struct Site {
  const char* file;
  int line;
};
#define CUDA_EMU_SITE ::cuda_emu::Site cuda_emu_site = {__builtin_FILE(), __builtin_LINE()}

// The running CUDA thread; rewritten at every switch between threads.
struct Context {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
  unsigned lane, warp;
};
extern Context context;

// Reports an error of the running kernel and ends its grid. Context becomes unusable, as on a GPU.
[[noreturn]] void fail(int cuda_error, const char* format, ...) __attribute__((format(printf, 2, 3)));

// ---- barriers ----
enum Combine { kNone, kCount, kAnd, kOr };
// id 0 to 15; threads < 0: all that are still alive.
int barrier(int id, int threads, int predicate, Combine combine, Site site);
void syncwarp(unsigned mask, Site site);
void fence(bool beyond_block);

// ---- shared memory ----
// One variable a key and block; contents start as NaN and count as uninitialised.
void* shared_static(const void* key, size_t bytes, size_t align, Site site);
void* shared_dynamic(size_t align, Site site);

// cp.async: target in shared memory; source_bytes < bytes fills the rest with zeros.
void cp_async_push(void* target, const void* source, int bytes, int source_bytes, Site site);
void cp_async_commit();
void cp_async_wait(int pending_groups, Site site);

// ---- warp collectives ----
enum ShuffleKind { kShuffleIndex, kShuffleUp, kShuffleDown, kShuffleXor };
void shuffle(ShuffleKind kind, unsigned mask, const void* in, void* out, unsigned bytes, int operand, int width, Site);
unsigned ballot(unsigned mask, int predicate, Site site);
unsigned match_any(unsigned mask, uint64_t value, Site site);
enum ReduceKind { kReduceAdd, kReduceMin, kReduceMax, kReduceAnd, kReduceOr, kReduceXor };
unsigned reduce(unsigned mask, unsigned value, ReduceKind kind, bool is_signed, Site site);

// d = a b + c on 16 x 16, 16 x 8 and 16 x 8 fragments in PTX layout. Element (i, j) starts from c and adds a[i][k] *
// b[k][j] for k = 0 ... 15 in that order, each product and each sum rounded to float32.
void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, const float* c, Site site);
void mma_m16n8k16_f16(float* d, const uint32_t* a, const uint32_t* b, const float* c, Site site);
// row: the 16 bytes at this lane's address, which the caller has loaded (in checked code).
void ldmatrix(uint32_t* out, const uint32_t row[4], int matrices, bool transposed, Site site);

// Checks an atomic access and orders it after the ones before it.
void atomic_begin(const void* address, size_t bytes, Site site);

}  // namespace cuda_emu
