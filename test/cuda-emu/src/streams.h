// Streams and events. Work runs when it is submitted or, in lazy mode, when somebody waits for it.
#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "state.h"

namespace cuda_emu {

using Action = std::function<void()>;
struct Stream;

struct Graph {
  std::vector<Action> nodes;
  std::vector<void*> freed;  // allocations whose free was captured: they last as long as the graph
  ~Graph();
};

// How many of each stream's captured nodes something comes after.
using Seen = std::map<const Stream*, unsigned>;

struct Capture {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  Stream* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread = std::this_thread::get_id();
  bool invalid = false, ended = false;
};

struct Event {
  uint64_t recorded = 0, reached = 0;
  std::chrono::steady_clock::time_point at;
  std::shared_ptr<Capture> capture;  // of the last record, if that was captured
  Seen seen;
};

struct Operation {
  Action run;
  bool always = false;  // even in a poisoned context: events and frees
  std::shared_ptr<Event> wait;
  uint64_t until = 0;
};

struct Stream {
  std::deque<Operation> queue;
  bool blocking = true;  // with respect to the legacy stream
  unsigned flags = 0;
  int priority = 0;
  std::shared_ptr<Capture> capture;
  Seen seen;  // in a capture
};

constexpr int kLeastPriority = 0, kGreatestPriority = -5;
Stream* stream_of(cudaStream_t handle);
Stream* create_stream(unsigned flags, int priority);
int destroy_stream(Stream* stream);
std::vector<Stream*> members_of(const Capture& capture);
Event& event_of(cudaEvent_t handle);
std::shared_ptr<Event>& shared_event(cudaEvent_t handle);

// Queues or captures an action; in eager mode it runs at once.
int enqueue(Stream* stream, Action action, bool always = false);
int drain_stream(Stream* stream);
int drain_all();
int drain_event(const Event& event);
// Lets one piece of queued work run, so that polling comes to an end.
void step_any();
void drop_queued_work();

// An error, and the end of the capture, where a call is not allowed because a stream is being captured.
int refuse_in_capture(const Stream* stream = nullptr);

}  // namespace cuda_emu
