// Every kernel as a JavaScript function: positional arguments in the order of Args::fields, checked, then queued.
#include "bindings/environment.h"
#include "core/graph.h"

namespace birkhoff {
namespace {

// Fills in the lists of an Args struct. Before anything else, because reading an element may call a getter, and that
// may dispose a tensor or change the array.
class UnpackLists {
 public:
  UnpackLists(const Napi::CallbackInfo& info, const char* function) : info_(info), function_(function) {}

  template <class T>
  void operator()(const char*, T&) {
    ++next_;
  }
  void operator()(const char* argument, IntList& list) {
    const Napi::Value value = info_[next_++];
    if (!value.IsArray()) throw Error(kTypeError, std::string(function_) + ": " + argument + " is not an array");
    const auto array = value.As<Napi::Array>();
    list.size = array.Length();
    require_range(function_, argument, list.size, 0, kMaxAxes);
    for (int64_t i = 0; i < list.size; ++i)
      list.values[i] = integer_argument(array.Get(static_cast<uint32_t>(i)), function_, argument);
  }

 private:
  const Napi::CallbackInfo& info_;
  const char* function_;
  size_t next_ = 0;
};

// Fills in the rest, one field after the other. Calls no JavaScript.
class Unpack {
 public:
  Unpack(const Napi::CallbackInfo& info, const char* function) : info_(info), function_(function) {}

  void operator()(const char* argument, View& view) { tensor(argument, view); }
  void operator()(const char* argument, OptionalView& view) {
    if (info_[next_].IsNull() || info_[next_].IsUndefined())
      ++next_;
    else
      tensor(argument, view);
  }
  void operator()(const char* argument, int64_t& value) {
    value = integer_argument(info_[next_++], function_, argument);
  }
  void operator()(const char* argument, double& value) { value = number_argument(info_[next_++], function_, argument); }

  void operator()(const char*, IntList&) { ++next_; }

  Device* device = nullptr;

 private:
  void tensor(const char* argument, View& view) {
    TensorHandle& handle = TensorHandle::from(info_[next_++], function_, argument);
    Device& owner = handle.storage->device;
    if (device && device != &owner)
      throw Error(kDeviceError, std::string(function_) + ": " + argument + " is on " + owner.name +
                                    ", other operands on " + device->name);
    device = &owner;
    if (Recording* const recording = Recording::on(owner)) recording->retain(handle.storage);
    view = handle.view();
  }

  const Napi::CallbackInfo& info_;
  const char* function_;
  size_t next_ = 0;
};

// Temporary memory of one call: an op states how much it wants, and it goes back as soon as the call is queued (stream
// order).
template <class Args>
int64_t scratch_bytes(const Args& args, bool gpu) {
  if (gpu) {
    if constexpr (requires { args.cuda_scratch_bytes(); }) return args.cuda_scratch_bytes();
  } else {
    if constexpr (requires { args.scratch_bytes(); }) return args.scratch_bytes();
  }
  return 0;
}
template <class Args>
std::shared_ptr<Storage> scratch_for(Args& args, Environment& state, Device& device) {
  if constexpr (requires { args.scratch; }) {
    const int64_t bytes = scratch_bytes(args, device.backend.gpu);
    if (bytes == 0) return nullptr;
    auto storage = std::make_shared<Storage>(state.runtime, device, bytes);
    args.scratch = storage->data;
    return storage;
  }
  return nullptr;
}

template <class Args>
Napi::Value call(const Napi::CallbackInfo& info, void (*Kernels::*kernel)(const Args&), const char* name) {
  return guarded(info.Env(), [&] {
    Args args{};
    UnpackLists lists(info, name);
    args.fields(lists);
    Unpack unpack(info, name);
    args.fields(unpack);
    args.check();
    Device& device = *unpack.device;
    const auto function = device.backend.kernels.*kernel;
    if (!function) throw Error(kDeviceError, std::string(name) + ": not available on " + device.name);
    const auto scratch = scratch_for(args, environment(info.Env()), device);
    device.submit([function, args] { function(args); });
    return info.Env().Undefined();
  });
}

}  // namespace

void define_ops(Napi::Env env, Napi::Object exports) {
#define X(kernel, js, Args)                                                                                       \
  exports[#js] = Napi::Function::New(                                                                             \
      env, [](const Napi::CallbackInfo& info) -> Napi::Value { return call<Args>(info, &Kernels::kernel, #js); }, \
      #js);
  BIRKHOFF_KERNELS(X)
#undef X
}

}  // namespace birkhoff
