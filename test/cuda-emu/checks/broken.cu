// Kernels with one deliberate mistake each, and correct ones beside them: the executor must report the first and not
// the second. One line of JSON a kernel: its error, the kinds of reports, the last report.
#include <cmath>
#include <cstdio>

#include "checks.h"

namespace {

constexpr int kThreads = 128;
using Kernel = void (*)(float*, const float*, int);

// ---- correct ----
__global__ void reversed(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x, start = blockIdx.x * kThreads;
  tile[t] = in[start + t];
  __syncthreads();
  out[start + t] = tile[kThreads - 1 - t];
}

// The last block to finish sums what all have written: fence, atomic, barrier.
__device__ unsigned finished_blocks;
template <bool kFenced>
__global__ void last_block(float* out, const float* in, int) {
  CUDA_EMU_SHARED(bool, last, [1]);
  const int t = threadIdx.x;
  out[1 + blockIdx.x * kThreads + t] = in[blockIdx.x * kThreads + t];
  if constexpr (kFenced) __threadfence();
  __syncthreads();
  if (t == 0) last[0] = atomicAdd(&finished_blocks, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last[0] || t) return;
  if constexpr (kFenced) __threadfence();
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x * kThreads; ++i) sum += out[1 + i];
  out[0] = sum;
  finished_blocks = 0;
}

// Barriers of half a block order its own threads.
template <int kBarrierThreads>
__global__ void half_blocks(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x, half = t / 64;
  tile[t] = in[t];
  cuda_emu::barrier(1 + half, 64, 0, cuda_emu::kNone, {__FILE__, __LINE__});
  out[t] = tile[kBarrierThreads == 64 ? t ^ 63 : t ^ 127];
}

struct Parameters {
  float* out;
  const float* in;
  int first;
};
__constant__ float doubled = 2;
__global__ void struct_parameters(Parameters p) {
  p.out[threadIdx.x] = doubled * p.in[p.first + threadIdx.x];
}

template <bool kWaits>
__global__ void copies_ahead(float* out, const float* in, int) {  // two stages of cp.async, the last short of 8 bytes
  CUDA_EMU_SHARED_ALIGNED(16, float, stage, [2][4 * 32]);
  const int t = threadIdx.x;
  const cuda_emu::Site site{__FILE__, __LINE__};
  cuda_emu::cp_async_push(stage[0] + 4 * t, in + 4 * t, 16, 16, site);
  cuda_emu::cp_async_commit();
  cuda_emu::cp_async_push(stage[1] + 4 * t, in + 4 * t, 16, 8, site);
  cuda_emu::cp_async_commit();
  cuda_emu::cp_async_wait(1, site);
  __syncwarp();
  float value = stage[0][4 * (t ^ 1) + 3];
  if (kWaits) cuda_emu::cp_async_wait(0, site);
  __syncwarp();
  out[t] = value + stage[1][4 * (t ^ 1) + 2];
}

// ---- races ----
__global__ void missing_sync(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x, start = blockIdx.x * kThreads;
  tile[t] = in[start + t];
  out[start + t] = tile[kThreads - 1 - t];
}
__global__ void missing_sync_before_reuse(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  float sum = 0;
  for (int k = 0; k < 4; ++k) {
    tile[t] = in[t] + k;
    __syncthreads();
    sum += tile[(t + 40) & 127];
  }
  out[t] = sum;
}
__global__ void missing_syncwarp(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] = in[t];
  out[t] = tile[t ^ 1];
}
__global__ void shuffle_is_no_fence(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [32]);
  const int t = threadIdx.x;
  tile[t] = in[t];
  const float neighbour = __shfl_xor_sync(~0u, in[t], 1);
  out[t] = tile[t ^ 1] + 0 * neighbour;
}
__global__ void race_between_blocks(float* out, const float* in, int) {
  if (threadIdx.x == 0) out[0] = out[0] + in[blockIdx.x];
}
__global__ void overlapping_writes(float* out, const float* in, int n) {
  const int t = blockIdx.x * kThreads + threadIdx.x;
  const float value = in[t];
  out[t] = value;
  if (t + 1 < n) out[t + 1] = value;
}
__global__ void copy_without_wait(float* out, const float* in, int) {
  CUDA_EMU_SHARED_ALIGNED(16, float, tile, [kThreads]);
  const int t = threadIdx.x;
  if (t < 32) {
    cuda_emu::cp_async_push(tile + 4 * t, in + 4 * t, 16, 16, {__FILE__, __LINE__});
    cuda_emu::cp_async_commit();
  }
  __syncthreads();
  out[t] = tile[t];
}
__global__ void copy_without_sync(float* out, const float* in, int) {
  CUDA_EMU_SHARED_ALIGNED(16, float, tile, [kThreads]);
  const int t = threadIdx.x;
  if (t < 32) {
    cuda_emu::cp_async_push(tile + 4 * t, in + 4 * t, 16, 16, {__FILE__, __LINE__});
    cuda_emu::cp_async_commit();
    cuda_emu::cp_async_wait(0, {__FILE__, __LINE__});
  }
  out[t] = tile[t];
}

