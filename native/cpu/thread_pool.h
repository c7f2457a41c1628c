// The thread pool shared by all CPU kernels. Header without inline code: it is included by files compiled per
// instruction set.
#pragma once
#include <cstdint>

namespace birkhoff::cpu {

// Calls body(context, i) for i in [0, count), each exactly once, on the pool and the calling thread; returns when all
// are done. How the work is cut (count) must not depend on the number of threads: that is what keeps results
// independent of it. Called from the dispatch thread only; not reentrant. The first exception, by index, is rethrown.
void parallel_for(int64_t count, void (*body)(void* context, int64_t index), void* context);

void set_threads(int count);  // from the dispatch thread
int threads();
void stop_threads();

}  // namespace birkhoff::cpu
