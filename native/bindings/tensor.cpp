// Tensor handles: creation from typed arrays, views, copies and reads.
#include <cstring>
#include <future>
#include <vector>

#include "bindings/environment.h"
#include "core/graph.h"

namespace birkhoff {
namespace {

constexpr napi_type_tag kTensorTag = {0x6269726b686f6666ULL, 0x74656e736f723031ULL};

int64_t element_bytes(DType dtype) {
  return dtype_bytes(dtype);
}

DType dtype_argument(const Napi::Value& value, const char* function) {
  const int64_t code = integer_argument(value, function, "dtype");
  require_range(function, "dtype", code, 0, 2);
  return static_cast<DType>(code);
}

// A read that the device fills and the environment's thread delivers.
struct Read {
  Napi::Promise::Deferred deferred;
  std::vector<char> bytes;
  DType dtype;
  bool bits;
  std::exception_ptr error;
};

// bfloat16 widens to float32 unless the raw bits are wanted.
Napi::Value to_typed_array(Napi::Env env, const char* bytes, size_t length, DType dtype, bool bits) {
  if (dtype == DType::kInt32) {
    auto array = Napi::Int32Array::New(env, length / 4);
    if (length) std::memcpy(array.Data(), bytes, length);
    return array;
  }
  if (dtype == DType::kFloat32) {
    auto array = Napi::Float32Array::New(env, length / 4);
    if (length) std::memcpy(array.Data(), bytes, length);
    return array;
  }
  if (bits) {
    auto array = Napi::Uint16Array::New(env, length / 2);
    if (length) std::memcpy(array.Data(), bytes, length);
    return array;
  }
  auto array = Napi::Float32Array::New(env, length / 2);
  for (size_t i = 0; i < length / 2; ++i) {
    bfloat16 value;
    std::memcpy(&value, bytes + 2 * i, 2);
    array[i] = to_float(value);
  }
  return array;
}

Napi::Value error_value(Napi::Env env, std::exception_ptr error) {
  try {
    guarded(env, [&]() -> void { std::rethrow_exception(error); });
  } catch (const Napi::Error& wrapped) {
    return wrapped.Value();
  }
  return env.Undefined();
}

// Runs on the environment's thread for each finished read; env is null when the environment is going.
void deliver(napi_env raw, napi_value, void* context, void* data) {
  const std::unique_ptr<Read> read(static_cast<Read*>(data));
  if (!raw) return;
  Environment& state = *static_cast<Environment*>(context);
  if (--state.pending_reads == 0) napi_unref_threadsafe_function(raw, state.port->function);
  try {
    Napi::Env env(raw);
    Napi::HandleScope scope(env);
    try {
      if (read->error)
        read->deferred.Reject(error_value(env, read->error));
      else
        read->deferred.Resolve(to_typed_array(env, read->bytes.data(), read->bytes.size(), read->dtype, read->bits));
    } catch (const Napi::Error& error) {
      read->deferred.Reject(error.Value());
    }
  } catch (...) {
    // The worker is being terminated: nobody is left to hear of it, and an exception must not leave a C callback.
  }
}

// Queued work: the first error so far, or the bytes, to `done`. A GPU is waited for also where there are no bytes.
void copy_out(Device& device, const char* source, std::vector<char>& target, const Completion& done) {
  std::exception_ptr error = device.stream->take_error();
  try {
    if (!error && (!target.empty() || device.backend.gpu)) {
      device.backend.copy_to_host(device.backend.context, target.data(), source, target.size(), done);
      return;
    }
  } catch (...) {
    error = std::current_exception();
  }
  done(error);
}

// Waits for `size` bytes at `source`; throws the first error of queued work.
std::vector<char> read_now(Device& device, const char* source, int64_t size) {
  device.refuse_recording("a tensor cannot be read");
  std::vector<char> bytes(static_cast<size_t>(size));
  std::promise<void> arrived;
  device.submit([&] {
    copy_out(device, source, bytes,
             [&](std::exception_ptr error) { error ? arrived.set_exception(error) : arrived.set_value(); });
  });
  arrived.get_future().get();
  return bytes;
}

// Queues a read of `bytes` at `source` (none: only waits) and returns its promise.
Napi::Value queue_read(Napi::Env env, Device& device, const char* source, int64_t bytes, DType dtype, bool bits) {
  device.refuse_recording("a tensor cannot be read");
  Environment& state = environment(env);
  // Shared, so that it goes with the work also where the queue is dropped.
  const auto read = std::make_shared<Read>(
      Read{Napi::Promise::Deferred::New(env), std::vector<char>(static_cast<size_t>(bytes)), dtype, bits, nullptr});
  const Napi::Promise promise = read->deferred.Promise();
  if (state.pending_reads++ == 0) napi_ref_threadsafe_function(env, state.port->function);
  // From whichever thread is done with it.
  const Completion deliver_it = [read, port = state.port](std::exception_ptr error) {
    read->error = error;
    std::lock_guard lock(port->mutex);
    if (!port->function) return;
    auto finished = std::make_unique<Read>(std::move(*read));
    if (napi_call_threadsafe_function(port->function, finished.get(), napi_tsfn_nonblocking) == napi_ok)
      finished.release();
  };
  device.stream->submit([read, source, deliver_it, &device] { copy_out(device, source, read->bytes, deliver_it); });
  return promise;
}

Napi::Value tensor_empty(const Napi::CallbackInfo& info) {
  Environment& state = environment(info.Env());
  Device& device = state.runtime->device(string_argument(info[0], "tensorEmpty", "device"));
  const DType dtype = dtype_argument(info[1], "tensorEmpty");
  const int64_t size = integer_argument(info[2], "tensorEmpty", "size");
  const int64_t bytes = checked_product({size, element_bytes(dtype)});
  return TensorHandle::create(info.Env(), std::make_shared<Storage>(state.runtime, device, bytes), 0, size, dtype);
}

// The bytes that a typed array becomes as a tensor, copied: JavaScript may change or detach the array later.
std::vector<char> staged_bytes(const Napi::Value& data, DType dtype, const char* function) {
  const auto fail = [&](const char* code, const char* what) { throw Error(code, std::string(function) + ": " + what); };
  if (!data.IsTypedArray()) fail(kTypeError, "data is not a typed array");
  const auto array = data.As<Napi::TypedArray>();
  // A SharedArrayBuffer may change under the copy; the element kinds below are the only ones with a meaning.
  if (!array.ArrayBuffer().IsArrayBuffer()) fail(kTypeError, "data is on a SharedArrayBuffer");
  if (array.ArrayBuffer().IsDetached()) fail(kTypeError, "data's buffer is detached");
  const napi_typedarray_type kind = array.TypedArrayType();
  const bool widens = kind == napi_float32_array && dtype == DType::kBFloat16;
  const bool matches = (kind == napi_float32_array && dtype == DType::kFloat32) ||
                       (kind == napi_int32_array && dtype == DType::kInt32) ||
                       (kind == napi_uint16_array && dtype == DType::kBFloat16);
  if (!matches && !widens) fail(kDTypeError, "this kind of typed array does not hold the dtype");
  const size_t size = array.ElementLength();
  std::vector<char> staged(size * static_cast<size_t>(element_bytes(dtype)));
  const char* source = size ? static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset() : nullptr;
  if (widens) {
    for (size_t i = 0; i < size; ++i) {
      float value;
      std::memcpy(&value, source + 4 * i, 4);
      const bfloat16 rounded = to_bfloat16(value);
      std::memcpy(staged.data() + 2 * i, &rounded, 2);
    }
  } else if (size) {
    std::memcpy(staged.data(), source, staged.size());
  }
  return staged;
}

Napi::Value tensor_from(const Napi::CallbackInfo& info) {
  Environment& state = environment(info.Env());
  Device& device = state.runtime->device(string_argument(info[0], "tensorFrom", "device"));
  const DType dtype = dtype_argument(info[1], "tensorFrom");
  std::vector<char> staged = staged_bytes(info[2], dtype, "tensorFrom");
  const auto bytes = static_cast<int64_t>(staged.size());
  const Recording::Outside outside;
  auto storage = std::make_shared<Storage>(state.runtime, device, bytes);
  device.submit_copy(storage->data, std::move(staged));
  return TensorHandle::create(info.Env(), std::move(storage), 0, bytes / element_bytes(dtype), dtype);
}

// Queues an overwrite of all elements. While a graph is recorded, what belongs to the step alone must be written
// outside.
Napi::Value tensor_write(const Napi::CallbackInfo& info) {
  TensorHandle& target = TensorHandle::from(info[0], "tensorWrite", "target");
  std::vector<char> staged = staged_bytes(info[1], target.dtype, "tensorWrite");
  if (static_cast<int64_t>(staged.size()) != target.size * element_bytes(target.dtype))
    throw Error(kShapeError, "tensorWrite: data has " + std::to_string(staged.size() / element_bytes(target.dtype)) +
                                 " elements, want " + std::to_string(target.size));
  Device& device = target.storage->device;
  device.refuse_recording("tensorWrite: a tensor cannot be written from the host");
  device.submit_copy(static_cast<char*>(target.view().data), std::move(staged));
  return info.Env().Undefined();
}

Napi::Value tensor_view(const Napi::CallbackInfo& info) {
  TensorHandle& source = TensorHandle::from(info[0], "tensorView", "source");
  const int64_t offset = integer_argument(info[1], "tensorView", "offset");
  const int64_t size = integer_argument(info[2], "tensorView", "size");
  require_range("tensorView", "offset", offset, 0, source.size);
  require_range("tensorView", "size", size, 0, source.size - offset);
  return TensorHandle::create(info.Env(), source.storage, source.offset_bytes + offset * element_bytes(source.dtype),
                              size, source.dtype);
}

Napi::Value tensor_copy(const Napi::CallbackInfo& info) {
  Environment& state = environment(info.Env());
  TensorHandle& source = TensorHandle::from(info[0], "tensorCopy", "source");
  Device& from = source.storage->device;
  Device& to = state.runtime->device(string_argument(info[1], "tensorCopy", "device"));
  const int64_t bytes = source.size * element_bytes(source.dtype);
  if (&from == &to) {
    auto storage = std::make_shared<Storage>(state.runtime, to, bytes);
    if (Recording* const recording = Recording::on(from)) recording->retain(source.storage);
    StridedCopyArgs args{.source = source.view(),
                         .target = {storage->data, source.size, source.dtype},
                         .shape = {{source.size}, 1},
                         .source_strides = {{1}, 1},
                         .source_offset = 0,
                         .target_strides = {{1}, 1},
                         .target_offset = 0};
    from.submit([args, copy = from.backend.kernels.strided_copy] { copy(args); });
    return TensorHandle::create(info.Env(), std::move(storage), 0, source.size, source.dtype);
  }
  std::vector<char> staged = read_now(from, static_cast<const char*>(source.view().data), bytes);
  const Recording::Outside outside;
  auto storage = std::make_shared<Storage>(state.runtime, to, bytes);
  to.submit_copy(storage->data, std::move(staged));
  return TensorHandle::create(info.Env(), std::move(storage), 0, source.size, source.dtype);
}

Napi::Value tensor_read(const Napi::CallbackInfo& info) {
  TensorHandle& source = TensorHandle::from(info[0], "tensorRead", "source");
  return queue_read(info.Env(), source.storage->device, static_cast<const char*>(source.view().data),
                    source.size * element_bytes(source.dtype), source.dtype, info[1].ToBoolean());
}

Napi::Value tensor_read_sync(const Napi::CallbackInfo& info) {
  TensorHandle& source = TensorHandle::from(info[0], "tensorReadSync", "source");
  Device& device = source.storage->device;
  const std::vector<char> bytes =
      read_now(device, static_cast<const char*>(source.view().data), source.size * element_bytes(source.dtype));
  return to_typed_array(info.Env(), bytes.data(), bytes.size(), source.dtype, info[1].ToBoolean());
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  Environment& state = environment(info.Env());
  Device& device = state.runtime->device(string_argument(info[0], "synchronize", "device"));
  return queue_read(info.Env(), device, nullptr, 0, DType::kFloat32, false);
}

}  // namespace

Napi::Function TensorHandle::define(Napi::Env env) {
  return DefineClass(env, "TensorHandle", {InstanceMethod<&TensorHandle::Dispose>("dispose")});
}

TensorHandle::TensorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TensorHandle>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTensorTag);
}

