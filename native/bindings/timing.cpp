// Marks in a device's stream, for measurements. They belong to the device: one thread measures at a time.
#include <cxxabi.h>

#include <cstdlib>
#include <future>

#include "bindings/environment.h"

namespace birkhoff {
namespace {

Device& timed_device(const Napi::CallbackInfo& info, const char* function) {
  Device& device = environment(info.Env()).runtime->device(string_argument(info[0], function, "device"));
  device.refuse_recording("time cannot be taken");
  return device;
}

Napi::Value mark_time(const Napi::CallbackInfo& info) {
  Device& device = timed_device(info, "markTime");
  device.submit([&device, name = string_argument(info[1], "markTime", "name")] { device.mark(name); });
  return info.Env().Undefined();
}

// While on, every kernel leaves a mark with its name behind it.
Napi::Value trace_kernels(const Napi::CallbackInfo& info) {
  Device& device = timed_device(info, "traceKernels");
  if (!info[1].IsBoolean()) throw Error(kTypeError, "traceKernels: on is not a boolean");
  const bool on = info[1].As<Napi::Boolean>();
  device.submit([&device, on] {
    std::function<void(const char*)> launched;
    if (on) launched = [&device](const char* kernel) { device.mark(kernel); };
    device.backend.trace(device.backend.context, std::move(launched));
  });
  return info.Env().Undefined();
}

// As in the source: "void birkhoff::cuda::merge_kernel<4, true>(…)" for _ZN….
std::string readable(const std::string& name) {
  if (!name.starts_with("_Z")) return name;  // "a" would be a type
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

// Waits; returns all marks since the last call, each with the milliseconds since the first.
Napi::Value take_marks(const Napi::CallbackInfo& info) {
  Device& device = timed_device(info, "takeMarks");
  std::promise<std::vector<std::pair<std::string, double>>> taken;
  device.submit([&] {
    const std::vector<Mark> marks = std::move(device.marks);
    device.marks.clear();
    try {
      std::vector<std::pair<std::string, double>> times;
      for (const Mark& mark : marks)
        times.emplace_back(mark.name,
                           device.backend.elapsed_ms(device.backend.context, marks[0].event.get(), mark.event.get()));
      taken.set_value(std::move(times));
    } catch (...) {
      taken.set_exception(std::current_exception());
    }
  });
  const auto times = taken.get_future().get();
  Napi::Array list = Napi::Array::New(info.Env(), times.size());
  for (uint32_t i = 0; i < times.size(); ++i) {
    Napi::Object item = Napi::Object::New(info.Env());
    item["name"] = readable(times[i].first);
    item["ms"] = times[i].second;
    list[i] = item;
  }
  return list;
}

}  // namespace

void define_timing(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports[name] = Napi::Function::New(env, function, name);
  };
  add("markTime", with_guard<mark_time>);
  add("traceKernels", with_guard<trace_kernels>);
  add("takeMarks", with_guard<take_marks>);
}

}  // namespace birkhoff
