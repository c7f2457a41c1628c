// Registration, environment set-up and the functions that concern the whole process.
#include <cstring>
#include <thread>

#include "bindings/environment.h"
#include "cpu/backend.h"
#include "cpu/thread_pool.h"
#include "cuda/backend.h"

namespace birkhoff {

Napi::Value make_error(Napi::Env env, const char* code, const std::string& message) {
  const Environment* state = env.GetInstanceData<Environment>();  // null while the addon is being set up
  if (state && !state->error_factory.IsEmpty())
    return state->error_factory.Call({Napi::String::New(env, code), Napi::String::New(env, message)});
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error.Value();
}

int64_t integer_argument(const Napi::Value& value, const char* function, const char* argument) {
  const double number = number_argument(value, function, argument);
  if (!(number >= -static_cast<double>(kMaxSize) && number <= static_cast<double>(kMaxSize)) ||
      number != static_cast<double>(static_cast<int64_t>(number)))
    throw Error(kRangeError, std::string(function) + ": " + argument + " is not an integer within 2^53");
  return static_cast<int64_t>(number);
}

double number_argument(const Napi::Value& value, const char* function, const char* argument) {
  if (!value.IsNumber()) throw Error(kTypeError, std::string(function) + ": " + argument + " is not a number");
  return value.As<Napi::Number>().DoubleValue();
}

std::string string_argument(const Napi::Value& value, const char* function, const char* argument) {
  if (!value.IsString()) throw Error(kTypeError, std::string(function) + ": " + argument + " is not a string");
  return value.As<Napi::String>().Utf8Value();
}

namespace {

Napi::Value set_error_factory(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) throw Error(kTypeError, "setErrorFactory: factory is not a function");
  environment(info.Env()).error_factory = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value devices(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto& entries = environment(env).runtime->entries();
  Napi::Array list = Napi::Array::New(env, entries.size());
  for (uint32_t i = 0; i < entries.size(); ++i) {
    const DeviceDescription& description = entries[i].description;
    Napi::Object item = Napi::Object::New(env);
    item["name"] = description.name;
    item["available"] = Napi::Boolean::New(env, description.reason.empty());
    item["description"] = description.description;
    if (!description.reason.empty()) item["reason"] = description.reason;
    list[i] = item;
  }
  return list;
}

Napi::Value info_of_build(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result["simd"] = cpu::simd_name();
  result["gemm"] = cpu::gemm_name();
  result["gpuGemm"] = cuda::gemm_name();
  result["threads"] = cpu::threads();
  result["cores"] = static_cast<int>(std::thread::hardware_concurrency());
  return result;
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  const int64_t count = integer_argument(info[0], "setThreads", "count");
  require_range("setThreads", "count", count, 1, 256);
  Stream& stream = *environment(info.Env()).runtime->cpu().stream;
  stream.submit([count] { cpu::set_threads(static_cast<int>(count)); });
  return info.Env().Undefined();
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  MemoryStats total;
  environment(info.Env()).runtime->each([&](Device& device) {
    const MemoryStats stats = device.allocator.stats();
    total.tensors += stats.tensors, total.bytes += stats.bytes;
    total.peak_bytes += stats.peak_bytes, total.reserved_bytes += stats.reserved_bytes;
  });
  Napi::Object result = Napi::Object::New(info.Env());
  result["tensors"] = static_cast<double>(total.tensors);
  result["bytes"] = static_cast<double>(total.bytes);
  result["peakBytes"] = static_cast<double>(total.peak_bytes);
  result["reservedBytes"] = static_cast<double>(total.reserved_bytes);
  return result;
}

Napi::Value reset_peak_memory(const Napi::CallbackInfo& info) {
  environment(info.Env()).runtime->each([](Device& device) { device.allocator.reset_peak(); });
  return info.Env().Undefined();
}

Napi::Value set_memory_budget(const Napi::CallbackInfo& info) {
  const int64_t bytes = integer_argument(info[0], "setMemoryBudget", "bytes");
  environment(info.Env()).runtime->set_budget(bytes);
  return info.Env().Undefined();
}

Napi::Value fail_allocation(const Napi::CallbackInfo& info) {
  const int64_t countdown = integer_argument(info[0], "failAllocation", "countdown");
  environment(info.Env()).runtime->each([&](Device& device) { device.allocator.fail_after(countdown); });
  return info.Env().Undefined();
}

// Found in the file's bytes by lib/addon.ts, which must know a stale build without loading it.
__attribute__((used)) const char version_mark[] = "birkhoff-addon-version=" BIRKHOFF_VERSION;

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  guarded(env, [&] { env.SetInstanceData<Environment>(new Environment); });
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports[name] = Napi::Function::New(env, function, name);
  };
  exports["version"] = std::strchr(version_mark, '=') + 1;
  add("setErrorFactory", with_guard<set_error_factory>);
  add("devices", with_guard<devices>);
  add("info", with_guard<info_of_build>);
  add("setThreads", with_guard<set_threads>);
  add("memory", with_guard<memory>);
  add("resetPeakMemory", with_guard<reset_peak_memory>);
  add("setMemoryBudget", with_guard<set_memory_budget>);
  add("failAllocation", with_guard<fail_allocation>);
  define_tensors(env, exports);
  define_ops(env, exports);
  define_timing(env, exports);
  define_graphs(env, exports);
  define_emulator(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(birkhoff, initialise)

}  // namespace birkhoff
