// Graphs as JavaScript sees them: beginCapture(device), endCapture(device) -> graph, cancelCapture(device);
// graph.launch(), graph.dispose().
#include "core/graph.h"

#include "bindings/environment.h"

namespace birkhoff {
namespace {

class GraphHandle : public Napi::ObjectWrap<GraphHandle> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "GraphHandle",
        {InstanceMethod<&GraphHandle::Launch>("launch"), InstanceMethod<&GraphHandle::Dispose>("dispose")});
  }
  explicit GraphHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GraphHandle>(info) {}

  void Launch(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      if (!graph) throw Error(kDisposedError, "launch: the graph was disposed");
      graph->launch();
    });
  }
  void Dispose(const Napi::CallbackInfo&) { graph.reset(); }

  std::unique_ptr<Graph> graph;
};

Device& device_argument(const Napi::CallbackInfo& info, const char* function) {
  return environment(info.Env()).runtime->device(string_argument(info[0], function, "device"));
}

Napi::Value begin_capture(const Napi::CallbackInfo& info) {
  Recording::begin(environment(info.Env()).runtime, device_argument(info, "beginCapture"));
  return info.Env().Undefined();
}

Napi::Value end_capture(const Napi::CallbackInfo& info) {
  std::unique_ptr<Graph> graph = Recording::finish(device_argument(info, "endCapture"));
  const Napi::Object object = environment(info.Env()).graph_class.New({});
  GraphHandle::Unwrap(object)->graph = std::move(graph);
  return object;
}

Napi::Value cancel_capture(const Napi::CallbackInfo& info) {
  Recording::cancel(device_argument(info, "cancelCapture"));
  return info.Env().Undefined();
}

}  // namespace

void define_graphs(Napi::Env env, Napi::Object exports) {
  environment(env).graph_class = Napi::Persistent(GraphHandle::define(env));
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports[name] = Napi::Function::New(env, function, name);
  };
  add("beginCapture", with_guard<begin_capture>);
  add("endCapture", with_guard<end_capture>);
  add("cancelCapture", with_guard<cancel_capture>);
}

}  // namespace birkhoff
