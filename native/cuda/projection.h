// The projection q = v phi^T and s = sum v^2 of a tile of tokens on tensor cores, for mhcPre (streams read from memory)
// and the seam (streams merged on the way, while they are written).
//
// A warp takes 16 tokens. With g = lane / 4 and p = lane % 4, a lane holds columns 8p .. 8p + 7 of a chunk of 32
// columns for the tokens g and g + 8: 16 bytes per load, all 32-byte sectors used, and just the registers that mma
// wants for its left operand, if the columns of the product are counted in the order in which the lanes hold them. phi
// is packed in that order, so nothing is shuffled or staged. A block's eight warps share phi through shared memory, one
// stage of it ahead of the arithmetic.
//
// The columns are split into ordered ranges, a function of C alone: the same token gives the same bits in any batch.
// The consumer adds the ranges up.
#pragma once
#include "cuda/bf16_terms.h"
#include "cuda/mhc_merge.h"
#include "cuda/packed.h"
#include "cuda/ptx.h"
#include "ops/mhc_pre.h"

namespace birkhoff::cuda {

constexpr int kChunkColumns = 32;
constexpr int kWarpTokens = 16;
constexpr int kProjectionWarps = 8;
constexpr int kProjectionTokens = kWarpTokens * kProjectionWarps;

// Rows of phi as tiles of eight, the width of mma's result.
template <int n>
inline constexpr int kRowTiles = (n * n + 2 * n + 7) / 8;
// Streams of a chunk whose slices of phi are in shared memory at once.
template <int n>
inline constexpr int kStageStreams = n < 8 ? n : 2;

// Where a projection leaves its sums: q [splits, T, 8 kRowTiles], then squares [splits, T].
struct ProjectionPartials {
  float* q;
  float* squares;
};

// phi [rows, n, C] to bfloat16 terms in the order of mma's right operand:
//   [chunk][stream][k step of 2][term][row tile][lane] -> pairs of columns (8p + 4 step, + 1) and (+ 2, + 3) of row g
template <int n>
__global__ void __launch_bounds__(256)
    pack_kernel(const float* phi, int rows, int64_t C, int64_t items, uint2* packed) {
  const int64_t item = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (item >= items) return;
  const int lane = static_cast<int>(item % 32), g = lane / 4, p = lane % 4;
  int64_t rest = item / 32;
  const int tile = static_cast<int>(rest % kRowTiles<n>);
  rest /= kRowTiles<n>;
  const int step = static_cast<int>(rest % 2);
  rest /= 2;
  const int stream = static_cast<int>(rest % n);
  const int64_t chunk = rest / n;
  const int row = tile * 8 + g;
  float v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t c = chunk * kChunkColumns + 8 * p + 4 * step + k;
    v[k] = row < rows && c < C ? phi[(int64_t{row} * n + stream) * C + c] : 0.0f;
  }
  uint32_t low[3], high[3];
  split_pair(v[0], v[1], low);
  split_pair(v[2], v[3], high);
#pragma unroll
  for (int term = 0; term < 3; ++term)
    packed[((((chunk * n + stream) * 2 + step) * 3 + term) * kRowTiles<n> + tile) * 32 + lane] =
        make_uint2(low[term], high[term]);
}

template <class T>
struct ProjectionArgs {
  const T* x;         // [T, n, C]
  const T* output;    // the seam: f [T, C]
  const float* post;  // the seam: [T, n], of the connection that ends
  const float* res;   // the seam: [T, n, n]
  T* y;               // the seam: [T, n, C]
  const uint2* packed;
  ProjectionPartials partials;
  int64_t tokens, channels, chunks, chunks_per_split;
  int terms;  // of phi: CoefficientOptions::projection_terms()
};

// A token's coefficients: in registers where they fit, else looked up in shared memory.
template <int n>
inline constexpr bool kMergeInRegisters = n < 8;
template <int n>
inline constexpr int kMergeStride = n* n + n + 1;  // odd: the eight tokens of a warp's lanes fall into different banks

// Blocks of an SM to find registers for; left to itself the compiler spills to get one more. 0: the merge takes what it
// needs.
template <int n, bool Merge, class T>
inline constexpr int kProjectionBlocks = Merge                       ? (n == 2 ? 2 : 0)
                                         : n < 4                     ? 3
                                         : n < 8 || kTermsOf<T> == 1 ? 2
                                                                     : 1;