// ---- bounds ----
__global__ void shared_bounds(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t + 1] = in[t];
  __syncthreads();
  out[t] = tile[t];
}
__global__ void dynamic_shared_bounds(float* out, const float* in, int) {
  CUDA_EMU_DYN_SHARED(float, tile);
  const int t = threadIdx.x;
  tile[t] = in[t];
  __syncthreads();
  out[t] = tile[t];
}
__global__ void static_and_dynamic_shared(float* out, const float* in, int) {
  CUDA_EMU_DYN_SHARED(float, first);
  CUDA_EMU_SHARED(float, second, [kThreads]);
  const int t = threadIdx.x;
  first[t] = second[t] = in[t];
  __syncthreads();
  out[t] = first[t] + second[t];
}
__global__ void read_beyond(float* out, const float* in, int) {
  const int t = blockIdx.x * kThreads + threadIdx.x;
  out[t] = in[t + 1];
}
__global__ void write_beyond(float* out, const float*, int n) {
  const int t = blockIdx.x * kThreads + threadIdx.x;
  if (t <= n) out[t] = 1;
}
__global__ void host_pointer_in_memory(float* out, const float* const* in, int) {
  out[threadIdx.x] = **in;
}
__global__ void other_threads_local(float* out, const float* in, int) {
  CUDA_EMU_SHARED(const float*, pointers, [kThreads]);
  const int t = threadIdx.x;
  float own[4] = {in[t], in[t], in[t], in[t]};
  pointers[t] = own + (t & 3);
  __syncthreads();
  out[t] = *pointers[t ^ 1];
}

// ---- divergence ----
__global__ void divergent_shuffle(float* out, const float* in, int) {
  const int t = threadIdx.x;
  float value = in[t];
  if (t & 1) value += __shfl_xor_sync(~0u, value, 1);
  out[t] = value;
}
__global__ void shuffles_in_both_arms(float* out, const float* in, int) {
  const int t = threadIdx.x;
  float value = in[t];
  if (t & 1)
    value += __shfl_xor_sync(~0u, value, 1);
  else
    value -= __shfl_xor_sync(~0u, value, 2);
  out[t] = value;
}
__global__ void caller_not_in_mask(float* out, const float* in, int) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, in[threadIdx.x], 0);
}
__global__ void source_has_exited(float* out, const float* in, int) {
  const int t = threadIdx.x;
  if ((t & 31) > 20) return;
  out[t] = __shfl_down_sync(~0u, in[t], 4);
}
__global__ void barriers_in_both_arms(float* out, const float* in, int) {
  const int t = threadIdx.x;
  if (t < 64) {
    out[t] = in[t];
    __syncthreads();
  } else {
    out[t] = 2 * in[t];
    __syncthreads();
  }
}
__global__ void barrier_and_shuffle(float* out, const float* in, int) {
  const int t = threadIdx.x;
  if (t & 1) __syncthreads();
  out[t] = __shfl_xor_sync(~0u, in[t], 1);
}

// ---- uninitialised, misaligned, other ----
__global__ void uninitialised_shared(float* out, const float* in, int) {
  CUDA_EMU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  if (t < 100) tile[t] = in[t];
  __syncthreads();
  out[t] = tile[t];
}
__global__ void uninitialised_global(float* out, const float* in, int) {
  out[threadIdx.x] += in[threadIdx.x];
}
__global__ void misaligned(float* out, const float* in, int) {
  const int t = threadIdx.x;
  if (t < 16) *reinterpret_cast<float4*>(out + 4 * t) = *reinterpret_cast<const float4*>(in + 4 * t + 1);
}
__global__ void trap(float* out, const float*, int) {
  if (threadIdx.x == 77) __trap();
  out[threadIdx.x] = 1;
}

// ---- sums that tensor cores cut off: each gives 1 where the result is as exact as float32 steps to the nearest make
// it