TensorHandle::~TensorHandle() {
  release(Env());
}

Napi::Value TensorHandle::create(Napi::Env env, std::shared_ptr<Storage> storage, int64_t offset_bytes, int64_t size,
                                 DType dtype) {
  const Napi::Object object = environment(env).tensor_class.New({});
  TensorHandle& handle = *Unwrap(object);
  handle.storage = std::move(storage);
  handle.offset_bytes = offset_bytes;
  handle.size = size;
  handle.dtype = dtype;
  handle.storage->device.allocator.count_tensors(1);
  handle.environment_ = &environment(env);
  handle.environment_->report_memory(env, size * element_bytes(dtype));
  return object;
}

TensorHandle& TensorHandle::from(const Napi::Value& value, const char* function, const char* argument) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTensorTag))
    throw Error(kTypeError, std::string(function) + ": " + argument + " is not a tensor handle");
  TensorHandle& handle = *Unwrap(value.As<Napi::Object>());
  if (!handle.storage) throw Error(kDisposedError, std::string(function) + ": " + argument + " was disposed");
  return handle;
}

void TensorHandle::Dispose(const Napi::CallbackInfo& info) {
  release(info.Env());
}

void TensorHandle::release(Napi::BasicEnv env) noexcept {
  if (!storage) return;
  environment_->report_memory(env, -size * element_bytes(dtype));
  storage->device.allocator.count_tensors(-1);
  storage.reset();
}