template <int n, bool Vector, bool Merge, class T>
__global__ void __launch_bounds__(kProjectionWarps * 32, kProjectionBlocks<n, Merge, T>)
    projection_kernel(const ProjectionArgs<T> a) {
  constexpr int kTiles = kRowTiles<n>, kTerms = kTermsOf<T>, kStage = kStageStreams<n>;
  constexpr int kStageWords = kStage * 2 * 3 * kTiles * 32;
  BIRKHOFF_DYNAMIC_SHARED(uint2, shared);  // two stages of phi, then (n = 8) the merge's coefficients
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, p = lane % 4;
  const int64_t C = a.channels;
  const int64_t first = int64_t{blockIdx.x} * kProjectionTokens + warp * kWarpTokens;
  const int64_t token[2] = {first + g, first + g + 8};
  // Past the last token its row is read again: no load waits for a condition, and nobody takes those sums.
  const int64_t row[2] = {token[0] < a.tokens ? token[0] : a.tokens - 1, token[1] < a.tokens ? token[1] : a.tokens - 1};
  const int64_t begin = int64_t{blockIdx.y} * a.chunks_per_split;
  const int64_t end = begin + a.chunks_per_split < a.chunks ? begin + a.chunks_per_split : a.chunks;

  float merge[2][Merge && kMergeInRegisters<n> ? n * n + n : 1];
  float* const merge_shared = reinterpret_cast<float*>(shared + 2 * kStageWords);
  if constexpr (Merge) {
    if constexpr (kMergeInRegisters<n>) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const bool live = token[h] < a.tokens;
#pragma unroll
        for (int i = 0; i < n; ++i) merge[h][i] = live ? a.post[token[h] * n + i] : 0.0f;
#pragma unroll
        for (int k = 0; k < n * n; ++k) merge[h][n + k] = live ? a.res[token[h] * n * n + k] : 0.0f;
      }
    } else {
      for (int k = threadIdx.x; k < kProjectionTokens * (n * n + n); k += blockDim.x) {
        const int t = k / (n * n + n), index = k % (n * n + n);
        const int64_t at = int64_t{blockIdx.x} * kProjectionTokens + t;
        merge_shared[t * kMergeStride<n> + index] = at >= a.tokens ? 0.0f
                                                    : index < n    ? a.post[at * n + index]
                                                                   : a.res[at * n * n + index - n];
      }
    }
  }

  const auto fetch = [&](int64_t chunk, int stage, int buffer) {
    const uint2* source = a.packed + (chunk * n + stage * kStage) * (2 * 3 * kTiles * 32);
    for (int k = threadIdx.x * 2; k < kStageWords; k += blockDim.x * 2)
      ptx::copy_async16(shared + buffer * kStageWords + k, source + k);
    ptx::copy_async_commit();
  };

  // Where there are registers, loads are on their way for a chunk (n = 8 without merge: a stage) before they are used.
  constexpr bool kTight = Merge && n == 8;  // takes every register: what needs one more spills
  constexpr bool kAhead = Vector && kTerms == 1 && !kTight;
  Packed8<T> ahead[2][Merge ? n : kStage], output_ahead[2];
  const auto load_stream = [&](int64_t chunk, int stream, int slot) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
      ahead[h][slot] = load_packed<Vector>(a.x + (row[h] * n + stream) * C, chunk * kChunkColumns + 8 * p, C);
  };
  const auto load_chunk = [&](int64_t chunk) {
#pragma unroll
    for (int j = 0; j < (Merge ? n : kStage); ++j) load_stream(chunk, j, j);
    if constexpr (Merge)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        output_ahead[h] = load_packed<Vector>(a.output + row[h] * C, chunk * kChunkColumns + 8 * p, C);
  };

  float sum[kTiles][4] = {}, square[2] = {};
  int buffer = 0;
  if (begin < end) fetch(begin, 0, 0);
  if (kAhead && begin < end) load_chunk(begin);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t c = chunk * kChunkColumns + 8 * p;
    const bool inside = c < C;
    const int64_t next = chunk + 1 < end ? chunk + 1 : chunk;  // the last chunk again: from the cache
    float x[2][Merge ? n : 1][8], f[2][8];
    if constexpr (kTight) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int j = 0; j < n; ++j) load_inside<Vector>(a.x + (row[h] * n + j) * C, c, C, x[h][j]);
        load_inside<Vector>(a.output + row[h] * C, c, C, f[h]);
      }
    } else if constexpr (Merge) {
      if constexpr (!kAhead) load_chunk(chunk);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int j = 0; j < n; ++j) unpack8(or_zero(inside, ahead[h][j]), x[h][j]);
        unpack8(or_zero(inside, output_ahead[h]), f[h]);
      }
      if constexpr (kAhead) load_chunk(next);
    }