__device__ float between(float low, uint32_t step) {  // low .. 2 low at random, a bfloat16
  step ^= step >> 16, step *= 0x7feb352d, step ^= step >> 15, step *= 0x846ca68b, step ^= step >> 16;
  return low * (1 + static_cast<float>(step >> 25) / 128);
}
// d += sign size sum_k a_k b_k, the same in every element; a and b by `step`, the odd products a sixteenth of the even.
__device__ void add_products(float (&d)[4], float size, uint32_t step, double& exact) {
  const auto left = [&](int k) { return between(size, 64 * step + k); };
  const auto right = [&](int k) { return between(k % 2 ? 1.0f / 16 : 1.0f, 64 * step + 32 + k); };
  const auto pair = [](float low, float high) {
    return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);
  };
  const int q = threadIdx.x % 4;
  uint32_t a[4], b[2];
  for (int r = 0; r < 4; ++r) a[r] = pair(left(2 * q + 8 * (r / 2)), left(2 * q + 8 * (r / 2) + 1));
  for (int r = 0; r < 2; ++r) b[r] = pair(right(2 * q + 8 * r), right(2 * q + 8 * r + 1));
  cuda_emu::mma_m16n8k16_bf16(d, a, b, d, {__FILE__, __LINE__});
  for (int k = 0; k < 16; ++k) exact += double{left(k)} * right(k);
}
// A random walk of roundings, 16 to an instruction.
__device__ void judge(float* out, const float (&d)[4], double exact, int instructions) {
  const double bound = sqrt(16.0 * instructions) * exact / (1 << 24);
  for (int r = 0; r < 4; ++r) out[threadIdx.x * 4 + r] = fabs(d[r] - exact) <= bound ? 1.0f : 0.0f;
}
__global__ void one_sum_of_all_columns(float* out, const float*, int) {
  float d[4] = {};
  double exact = 0;
  for (int i = 0; i < 512; ++i) add_products(d, 1, i, exact);
  judge(out, d, exact, 512);
}
__global__ void low_terms_last(float* out, const float*, int) {
  float d[4] = {};
  double exact = 0;
  for (const float term : {1.0f, 1.0f / 32})
    for (int i = 0; i < 256; ++i) add_products(d, term, i, exact);
  judge(out, d, exact, 512);
}
__global__ void window_in_the_accumulator(float* out, const float*, int) {  // what comes in, less what leaves
  float d[4] = {};
  double exact = 0;
  for (int i = 0; i < 512; ++i) {
    add_products(d, 1, i, exact);
    if (i >= 32) add_products(d, -1, i - 32, exact);
  }
  judge(out, d, exact, 1024);
}

const char* const kKinds[] = {"race", "bounds", "uninitialised", "divergence", "misaligned", "other"};

void finish(const char* name, int error, bool right) {
  std::string kinds;
  for (int kind = 0; kind < CUDA_EMU_KINDS; ++kind)
    if (cuda_emu_count(kind)) kinds += (kinds.empty() ? "" : ", ") + quoted(kKinds[kind]);
  printf("{\"name\": %s, \"error\": %d, \"kinds\": [%s], \"right\": %s, \"report\": %s}\n", quoted(name).c_str(), error,
         kinds.c_str(), right ? "true" : "false", quoted(cuda_emu_last_report()).c_str());
  cuda_emu_reset();
}

// right(out, i): the expected element i, or nothing to compare.
template <class Right>
void run(const char* name, Kernel kernel, int grid, int block, size_t shared_bytes, size_t outputs, size_t inputs,
         Right&& right, bool initialised = true) {
  std::vector<float> numbers(inputs);
  for (size_t i = 0; i < inputs; ++i) numbers[i] = static_cast<float>(i + 1);
  const Buffer<float> in(numbers), out(outputs);
  if (initialised) cudaMemset(out.data, 0, outputs * sizeof(float));
  int error = launch(kernel, grid, block, shared_bytes, nullptr, out.data, static_cast<const float*>(in.data),
                     static_cast<int>(outputs));
  if (!error) error = cudaDeviceSynchronize();
  bool all_right = !error;
  const std::vector<float> values = error ? std::vector<float>() : out.values();
  for (size_t i = 0; i < values.size(); ++i) all_right &= values[i] == right(i);
  finish(name, error, all_right);
}
void run(const char* name, Kernel kernel, int grid = 1, int block = kThreads, size_t outputs = kThreads) {
  run(name, kernel, grid, block, 0, outputs, outputs, [](size_t) { return NAN; });
}

}  // namespace

