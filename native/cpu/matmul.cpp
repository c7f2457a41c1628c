// Matrix products on CPU: fixed tiles of c, one single-threaded gemm each, so the bits do not depend on the thread
// count.
#include "cpu/gemm_kernel.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/workspace.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kLargestTile = 256;       // packing costs a few percent at this size
constexpr int64_t kSmallestTile = 32;       // below it gemm loses more than another task gains
constexpr int64_t kWantedTasks = 16;        // enough to balance a few threads
constexpr int64_t kSmallestWork = 1 << 18;  // multiply-adds per task: about 10 us
static_assert(kLargestTile * kLargestTile <= kKernelWorkspace);

struct Cut {
  int64_t rows, columns, row_tiles, column_tiles;
};

// Tiles of nearly equal extents that are multiples of 16.
BIRKHOFF_INLINE int64_t even_extent(int64_t size, int64_t limit) {
  const int64_t each = ceil_div(size, ceil_div(size, limit));
  return min64(limit, ceil_div(each, 16) * 16);
}

BIRKHOFF_INLINE Cut cut_output(const MatmulArgs& args) {
  int64_t row_limit = kLargestTile, column_limit = kLargestTile;
  for (;;) {
    const int64_t rows = even_extent(args.m, row_limit), columns = even_extent(args.n, column_limit);
    const Cut cut{rows, columns, ceil_div(args.m, rows), ceil_div(args.n, columns)};
    const bool enough = args.batch * cut.row_tiles * cut.column_tiles >= kWantedTasks;
    const bool small = rows * columns * args.k <= kSmallestWork;
    if (enough || small || (row_limit <= kSmallestTile && column_limit <= kSmallestTile)) return cut;
    if (column_limit <= kSmallestTile || (row_limit > kSmallestTile && rows >= columns))
      row_limit /= 2;
    else
      column_limit /= 2;
  }
}

// The operand as float32: itself, or a copy in scratch.
BIRKHOFF_INLINE const float* widened(const View& view, float* scratch) {
  if (view.dtype == DType::kFloat32) return view.f32();
  constexpr int64_t kPerTask = 1 << 15;
  parallel(ceil_div(view.size, kPerTask), [&](int64_t task) {
    const int64_t start = task * kPerTask;
    convert(view.bf16() + start, scratch + start, min64(kPerTask, view.size - start));
  });
  return scratch;
}

}  // namespace

void matmul(const MatmulArgs& args) {
  const int64_t m = args.m, n = args.n, k = args.k;
  if (args.c.size == 0) return;
  float* const scratch = static_cast<float*>(args.scratch);
  const float* a = widened(args.a, scratch);
  const float* b = widened(args.b, scratch + (args.a.dtype == DType::kBFloat16 ? args.a.size : 0));
  const Cut cut = cut_output(args);
  const int64_t tiles = cut.row_tiles * cut.column_tiles;
  const bool rounds = args.c.dtype == DType::kBFloat16;
  parallel(args.batch * tiles, [&](int64_t task) {
    const int64_t batch = task / tiles, tile = task % tiles;
    const int64_t i = tile / cut.column_tiles * cut.rows, j = tile % cut.column_tiles * cut.columns;
    const int64_t rows = min64(cut.rows, m - i), columns = min64(cut.columns, n - j);
    const int64_t at = batch * m * n + i * n + j;
    float* out = rounds ? kernel_workspace() : args.c.f32() + at;
    const int64_t out_step = rounds ? columns : n;
    const int64_t lda = args.transpose_a ? m : k, ldb = args.transpose_b ? k : n;
    gemm({args.transpose_a != 0, args.transpose_b != 0, rows, columns, k, 1.0f,
          a + batch * m * k + (args.transpose_a ? i : i * k), lda,
          b + (args.shared_b ? 0 : batch * k * n) + (args.transpose_b ? j * k : j), ldb, 0.0f, out, out_step});
    if (args.bias)
      with_float_type(args.bias.dtype, [&](auto* type) {
        const auto* bias = static_cast<decltype(type)>(args.bias.data) + j;
        for (int64_t r = 0; r < rows; ++r) add_to(out + r * out_step, bias, columns);
      });
    if (rounds)
      for (int64_t r = 0; r < rows; ++r) convert(out + r * out_step, args.c.bf16() + at + r * n, columns);
  });
}

void column_sum(const ColumnSumArgs& args) {
  const int64_t parts = args.parts(), columns = args.columns;
  if (columns == 0) return;
  float* const partial = static_cast<float*>(args.scratch);
  with_float_type(args.x.dtype, [&](auto* type) {
    const auto* x = static_cast<decltype(type)>(args.x.data);
    parallel(parts, [&](int64_t part) {
      float* sum = partial + part * columns;
      for (int64_t j = 0; j < columns; ++j) sum[j] = 0.0f;
      for (int64_t i = part * args.rows / parts; i < (part + 1) * args.rows / parts; ++i)
        add_to(sum, x + i * columns, columns);
    });
  });
  for (int64_t part = 1; part < parts; ++part) add_to(partial, partial + part * columns, columns);
  with_float_type(args.out.dtype,
                  [&](auto* type) { convert(partial, static_cast<decltype(type)>(args.out.data), columns); });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
