// The controls of an executor build, for tests: the property `emulator`, absent elsewhere.
#include "bindings/environment.h"
#include "cuda/backend.h"

namespace birkhoff {

void define_emulator(Napi::Env env, Napi::Object exports) {
  static const cuda::Emulator* const emulator = cuda::emulator();
  if (!emulator) return;
  Napi::Object object = Napi::Object::New(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    object[name] = Napi::Function::New(env, function, name);
  };
  static constexpr auto argument = [](const Napi::CallbackInfo& info, size_t at) {
    return integer_argument(info[at], "emulator", "argument");
  };
  // order: 0 forward, 1 reverse, 2 random by seed
  add("configure", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&]() -> Napi::Value {
      emulator->configure(static_cast<int>(argument(info, 0)), static_cast<uint64_t>(argument(info, 1)),
                          info[2].ToBoolean(), info[3].ToBoolean());
      return info.Env().Undefined();
    });
  });
  // Whether mma rounds as tensor cores do, or to the nearest float32.
  add("truncateMma", [](const Napi::CallbackInfo& info) -> Napi::Value {
    emulator->truncate_mma(info[0].ToBoolean());
    return info.Env().Undefined();
  });
  // The countdown-th call of the CUDA runtime from now on fails; below 0: none.
  add("failCall", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&]() -> Napi::Value {
      emulator->fail_call(argument(info, 0));
      return info.Env().Undefined();
    });
  });
  add("calls", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(emulator->calls()));
  });
  add("liveAllocations", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(emulator->live_allocations()));
  });
  add("memory", [](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Object bytes = Napi::Object::New(info.Env());
    bytes["allocator"] = static_cast<double>(emulator->reserved_bytes(0));
    bytes["reads"] = static_cast<double>(emulator->reserved_bytes(1));
    bytes["pinned"] = static_cast<double>(emulator->pinned_bytes());
    return bytes;
  });
  add("internalDependencies", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Boolean::New(info.Env(), emulator->internal_dependencies() != 0);
  });
  add("lastReport", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::String::New(info.Env(), emulator->last_report());
  });
  add("reset", [](const Napi::CallbackInfo& info) -> Napi::Value {
    emulator->reset();
    return info.Env().Undefined();
  });
  exports["emulator"] = object;
}

}  // namespace birkhoff