void run_broken_kernels() {
  const auto number = [](size_t i) { return static_cast<float>(i + 1); };
  run("reversed", reversed, 2, kThreads, 0, 256, 256,
      [&](size_t i) { return number(i / kThreads * kThreads + kThreads - 1 - i % kThreads); });
  run("last_block", last_block<true>, 8, kThreads, 0, 1025, 1024,
      [&](size_t i) { return i ? number(i - 1) : 1024.0f * 1025 / 2; });
  run("half_blocks", half_blocks<64>, 1, kThreads, 0, 128, 128, [&](size_t i) { return number(i ^ 63); });
  run("copies_ahead", copies_ahead<true>, 1, 32, 0, 32, 128, [&](size_t i) { return number(4 * (i ^ 1) + 3); });
  {
    const Buffer<float> in(std::vector<float>{0, 1, 2, 3, 4}), out(4);
    int error = launch(struct_parameters, 1, 4, 0, nullptr, Parameters{out.data, in.data, 1});
    if (!error) error = cudaDeviceSynchronize();
    finish("struct_parameters", error, out.values() == std::vector<float>{2, 4, 6, 8});
  }

  for (const int truncate : {0, 1}) {
    cuda_emu_truncate_mma(truncate);
    const std::string mode = truncate ? ", truncate" : ", nearest";
    const auto one = [](size_t) { return 1.0f; };
    run(("one_sum_of_all_columns" + mode).c_str(), one_sum_of_all_columns, 1, 32, 0, 128, 1, one);
    run(("low_terms_last" + mode).c_str(), low_terms_last, 1, 32, 0, 128, 1, one);
    run(("window_in_the_accumulator" + mode).c_str(), window_in_the_accumulator, 1, 32, 0, 128, 1, one);
  }

  run("missing_sync", missing_sync, 2, kThreads, 256);
  run("missing_sync_before_reuse", missing_sync_before_reuse);
  run("missing_syncwarp", missing_syncwarp);
  run("shuffle_is_no_fence", shuffle_is_no_fence, 1, 32);
  run("race_between_blocks", race_between_blocks, 4, 32);
  run("overlapping_writes", overlapping_writes, 2, kThreads, 256);
  run("copy_without_wait", copy_without_wait);
  run("copy_without_sync", copy_without_sync);
  run("copy_wait_one_group_short", copies_ahead<false>, 1, 32);
  run("wrong_half_block", half_blocks<128>);
  run("last_block_without_fence", last_block<false>, 8, kThreads, 1025);

  run("shared_bounds", shared_bounds);
  run("dynamic_shared_bounds", dynamic_shared_bounds, 1, kThreads, 127 * sizeof(float), 128, 128,
      [](size_t) { return NAN; });
  run("dynamic_shared_not_given", dynamic_shared_bounds);
  // 48 KB together, without having asked for more.
  run("static_and_dynamic_shared", static_and_dynamic_shared, 1, kThreads, 48 * 1024 - 256, kThreads, kThreads,
      [](size_t) { return NAN; });
  run("read_beyond", read_beyond, 2, kThreads, 256);
  run("write_beyond", write_beyond, 2, kThreads, 250);
  {
    const float host = 3;
    const Buffer<const float*> in(std::vector<const float*>{&host});
    const Buffer<float> out(32);
    int error =
        launch(host_pointer_in_memory, 1, 32, 0, nullptr, out.data, static_cast<const float* const*>(in.data), 1);
    if (!error) error = cudaDeviceSynchronize();
    finish("host_pointer_in_memory", error, false);
  }
  {
    const float host[kThreads] = {};
    const Buffer<float> out(kThreads);
    int error = launch(uninitialised_global, 1, kThreads, 0, nullptr, out.data, host, 1);
    if (!error) error = cudaDeviceSynchronize();
    finish("host_pointer_as_parameter", error, false);
    error = launch(struct_parameters, 1, 4, 0, nullptr, Parameters{out.data, host, 1});
    if (!error) error = cudaDeviceSynchronize();
    finish("host_pointer_in_struct", error, false);
  }
  {
    Buffer<float> in(kThreads), out(kThreads);
    cudaMemset(in.data, 0, kThreads * sizeof(float));
    float* freed = in.data;
    cudaFree(in.data);
    in.data = nullptr;
    int error = launch(struct_parameters, 1, 4, 0, nullptr, Parameters{out.data, freed, 1});
    if (!error) error = cudaDeviceSynchronize();
    finish("freed_memory", error, false);
  }
  run("other_threads_local", other_threads_local);

  run("divergent_shuffle", divergent_shuffle);
  run("shuffles_in_both_arms", shuffles_in_both_arms);
  run("caller_not_in_mask", caller_not_in_mask);
  run("source_has_exited", source_has_exited);
  run("barriers_in_both_arms", barriers_in_both_arms);
  run("barrier_and_shuffle", barrier_and_shuffle);

  run("uninitialised_shared", uninitialised_shared);
  run(
      "uninitialised_global", uninitialised_global, 1, kThreads, 0, 128, 128, [](size_t) { return NAN; }, false);
  run("misaligned", misaligned);
  run("trap", trap);
  run("empty_grid", trap, 0);
}