void define_tensors(Napi::Env env, Napi::Object exports) {
  Environment& state = environment(env);
  state.tensor_class = Napi::Persistent(TensorHandle::define(env));
  const napi_value name = Napi::String::New(env, "birkhoff.read");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, &state, deliver,
                                      &state.port->function) != napi_ok)
    throw Napi::Error::New(env, "birkhoff: cannot create the read port");
  napi_unref_threadsafe_function(env, state.port->function);  // idle reads do not keep the process alive
  // Runs before the function itself is torn down: hooks run in reverse order of registration.
  env.AddCleanupHook(
      [](ReadPort* port) {
        std::lock_guard lock(port->mutex);
        port->function = nullptr;
      },
      state.port.get());
  const auto add = [&](const char* function_name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports[function_name] = Napi::Function::New(env, function, function_name);
  };
  add("tensorEmpty", with_guard<tensor_empty>);
  add("tensorFrom", with_guard<tensor_from>);
  add("tensorWrite", with_guard<tensor_write>);
  add("tensorView", with_guard<tensor_view>);
  add("tensorCopy", with_guard<tensor_copy>);
  add("tensorRead", with_guard<tensor_read>);
  add("tensorReadSync", with_guard<tensor_read_sync>);
  add("synchronize", with_guard<synchronize>);
}

}  // namespace birkhoff
