// Switches between fibers: a few pushed registers instead of a system call, since a kernel switches at every shuffle.
#include "fiber.h"

#include <pthread.h>

#include "report.h"
#include "scheduler.h"

extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) __attribute__((weak));
// Saves the callee-saved registers and the stack pointer, and takes up those of another fiber.
void cuda_emu_switch(void** save, void* load);
void cuda_emu_fiber_start();
}

#if defined(__x86_64__)
asm(R"(.text
.globl cuda_emu_switch
.hidden cuda_emu_switch
.type cuda_emu_switch,@function
cuda_emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size cuda_emu_switch,.-cuda_emu_switch
)");
#elif defined(__aarch64__)
asm(R"(.text
.globl cuda_emu_switch
.hidden cuda_emu_switch
.type cuda_emu_switch,%function
cuda_emu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]; ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#else
#error "cuda_emu_switch is not written for this processor"
#endif

namespace cuda_emu {

__thread Lane* current __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

struct Host {
  void* stack_pointer = nullptr;
  void* asan_stack = nullptr;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
} host;

void become(Lane& lane) {
  current = &lane;
  context.thread = lane.position;
  context.lane = lane.lane;
  context.warp = lane.warp;
}

}  // namespace

void* fresh_stack(char* top) {
  const uintptr_t aligned = reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15};
#if defined(__x86_64__)
  void** stack = reinterpret_cast<void**>(aligned);
  *--stack = nullptr;  // the stack pointer is 8 past a multiple of 16 where a function begins
  *--stack = reinterpret_cast<void*>(cuda_emu_fiber_start);
  for (int i = 0; i < 6; ++i) *--stack = nullptr;
#else
  uint64_t* stack = reinterpret_cast<uint64_t*>(aligned - 160);
  for (int i = 0; i < 20; ++i) stack[i] = 0;
  stack[11] = reinterpret_cast<uint64_t>(cuda_emu_fiber_start);  // x30, the return address
#endif
  return stack;
}

void enter(Lane& first) {
  become(first);
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&host.asan_stack, first.stack, kStackBytes);
  cuda_emu_switch(&host.stack_pointer, first.stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(host.asan_stack, nullptr, nullptr);
  current = nullptr;
}

void leave_to(Lane* next, bool finished) {
  Lane& self = *current;
  if (next == &self) return;
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(finished ? nullptr : &self.asan_stack, next ? next->stack : host.stack,
                                   next ? kStackBytes : host.stack_bytes);
  if (next) become(*next);
  cuda_emu_switch(&self.stack_pointer, next ? next->stack_pointer : host.stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(self.asan_stack, nullptr, nullptr);
}

void prepare_host_stack() {
  if (!__sanitizer_start_switch_fiber) return;
  pthread_attr_t attributes;
  void* low;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &host.stack_bytes);
  pthread_attr_destroy(&attributes);
  host.stack = low;
}

}  // namespace cuda_emu

extern "C" void cuda_emu_fiber_start() {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
  cuda_emu::device.body->run();
  cuda_emu::finish_lane();
  __builtin_unreachable();
}