#pragma unroll 1  // four times the code for n = 8 would not fit in an SM's instruction cache
    for (int stage = 0; stage < n / kStage; ++stage) {
      if constexpr (!Merge && !kAhead)
#pragma unroll
        for (int s = 0; s < kStage; ++s) load_stream(chunk, stage * kStage + s, s);
      ptx::copy_async_wait<0>();
      __syncthreads();  // this stage has arrived, and no warp reads the other buffer any more
      const bool last_stage = stage + 1 == n / kStage;
      if (!last_stage || chunk + 1 < end) fetch(last_stage ? chunk + 1 : chunk, last_stage ? 0 : stage + 1, buffer ^ 1);
      const uint2* const phi = shared + buffer * kStageWords + lane;
#pragma unroll
      for (int s = 0; s < kStage; ++s) {
        const int i = stage * kStage + s;
        uint32_t left[kTerms][2][4];  // [term][k step]: mma's left operand
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float v[8];
          Packed8<T> packed;  // what is in memory: rounded once
          if constexpr (Merge) {
            if constexpr (kMergeInRegisters<n>) {
              merge_stream<n>(i, x[h], f[h], merge[h], merge[h] + n, v);
            } else {
              const float* coefficients = merge_shared + (warp * kWarpTokens + g + 8 * h) * kMergeStride<n>;
              merge_stream<n>(i, x[h], f[h], coefficients, coefficients + n, v);
            }
            pack8(v, packed);
            store_packed<Vector>(token[h] < a.tokens, a.y + (token[h] * n + i) * C, c, C, packed);
          } else {
            packed = or_zero(inside, ahead[h][s]);
          }
          unpack8(packed, v);
#pragma unroll
          for (int k = 0; k < 8; k += 2) {
            uint32_t terms[kTerms];
            if constexpr (kTerms == 1)
              terms[0] = packed.words[k / 2];
            else
              split_pair(v[k], v[k + 1], terms);
#pragma unroll
            for (int term = 0; term < kTerms; ++term) left[term][k / 4][h + k % 4] = terms[term];
          }
#pragma unroll
          for (int k = 0; k < 8; ++k) square[h] = vfma(v[k], v[k], square[h]);
        }
        if constexpr (!Merge && kAhead) load_stream(last_stage ? next : chunk, last_stage ? s : i + kStage, s);
#pragma unroll
        for (int step = 0; step < 2; ++step)
#pragma unroll
          for (int term = 0; term < 3; ++term) {
            if (kTight && term >= a.terms) break;
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
              const uint2 pair = phi[((((s * 2) + step) * 3 + term) * kTiles + tile) * 32];
              const uint32_t right[2] = {pair.x, pair.y};
#pragma unroll
              for (int own = 0; own < kTerms; ++own)
                if (own + term < 3) {
                  if (kTight || term < 2)
                    ptx::mma_bf16(sum[tile], left[own][step], right);
                  else
                    ptx::mma_bf16_if(a.terms == 3, sum[tile], left[own][step], right);
                }
            }
          }
      }
      buffer ^= 1;
    }
  }

  // The four lanes of a token each hold a quarter of its columns.
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    square[h] += __shfl_xor_sync(0xffffffffu, square[h], 1);
    square[h] += __shfl_xor_sync(0xffffffffu, square[h], 2);
    if (token[h] >= a.tokens) continue;
    const int64_t target = int64_t{blockIdx.y} * a.tokens + token[h];
    if (p == 0) a.partials.squares[target] = square[h];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      *reinterpret_cast<float2*>(a.partials.q + target * kTiles * 8 + tile * 8 + 2 * p) =
          make_float2(sum[tile][2 * h], sum[tile][2 * h + 1]);
  }
}

// Packs phi and runs the projection over all tokens. scratch: ProjectionShape::scratch_bytes, 16-byte aligned.
template <int n, bool Vector, bool Merge, class T>
ProjectionPartials project(ProjectionArgs<T> args, const float* phi, int rows, void* scratch) {
  const ProjectionShape shape{args.tokens, n, args.channels};
  uint2* packed = static_cast<uint2*>(scratch);
  args.packed = packed;
  args.partials.q = reinterpret_cast<float*>(static_cast<char*>(scratch) + shape.packed_bytes());
  args.partials.squares = args.partials.q + shape.splits() * args.tokens * shape.row_tiles() * 8;
  args.chunks = shape.chunks();
  args.chunks_per_split = shape.chunks_per_split();
  const int64_t items = args.chunks * n * 2 * kRowTiles<n> * 32;
  launch(pack_kernel<n>, static_cast<unsigned>(ceil_div(items, 256)), 256, 0, phi, rows, args.channels, items, packed);
  const size_t stages = 2 * kStageStreams<n> * 2 * 3 * kRowTiles<n> * 32 * sizeof(uint2);
  const size_t merge = Merge && !kMergeInRegisters<n> ? kProjectionTokens * kMergeStride<n> * sizeof(float) : 0;
  const dim3 grid(static_cast<unsigned>(ceil_div(args.tokens, kProjectionTokens)),
                  static_cast<unsigned>(shape.splits()));
  launch(projection_kernel<n, Vector, Merge, T>, grid, kProjectionWarps * 32, stages + merge, args);
  return args.partials;
}

}  // namespace birkhoff::cuda
