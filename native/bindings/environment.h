// Per-environment state (main thread or worker), the error guard, and tensors as JavaScript sees them.
#pragma once
#include <napi.h>

#include <memory>
#include <mutex>

#include "core/device.h"
#include "core/error.h"
#include "core/view.h"

namespace birkhoff {

// Where queued reads report back to their environment. The dispatch thread may outlive the environment, so it asks
// first.
struct ReadPort {
  std::mutex mutex;
  napi_threadsafe_function function = nullptr;  // null once the environment is going
};

struct Environment {
  std::shared_ptr<Runtime> runtime = Runtime::get();
  std::shared_ptr<ReadPort> port = std::make_shared<ReadPort>();
  Napi::FunctionReference tensor_class;
  Napi::FunctionReference graph_class;
  Napi::FunctionReference error_factory;
  int pending_reads = 0;

  // Lets the garbage collector see the memory that small JavaScript objects hold, so that it collects forgotten
  // tensors. A training step allocates and frees its activations by hand: told of each, the collector would run every
  // step. So it hears of new maxima only, and of a fall only when most of the memory is gone.
  void report_memory(Napi::BasicEnv env, int64_t change) noexcept {
    live_bytes_ += change;
    if (live_bytes_ <= reported_bytes_ && live_bytes_ >= reported_bytes_ / 4) return;
    const int64_t target = live_bytes_ > reported_bytes_ ? live_bytes_ + live_bytes_ / 4 : live_bytes_;
    Napi::MemoryManagement::AdjustExternalMemory(env, target - reported_bytes_);
    reported_bytes_ = target;
  }

 private:
  int64_t live_bytes_ = 0;
  int64_t reported_bytes_ = 0;
};

inline Environment& environment(Napi::Env env) {
  return *env.GetInstanceData<Environment>();
}

// A JavaScript error for a code; typed by the factory that lib/native.ts installs.
Napi::Value make_error(Napi::Env env, const char* code, const std::string& message);

// The only place where C++ exceptions become JavaScript ones.
template <class F>
auto guarded(Napi::Env env, F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const Error& error) {
    throw Napi::Error(env, make_error(env, error.code(), error.what()));
  } catch (const std::bad_alloc&) {
    throw Napi::Error(env, make_error(env, kOutOfMemoryError, "out of memory"));
  } catch (const std::exception& error) {
    throw Napi::Error(env, make_error(env, "ERR_INTERNAL", error.what()));
  } catch (...) {
    throw Napi::Error(env, make_error(env, "ERR_INTERNAL", "unknown exception"));
  }
}

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value with_guard(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Function(info); });
}

// A reference to storage (or part of it). Created through create_tensor; checked by type tag when it comes back.
class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<Storage> storage, int64_t offset_bytes, int64_t size,
                            DType dtype);
  // Throws a typed error for anything but a live handle.
  static TensorHandle& from(const Napi::Value& value, const char* function, const char* argument);

  explicit TensorHandle(const Napi::CallbackInfo& info);
  ~TensorHandle() override;
  void Dispose(const Napi::CallbackInfo& info);
  View view() const { return {storage->data + offset_bytes, size, dtype}; }

  std::shared_ptr<Storage> storage;  // null after dispose
  int64_t offset_bytes = 0;
  int64_t size = 0;
  DType dtype = DType::kFloat32;

 private:
  Environment* environment_ = nullptr;  // of the thread that owns the handle; outlives it
  void release(Napi::BasicEnv env) noexcept;
};

void define_tensors(Napi::Env env, Napi::Object exports);
void define_ops(Napi::Env env, Napi::Object exports);
void define_timing(Napi::Env env, Napi::Object exports);
void define_graphs(Napi::Env env, Napi::Object exports);
void define_emulator(Napi::Env env, Napi::Object exports);

// Arguments as checked scalars.
int64_t integer_argument(const Napi::Value& value, const char* function, const char* argument);
double number_argument(const Napi::Value& value, const char* function, const char* argument);
std::string string_argument(const Napi::Value& value, const char* function, const char* argument);

}  // namespace birkhoff
